;; A component, the other binary format of WebAssembly, around a core module.
(component
  (core module $inner
    (func (export "answer") (result i32) (i32.const 42)))
  (core instance $instance (instantiate $inner))
  (func (export "answer") (result u32)
    (canon lift (core func $instance "answer"))))
