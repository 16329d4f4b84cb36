"""Every way in which a guest ends has its own name, and the next guest runs."""

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from roost.proplet.guest import Stopper
from roost.protocol.task.messages import FailureReason
from wasmtime import wat2wasm

from . import guests
from .conftest import RunGuest


def test_a_guest_that_prints_succeeds(run: RunGuest, tmp_path: Path) -> None:
    """What it prints is kept, and its usage is told (GUEST-020)."""
    outcome = run(guests.say("hello\n"))
    assert outcome.reason is None
    assert outcome.exit_code == 0
    assert (tmp_path / "stdout").read_text() == "hello\n"
    assert outcome.usage.wall_s is not None
    assert outcome.usage.cpu_s is not None
    assert outcome.usage.memory_mb is not None
    assert 5 < outcome.usage.memory_mb < 60
    assert outcome.usage.out_bytes == 0


def test_exit_zero_is_success(run: RunGuest) -> None:
    """An explicit exit(0), which the engine reports as an error, is one."""
    assert run(guests.build(guests.leave(0))).reason is None


def test_a_nonzero_exit_is_told_with_stderr(run: RunGuest) -> None:
    """The exit code and the tail of standard error arrive (TASK-040, GUEST-020)."""
    outcome = run(guests.say("no such file\n", fd=2, then=guests.leave(3)))
    assert outcome.reason is FailureReason.EXIT_CODE
    assert outcome.exit_code == 3
    assert outcome.stderr_tail == "no such file"
    assert "3" in outcome.message


def test_only_the_tail_of_stderr_is_kept(run: RunGuest) -> None:
    """However much there was, the last 4 KB remain (GUEST-024)."""
    text = "x" * 5000 + "the cause"
    outcome = run(guests.say(text, fd=2, then=guests.leave(1)))
    assert len(outcome.stderr_tail) == 4000
    assert outcome.stderr_tail.endswith("the cause")


def test_a_trap_is_named(run: RunGuest) -> None:
    """The kind of trap is in the message (TASK-040)."""
    outcome = run(guests.TRAPS)
    assert outcome.reason is FailureReason.TRAP
    assert "unreachable" in outcome.message


def test_an_endless_recursion_traps(run: RunGuest) -> None:
    """The guest's stack is bounded."""
    outcome = run(wat2wasm('(module (func $f (export "_start") (call $f) (call $f)))'))
    assert outcome.reason is FailureReason.TRAP
    assert "stack overflow" in outcome.message


@pytest.mark.parametrize("guest", [guests.LOOPS, guests.SLEEPS], ids=["loops", "sleeps"])
def test_time_is_limited(run: RunGuest, guest: bytes) -> None:
    """A guest that computes and one that sleeps are both killed (TASK-040, GUEST-030)."""
    outcome = run(guest, wall_s=0.3)
    assert outcome.reason is FailureReason.TIME_LIMIT
    assert outcome.usage.wall_s is not None
    assert 0.3 <= outcome.usage.wall_s < 2


@pytest.mark.parametrize("fd", [1, 2], ids=["stdout", "stderr"])
def test_printing_is_limited(run: RunGuest, tmp_path: Path, fd: int) -> None:
    """A flood on either stream ends the guest, and never fills the disk (TASK-040)."""
    outcome = run(guests.floods(fd), stdout_mb=1, wall_s=30)
    assert outcome.reason is FailureReason.STDOUT_LIMIT
    assert ("stdout", "stderr")[fd - 1] in outcome.message
    assert (tmp_path / "stdout").stat().st_size <= 1024**2


@pytest.mark.parametrize(
    "guest",
    [
        guests.fills_out(),
        guests.fills_out(then=guests.leave(9)),
        guests.fills_out(then=guests.leave(0)),
        guests.fills_out(then="unreachable"),
        guests.fills_out(then=guests.SLEEP),
    ],
    ids=["goes on", "fails", "succeeds", "traps", "sleeps"],
)
def test_out_is_limited(run: RunGuest, tmp_path: Path, guest: bytes) -> None:
    """Whatever a guest does about a full ``/out``, that is what its failure is called.

    Proves TASK-040.
    """
    outcome = run(guest, out_mb=1, wall_s=30)
    assert outcome.reason is FailureReason.OUTPUT_LIMIT
    assert (tmp_path / "out/big").stat().st_size <= 1024**2 + 1


