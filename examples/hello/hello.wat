;; The smallest guest with an output: it writes one line to standard output.
(module
  ;; WASI's write. Parameters: descriptor, address of the list of buffers, number of buffers, address
  ;; for the number of written bytes.
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))

  (memory (export "memory") 1)
  (data (i32.const 16) "hello from WebAssembly\n")

  (func (export "_start")
    ;; One buffer: 23 bytes from address 16.
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 23))
    ;; A failed write traps, so that the guest does not exit with success.
    (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
      (then unreachable))))
