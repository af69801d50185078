;; Calls itself for ever. The counter after the call, and an end that never comes, keep an optimizing
;; compiler from making a loop of it.
(module
  (memory (export "memory") 1)
  (func $recurse (param i64) (result i64)
    (local $deeper i64)
    (if (i32.load (i32.const 0)) (then (return (local.get 0))))
    (local.set $deeper (call $recurse (i64.add (local.get 0) (i64.const 1))))
    (i64.store (i32.const 8) (i64.add (i64.load (i32.const 8)) (i64.const 1)))
    (i64.add (local.get 0) (local.get $deeper)))
  (func (export "_start") (drop (call $recurse (i64.const 0)))))