def test_nesting_is_limited(run: RunGuest, tmp_path: Path) -> None:
    """Folders deeper than any path limit end the guest and can be removed."""
    outcome = run(guests.nests(5000), wall_s=30)
    assert outcome.reason is FailureReason.OUTPUT_LIMIT
    assert "nested" in outcome.message
    assert run(guests.NOTHING).reason is None
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("then", ["unreachable", guests.leave(1)], ids=["traps", "exits"])
def test_refused_memory_is_the_failure(run: RunGuest, then: str) -> None:
    """A guest that fails because memory was refused fails by ``memory_limit`` (TASK-040)."""
    outcome = run(guests.grows(1000, then), memory_mb=4)
    assert outcome.reason is FailureReason.MEMORY_LIMIT
    assert "62.6 MiB" in outcome.message


def test_memory_that_is_granted_can_be_used(run: RunGuest) -> None:
    """Growth within the limit works, and the new pages are zero and writable."""
    body = """
      (call $need (i32.eq (memory.grow (i32.const 60)) (i32.const 2)) (i32.const 50))
      (call $need (i32.eqz (i32.load (i32.const 4063228))) (i32.const 51))
      (i32.store (i32.const 4063228) (i32.const 7))
      (call $need (i32.eq (i32.load (i32.const 4063228)) (i32.const 7)) (i32.const 52))
      (call $need (i32.eq (memory.size) (i32.const 62)) (i32.const 53))
      (call $need (i32.eq (memory.grow (i32.const 3)) (i32.const -1)) (i32.const 54))
      (call $need (i32.eq (memory.grow (i32.const 2)) (i32.const 62)) (i32.const 55))
    """
    assert run(guests.build(body), memory_mb=4).reason is None


def test_a_guest_may_live_with_refused_memory(run: RunGuest) -> None:
    """Refused growth alone is no failure."""
    assert run(guests.grows(1000, guests.leave(0)), memory_mb=4).reason is None


def test_a_failure_of_its_own_stays_its_own(run: RunGuest) -> None:
    """A guest whose memory was not refused is not said to lack memory."""
    outcome = run(guests.build("(drop (memory.grow (i32.const 10))) unreachable"))
    assert outcome.reason is FailureReason.TRAP


def test_starting_with_too_much_memory_is_refused(run: RunGuest) -> None:
    """A minimum above the limit is the same failure."""
    outcome = run(guests.build("", pages=100), memory_mb=4)
    assert outcome.reason is FailureReason.MEMORY_LIMIT


_GROW = "(if (i32.eq (memory.grow (i32.const {pages})) (i32.const -1)) (then unreachable))"


@pytest.mark.parametrize(
    ("module", "reason", "said"),
    [
        ("(memory 40) (memory 40)", "memory_limit", "5.0 MiB"),
        ("(memory i64 1)", "memory_limit", "62.6 MiB"),
        ("(memory 1 60000 shared)", "image_refused", "shared"),
        ("(memory 1 2)", "trap", "unreachable"),  # the module's own maximum
        ("(memory 1) (table 100000000 funcref)", "image_refused", "table"),
    ],
)
def test_memory_of_every_kind_is_limited(
    run: RunGuest, module: str, reason: str, said: str
) -> None:
    """Several memories, 64-bit ones, shared ones, tables."""
    grow = _GROW.format(pages=1000)
    if "i64" in module:
        grow = grow.replace("i32", "i64")
    wasm = wat2wasm(f'(module {module} (func (export "_start") {grow}))')
    outcome = run(wasm, memory_mb=4)
    assert outcome.reason is FailureReason(reason)
    assert said in outcome.message


@pytest.mark.parametrize(
    ("memories", "body", "traps"),
    [
        ("(memory $a 20) (memory $b 20)", """(i32.store $b (i32.const 100) (i32.const 4))
          (if (i32.load $a (i32.const 100)) (then unreachable))""", False),
        ("(memory 0)", """(drop (memory.grow (i32.const 1)))
          (i32.store (i32.const 65532) (i32.const 1))""", False),
        ("(memory 0)", "(i32.store (i32.const 0) (i32.const 1))", True),
        ("(memory i64 1)", "(drop (i64.load (i64.const 0x7000000000000)))", True),
        ("(memory 2)", "(memory.fill (i32.const 131071) (i32.const 1) (i32.const 2))", True),
        ("(memory 2)", "(memory.fill (i32.const 131071) (i32.const 1) (i32.const 1))", False),
    ],
)  # fmt: skip
def test_memory_is_where_it_should_be(
    run: RunGuest, memories: str, body: str, *, traps: bool
) -> None:
    """Memories are apart, end where they end, and begin empty where they are."""
    wasm = wat2wasm(f'(module {memories} (func (export "_start") {body}))')
    assert run(wasm, memory_mb=4).reason is (FailureReason.TRAP if traps else None)


