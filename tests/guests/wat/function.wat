;; Has two functions that can be started: `_start` and `greet` print different lines.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "start\ngreet\n")
  (func $print (param $where i32)
    (i32.store (i32.const 0) (local.get $where))
    (i32.store (i32.const 4) (i32.const 6))
    (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
      (then unreachable)))
  (func (export "_start") (call $print (i32.const 16)))
  (func (export "greet") (call $print (i32.const 22))))
