;; Writes 10 MiB to standard output: lines of 16 bytes, each its own number in 15 hexadecimal digits. A write that
;; takes only a part is continued where it stopped, so a reader that misses a byte has lost it after this guest.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 3)
  (global $lines i32 (i32.const 655360))       ;; 10 MiB / 16
  (global $chunk_lines i32 (i32.const 4096))   ;; one chunk is 64 KiB
  (global $buffer i32 (i32.const 65536))

  ;; Writes the digits of $number and a newline at $where.
  (func $line (param $where i32) (param $number i32)
    (local $place i32) (local $digit i32)
    (local.set $place (i32.const 14))
    (loop $digits
      (local.set $digit (i32.and (local.get $number) (i32.const 15)))
      (i32.store8 (i32.add (local.get $where) (local.get $place))
        (i32.add (local.get $digit)
          (select (i32.const 87) (i32.const 48) (i32.gt_u (local.get $digit) (i32.const 9)))))
      (local.set $number (i32.shr_u (local.get $number) (i32.const 4)))
      (local.set $place (i32.sub (local.get $place) (i32.const 1)))
      (br_if $digits (i32.ge_s (local.get $place) (i32.const 0))))
    (i32.store8 offset=15 (local.get $where) (i32.const 10)))

  ;; Writes $length bytes at $where, however many calls that takes.
  (func $write_all (param $where i32) (param $length i32)
    (local $written i32)
    (loop $rest
      (i32.store (i32.const 0) (local.get $where))
      (i32.store (i32.const 4) (local.get $length))
      (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
        (then unreachable))
      (local.set $written (i32.load (i32.const 8)))
      (local.set $where (i32.add (local.get $where) (local.get $written)))
      (local.set $length (i32.sub (local.get $length) (local.get $written)))
      (br_if $rest (local.get $length))))

  (func (export "_start")
    (local $number i32) (local $in_chunk i32)
    (loop $chunks
      (local.set $in_chunk (i32.const 0))
      (loop $fill
        (call $line
          (i32.add (global.get $buffer) (i32.mul (local.get $in_chunk) (i32.const 16)))
          (i32.add (local.get $number) (local.get $in_chunk)))
        (local.set $in_chunk (i32.add (local.get $in_chunk) (i32.const 1)))
        (br_if $fill (i32.lt_u (local.get $in_chunk) (global.get $chunk_lines))))
      (call $write_all (global.get $buffer) (i32.mul (global.get $chunk_lines) (i32.const 16)))
      (local.set $number (i32.add (local.get $number) (global.get $chunk_lines)))
      (br_if $chunks (i32.lt_u (local.get $number) (global.get $lines))))))
