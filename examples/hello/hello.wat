;; The smallest program that says something: it writes one line to standard output.
(module
  ;; WASI's write: which file, where the list of buffers is, how many there are, where to put the number of bytes written.
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))

  (memory (export "memory") 1)
  (data (i32.const 16) "hello from WebAssembly\n")

  (func (export "_start")
    ;; One buffer: 23 bytes from address 16.
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 23))
    ;; A guest that cannot write its line fails, instead of ending as if it had.
    (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
      (then unreachable))))
