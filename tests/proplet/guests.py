"""Small guests in WebAssembly text, one for each way to behave and to misbehave.

Memory: 0 … 15 an iovec and a result, 64 … 127 a poll subscription, 1024 … the text.
Descriptors: 1 stdout, 2 stderr, 3 ``/out``, 4 ``/in``, 5 … the mounts in their order.
"""

from wasmtime import wat2wasm

_IMPORTS = """
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink"
    (func $path_symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_create_directory"
    (func $mkdir (param i32 i32 i32) (result i32)))
"""
_HELPERS = """
  (func $write (param $fd i32) (param $at i32) (param $size i32) (result i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $size))
    (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
  (func $read (param $fd i32) (param $at i32) (param $size i32) (result i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $size))
    (drop (call $fd_read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
    (i32.load (i32.const 8)))
  (func $open (param $dir i32) (param $at i32) (param $size i32) (param $flags i32)
    (param $rights i64) (result i32)
    (if (call $path_open (local.get $dir) (i32.const 0) (local.get $at) (local.get $size)
          (local.get $flags) (local.get $rights) (i64.const 0x1fffffff)
          (i32.const 0) (i32.const 12))
      (then (return (i32.const -1))))
    (i32.load (i32.const 12)))
  (func $need (param $ok i32) (param $code i32)
    (if (i32.eqz (local.get $ok)) (then (call $proc_exit (local.get $code)))))
"""
READ, WRITE = "(i64.const 2)", "(i64.const 64)"
CREATE = "(i32.const 1)"


def build(body: str, text: str = "", pages: int = 2) -> bytes:
    """Return a module whose ``_start`` is the body; ``text`` lies at 1024."""
    data = "".join(f"\\{byte:02x}" for byte in text.encode())
    return bytes(
        wat2wasm(
            f'(module {_IMPORTS} (memory (export "memory") {pages}) '
            f'(data (i32.const 1024) "{data}") {_HELPERS} (func (export "_start") {body}))'
        )
    )


def say(text: str, fd: int = 1, then: str = "") -> bytes:
    """Print a text, then do something else."""
    size = len(text.encode())
    return build(
        f"(drop (call $write (i32.const {fd}) (i32.const 1024) (i32.const {size}))) {then}", text
    )


def leave(code: int) -> str:
    """Exit with a code."""
    return f"(call $proc_exit (i32.const {code}))"


SLEEP = """
  (i32.store (i32.const 80) (i32.const 1))
  (i64.store (i32.const 88) (i64.const 3600000000000))
  (drop (call $poll (i32.const 64) (i32.const 160) (i32.const 1) (i32.const 12)))
"""
SLEEPS = build(SLEEP)
LOOPS = build("(loop (br 0))")
TRAPS = build("unreachable")
NOTHING = build("")


def writes(name: str, text: str, then: str = "") -> bytes:
    """Write a file of ``/out``, then do something else."""
    size, content = len(name), len(text.encode())
    return build(
        f"""(local $fd i32)
        (local.set $fd (call $open (i32.const 3) (i32.const 1024) (i32.const {size})
          {CREATE} {WRITE}))
        (call $need (i32.ge_s (local.get $fd) (i32.const 0)) (i32.const 40))
        (drop (call $write (local.get $fd) (i32.const {1024 + size}) (i32.const {content})))
        {then}""",
        name + text,
    )


def floods(fd: int) -> bytes:
    """Write to a descriptor for ever, errors or not."""
    return build(
        f"(loop (drop (call $write (i32.const {fd}) (i32.const 0) (i32.const 131072))) (br 0))"
    )


def fills_out(then: str = "(br 1)") -> bytes:
    """Write ``/out/big`` until it is refused, then do something else (default: go on)."""
    return build(
        f"""(local $fd i32)
        (local.set $fd (call $open (i32.const 3) (i32.const 1024) (i32.const 3)
          {CREATE} {WRITE}))
        (loop
          (if (call $write (local.get $fd) (i32.const 0) (i32.const 131072)) (then {then}))
          (br 0))""",
        "big",
    )


def copies(dir_fd: int, name: str) -> bytes:
    """Print a file of a folder; exit with 41 if it cannot be opened."""
    return build(
        f"""(local $fd i32)
        (local.set $fd (call $open (i32.const {dir_fd}) (i32.const 1024) (i32.const {len(name)})
          (i32.const 0) {READ}))
        (call $need (i32.ge_s (local.get $fd) (i32.const 0)) (i32.const 41))
        (drop (call $write (i32.const 1) (i32.const 2048)
          (call $read (local.get $fd) (i32.const 2048) (i32.const 4096))))""",
        name,
    )


def intrudes(dir_fd: int, name: str = "new") -> bytes:
    """Try to create a file in a folder; exit with 42 if that worked."""
    return build(
        f"""(call $need (i32.lt_s (call $open (i32.const {dir_fd}) (i32.const 1024)
          (i32.const {len(name)}) {CREATE} {WRITE}) (i32.const 0)) (i32.const 42))""",
        name,
    )


def links(target: str, name: str) -> bytes:
    """Leave a link of that name in ``/out``, and print the result code as a digit."""
    return build(
        f"""(drop (call $path_symlink (i32.const 1024) (i32.const {len(target)}) (i32.const 3)
          (i32.const {1024 + len(target)}) (i32.const {len(name)})))""",
        target + name,
    )


def nests(depth: int) -> bytes:
    """Nest folders below ``/out``."""
    return build(
        f"""(local $fd i32) (local $n i32)
        (local.set $fd (i32.const 3))
        (loop
          (drop (call $mkdir (local.get $fd) (i32.const 1024) (i32.const 1)))
          (local.set $fd (call $open (local.get $fd) (i32.const 1024) (i32.const 1)
            (i32.const 2) (i64.const 0x6200)))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if 0 (i32.lt_s (local.get $n) (i32.const {depth}))))""",
        "d",
    )


def grows(pages: int, then: str) -> bytes:
    """Ask for pages of memory; if they are refused, do something else."""
    return build(f"(if (i32.eq (memory.grow (i32.const {pages})) (i32.const -1)) (then {then}))")
