"""Worker threads for service effects: in order within a lane, side by side between lanes."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeAlias

Job: TypeAlias = Callable[[], None]


class LanesPort(Protocol):
    """Where service effects are carried out."""

    def submit(self, lane: str, job: Job, /) -> None:
        """Run the job after all earlier ones of its lane."""

    def close(self) -> None:
        """Take no more jobs."""


class Lanes:
    """Runs jobs on a bounded pool, those of one lane one after the other."""

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="effect")
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[Job]] = {}

    def submit(self, lane: str, job: Job) -> None:
        """Run the job after all earlier ones of its lane."""
        with self._lock:
            waiting = self._waiting.get(lane)
            if waiting is not None:
                waiting.append(job)
                return
            self._waiting[lane] = deque()
        self._pool.submit(self._run, lane, job)

    def _run(self, lane: str, job: Job) -> None:
        try:
            job()
        finally:
            self._next(lane)

    def _next(self, lane: str) -> None:
        with self._lock:
            waiting = self._waiting[lane]
            if not waiting:
                del self._waiting[lane]
                return
            job = waiting.popleft()
        self._pool.submit(self._run, lane, job)

    def close(self) -> None:
        """Take no more jobs; those that wait are dropped, the journal still has them."""
        self._pool.shutdown(wait=False, cancel_futures=True)
