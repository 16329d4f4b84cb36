"""What a guest prints: kept within its limit, searched for progress."""

import json
import math
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, Final

TAIL_BYTES: Final = 4000
MAX_PROGRESS_BYTES: Final = 16_384
MAX_PROGRESS_DEPTH: Final = 64

OnProgress = Callable[[dict[str, Any]], None]
OnOutput = Callable[[str, bytes], None]


class Output(AbstractContextManager["Output"]):
    """Keeps what a guest prints, within the limit, and picks progress out of it."""

    def __init__(
        self,
        stdout: Path,
        limit: int,
        on_progress: OnProgress | None = None,
        on_output: OnOutput | None = None,
    ) -> None:
        """Open the file that gets standard output.

        Args:
            stdout: The file.
            limit: Bytes of standard output, and of standard error.
            on_progress: Gets each JSON object on a line of its own.
            on_output: Gets the chunks of both streams as they come.
        """
        self.limit = limit
        self.sizes = {"stdout": 0, "stderr": 0}
        self._file: BinaryIO = stdout.open("wb")
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._line = b""
        self._on_progress = on_progress
        self._on_output = on_output

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def take(self, stream: str, chunk: bytes) -> str | None:
        """Keep a chunk; the answer is the reason to kill the guest, if there is one."""
        self.sizes[stream] += len(chunk)
        if self.sizes[stream] > self.limit:
            return stream
        if self._on_output is not None:
            self._on_output(stream, chunk)
        if stream == "stderr":
            self._keep_tail(chunk)
            return None
        self._file.write(chunk)
        if self._on_progress is not None:
            self._find_progress(chunk)
        return None

    def tail(self) -> str:
        """Return the last of standard error."""
        return b"".join(self._tail)[-TAIL_BYTES:].decode(errors="replace").strip()

    def _keep_tail(self, chunk: bytes) -> None:
        self._tail.append(chunk[-TAIL_BYTES:])
        self._tail_size += len(self._tail[-1])
        while self._tail_size - len(self._tail[0]) >= TAIL_BYTES:
            self._tail_size -= len(self._tail.popleft())

    def _find_progress(self, chunk: bytes) -> None:
        assert self._on_progress is not None
        *lines, rest = (self._line + chunk).split(b"\n")
        # The head of an overlong line is enough to know that the line is no progress.
        self._line = rest[: MAX_PROGRESS_BYTES + 1]
        for line in lines:
            progress = read_progress(line)
            if progress is not None:
                self._on_progress(progress)


def read_progress(line: bytes) -> dict[str, Any] | None:
    """Return the JSON object of a line of standard output; None for any other line."""
    line = line.strip()
    if not line.startswith(b"{") or len(line) > MAX_PROGRESS_BYTES:
        return None
    try:
        found = json.loads(line, parse_constant=_no_number, parse_float=_finite)
        json.dumps(found, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and _depth(found) <= MAX_PROGRESS_DEPTH else None


def _depth(found: Any) -> int:
    level, depth = [found], 0
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        level = [
            inner for each in level for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return depth


def _no_number(name: str) -> float:
    raise ValueError(name)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number
