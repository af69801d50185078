;; Imports a function that no runtime has.
(module
  (import "nowhere" "nothing" (func $nothing))
  (memory (export "memory") 1)
  (func (export "_start") (call $nothing)))
