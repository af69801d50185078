;; The hello guest with a custom section of the name under which WasmEdge keeps native code. Its bytes are junk:
;; a runtime that executes or even parses them fails, one that ignores a guest's own section prints the line.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "hello from wasm\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 16))
    (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
      (then unreachable)))
  (@custom "wasmedge" "\02\01\01 this is no native code \ff\fe\00\00\cc\cc"))
