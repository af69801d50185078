;; Grows its memory to 256 MiB in steps of 1 MiB and writes to every page. Prints "grown" when it has all of it; when
;; a step is refused it prints "refused" and exits with code 1.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 16)
  (data (i32.const 16) "grown\nrefused\n")

  (func $print (param $where i32) (param $length i32)
    (i32.store (i32.const 0) (local.get $where))
    (i32.store (i32.const 4) (local.get $length))
    (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
      (then unreachable)))

  ;; Writes to the 16 pages from page number $page on.
  (func $touch (param $page i32)
    (local $end i32)
    (local.set $end (i32.add (local.get $page) (i32.const 16)))
    (loop $pages
      (i32.store8 (i32.shl (local.get $page) (i32.const 16)) (i32.const 1))
      (local.set $page (i32.add (local.get $page) (i32.const 1)))
      (br_if $pages (i32.lt_u (local.get $page) (local.get $end)))))

  (func (export "_start")
    (local $before i32)
    (loop $steps
      (local.set $before (memory.grow (i32.const 16)))
      (if (i32.eq (local.get $before) (i32.const -1))
        (then
          (call $print (i32.const 22) (i32.const 8))
          (call $proc_exit (i32.const 1))))
      (call $touch (local.get $before))
      (br_if $steps (i32.lt_u (memory.size) (i32.const 4096))))
    (call $print (i32.const 16) (i32.const 6))))