def test_all_of_32_bit_memory_can_be_had(run: RunGuest) -> None:
    """Four GiB of address space cost nothing until they are used."""
    body = "(i32.store (i32.const -4) (i32.const 1))"
    wasm = wat2wasm(
        f'(module (memory 1) (func (export "_start") {_GROW.format(pages=65535)} {body}))'
    )
    outcome = run(wasm, memory_mb=4096)
    assert outcome.reason is None
    assert outcome.usage.memory_mb is not None
    assert outcome.usage.memory_mb < 60


def test_an_address_out_of_bounds_traps(run: RunGuest) -> None:
    """The reservation around linear memory is not accessible."""
    outcome = run(guests.build("(drop (i32.load (i32.const -4)))"))
    assert outcome.reason is FailureReason.TRAP
    assert "out of bounds" in outcome.message


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (b"\0asm\x0d\0\x01\0rest", "component"),
        (b"\0asm\x02\0\0\0", "unknown version"),
        (b"#!/bin/sh\n", "no Wasm file"),
        (b"", "no Wasm file"),
        (b"(module)", "no Wasm file"),
        (b"\0asm\x01\0\0\0garbage", "does not compile"),
        (wat2wasm("(module)"), "_start"),
        (wat2wasm('(module (global (export "_start") i32 (i32.const 0)))'), "_start"),
        (wat2wasm('(module (import "env" "x" (func)) (func (export "_start")))'), "env.x"),
        (
            wat2wasm(
                '(module (import "wasi_snapshot_preview1" "x" (func)) (func (export "_start")))'
            ),
            "unknown import",
        ),
    ],
)
def test_an_image_that_is_none_is_refused(run: RunGuest, image: bytes, said: str) -> None:
    """What cannot run is refused with the reason, before anything of it runs (GUEST-001)."""
    outcome = run(image)
    assert outcome.reason is FailureReason.IMAGE_REFUSED
    assert said in outcome.message


def test_the_next_guest_runs_after_every_failure(run: RunGuest, tmp_path: Path) -> None:
    """``/out`` is fresh for each run (GUEST-030)."""
    assert run(guests.writes("update", "old", then="unreachable")).reason is FailureReason.TRAP
    assert (tmp_path / "out/update").read_text() == "old"
    outcome = run(guests.writes("other", "new"))
    assert outcome.reason is None
    assert outcome.usage.out_bytes == 3
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["other"]


def test_inputs_and_mounts_are_readable(run: RunGuest, tmp_path: Path) -> None:
    """``/in`` and ``/data/<name>`` show what the run names (GUEST-010)."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x").write_text("input")
    (tmp_path / "attic").mkdir()
    (tmp_path / "attic/x").write_text("private")
    where = {"inputs": tmp_path / "in", "mounts": {"attic": tmp_path / "attic"}}
    assert run(guests.copies(4, "x"), **where).reason is None
    assert (tmp_path / "stdout").read_text() == "input"
    assert run(guests.copies(5, "x"), **where).reason is None
    assert (tmp_path / "stdout").read_text() == "private"


@pytest.mark.parametrize("fd", [4, 5], ids=["in", "mount"])
def test_inputs_and_mounts_are_read_only(run: RunGuest, tmp_path: Path, fd: int) -> None:
    """Nothing can be created there (GUEST-010)."""
    (tmp_path / "in").mkdir()
    (tmp_path / "attic").mkdir()
    where = {"inputs": tmp_path / "in", "mounts": {"attic": tmp_path / "attic"}}
    assert run(guests.intrudes(fd), **where).reason is None
    assert list((tmp_path / "in").iterdir()) == list((tmp_path / "attic").iterdir()) == []


@pytest.mark.parametrize("name", ["../secret", "../../etc/passwd", "/etc/passwd"])
def test_nothing_else_is_reachable(run: RunGuest, tmp_path: Path, name: str) -> None:
    """Paths out of a folder are refused (GUEST-010)."""
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_text("secret")
    outcome = run(guests.copies(4, name), inputs=tmp_path / "in")
    assert outcome.exit_code == 41


def test_args_and_env_are_as_given(run: RunGuest, tmp_path: Path) -> None:
    """The guest gets these and nothing of the proplet's own environment (GUEST-010)."""
    wasm = wat2wasm("""(module
      (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_n (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "environ_get" (func $env (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "environ_sizes_get"
        (func $env_n (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_write"
        (func $w (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func $print (param $size i32)
        (i32.store (i32.const 8) (i32.const 4096)) (i32.store (i32.const 12) (local.get $size))
        (drop (call $w (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16))))
      (func (export "_start")
        (drop (call $args_n (i32.const 0) (i32.const 4)))
        (drop (call $args (i32.const 1024) (i32.const 4096)))
        (call $print (i32.load (i32.const 4)))
        (drop (call $env_n (i32.const 0) (i32.const 4)))
        (drop (call $env (i32.const 1024) (i32.const 4096)))
        (call $print (i32.load (i32.const 4)))))""")
    run(wasm, program="app", args=("a b", "ü"), env={"KEY": "värde", "EMPTY": ""})
    assert (tmp_path / "stdout").read_bytes().decode() == "app\0a b\0ü\0KEY=värde\0EMPTY=\0"


