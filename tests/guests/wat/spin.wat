;; Never ends and never calls its host: only a signal from outside stops it.
(module
  (memory (export "memory") 1)
  (func (export "_start") (loop $again (br $again))))
