"""The program of a worker process: compile one module, or run one guest, say how it ended, exit.

The job comes on standard input, marshalled by the parent, which runs the same interpreter. The
news go, a Python literal a line, to a pipe of their own (``{"news": "ready"}``, then one
``{"news": "end", ...}``), so that nothing a guest prints and no exit status of Python's can be
taken for an outcome. See ``roost.proplet.guest`` for the parent.

Standard modules are imported sparingly: ``json`` or ``typing`` alone would cost each task 5 ms.
"""

from __future__ import annotations

import ctypes
import marshal
import os
import resource
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PR_SET_PDEATHSIG = 1
_SIGKILL = 9
_MESSAGE_CHARS = 2000


def main() -> None:
    """Do the job on standard input; ``argv``: parent's process id, number of the news pipe."""
    parent, news = int(sys.argv[1]), int(sys.argv[2])
    die_with(parent)
    job = marshal.load(sys.stdin.buffer)  # noqa: S302 - from the parent
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        end = do(job, news)
    except OSError as error:  # a full disk and its like: no fault of the program
        end = {"kind": "device", "message": f"{type(error).__name__}: {error}"[:_MESSAGE_CHARS]}
    except Exception as error:  # noqa: BLE001 - whatever it was, the parent has to hear of it
        end = {"kind": "error", "message": f"{type(error).__name__}: {error}"[:_MESSAGE_CHARS]}
    tell(news, {"news": "end", **end})
    os._exit(0)  # nothing is left to clean up, and the engine's destructors take their time


def do(job: dict[str, Any], news: int) -> dict[str, Any]:
    """Compile or run; the answer says how it ended."""
    if job["do"] == "compile":
        from roost.proplet.worker.compiler import compile_module  # noqa: PLC0415 - costs 70 ms

        return compile_module(job)
    from roost.proplet.worker.runner import run  # noqa: PLC0415 - the compiler does not need it

    return run(job, lambda: tell(news, {"news": "ready"}))


def die_with(parent: int) -> None:
    """Let the kernel kill this process when the proplet ends, however it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel was asked
        os._exit(1)


def tell(pipe: int, news: dict[str, Any]) -> None:
    """Write one line of news."""
    os.write(pipe, repr(news).encode() + b"\n")
