;; Calls itself for ever.
(module
  (memory (export "memory") 1)
  (func $recurse (param i64) (result i64)
    (i64.add (local.get 0) (call $recurse (i64.add (local.get 0) (i64.const 1)))))
  (func (export "_start") (drop (call $recurse (i64.const 0)))))
