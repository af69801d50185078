;; Waits for a day, in as few bytes as possible.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 16) (i32.const 1))                      ;; of the subscription (its kind is 0): the monotonic clock,
    (i64.store (i32.const 24) (i64.const 86_400_000_000_000))     ;; so many nanoseconds from now
    (if (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128))
      (then unreachable))))