def test_a_nul_character_is_told(run: RunGuest) -> None:
    """It would silently cut an argument short."""
    outcome = run(guests.NOTHING, args=("a\0b",))
    assert outcome.reason is FailureReason.INTERNAL
    assert "NUL" in outcome.message


def test_progress_arrives_while_the_guest_runs(run: RunGuest) -> None:
    """A JSON line is heard of before the guest ends: here it would sleep for an hour.

    Proves GUEST-023, GUEST-025.
    """
    stopper = Stopper()
    heard: list[dict[str, Any]] = []

    def on_progress(progress: dict[str, Any]) -> None:
        heard.append(progress)
        stopper.stop()

    outcome = run(
        guests.say('plain\n{"done": 0.5}\n', then=guests.SLEEP),
        stopper=stopper,
        on_progress=on_progress,
        wall_s=60,
    )
    assert outcome.stopped
    assert outcome.reason is None
    assert heard == [{"done": 0.5}]


@pytest.mark.parametrize(
    "line", ["[1]", "{", '{"a": NaN}', '{"a": 1e999}', '{"a": ' * 3000, "{}x", "x" * 20_000]
)
def test_other_lines_are_no_progress(run: RunGuest, line: str) -> None:
    """What is no JSON object of finite numbers is left alone (GUEST-023)."""
    heard: list[dict[str, Any]] = []
    assert run(guests.say(line + "\n"), on_progress=heard.append).reason is None
    assert heard == []


def test_output_can_be_followed(run: RunGuest) -> None:
    """Chunks of both streams are passed on as they come."""
    chunks: list[tuple[str, bytes]] = []
    run(guests.say("seen", fd=2), on_output=lambda stream, chunk: chunks.append((stream, chunk)))
    assert chunks == [("stderr", b"seen")]


def test_a_stop_before_the_start_holds(run: RunGuest) -> None:
    """A guest that was stopped before it ran does not run."""
    stopper = Stopper()
    stopper.stop()
    assert run(guests.build("(loop (br 0)) (drop (i32.const 9))"), stopper=stopper).stopped


def test_a_stop_from_another_thread_ends_a_sleeper(run: RunGuest) -> None:
    """It takes milliseconds, not until the next look."""
    stopper = Stopper()
    timer = threading.Timer(0.2, stopper.stop)
    timer.start()
    assert run(guests.SLEEPS, stopper=stopper, wall_s=60).stopped
    timer.join()


_PARENT = """
import sys, threading
from pathlib import Path
from roost.proplet.guest import GuestRun, ModuleCache, run_guest
folder = Path(sys.argv[1])
run = GuestRun(image=folder / "guest.wasm", out=folder / "out", stdout=folder / "stdout")
run_guest(run, ModuleCache(folder), on_output=lambda *_: print("begun", flush=True))
"""


def test_the_guest_dies_with_its_parent(tmp_path: Path) -> None:
    """Killing the proplet with ``kill -9`` leaves no guest behind (GUEST-030)."""
    (tmp_path / "guest.wasm").write_bytes(guests.say("x", then="(loop (br 0))"))
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "begun\n"
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    assert len(children) == 1
    guest = os.pidfd_open(int(children[0]))
    parent.send_signal(signal.SIGKILL)
    parent.wait(10)
    parent.stdout.close()
    os.set_blocking(guest, False)
    _await_end(guest)


def _await_end(pidfd: int) -> None:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    assert poller.poll(10_000), "the guest outlived its parent"
    os.close(pidfd)


def _children() -> set[int]:
    """This thread's children; a fixture of another test may have some that are still running."""
    own = f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children"
    return {int(child) for child in Path(own).read_text().split()}


def test_a_worker_that_dies_is_told_from_a_guest_that_fails(run: RunGuest) -> None:
    """A kill from outside, as by the kernel for want of memory, is no exit code."""
    others = _children()

    def kill(_stream: str, _chunk: bytes) -> None:
        (worker,) = _children() - others
        os.kill(worker, signal.SIGKILL)

    outcome = run(guests.say("x", then=guests.SLEEP), on_output=kill, wall_s=60)
    assert outcome.reason is FailureReason.INTERNAL
    assert "-9" in outcome.message
