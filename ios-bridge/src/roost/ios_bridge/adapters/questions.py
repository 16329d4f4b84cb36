"""Questions that come over HTTP and are answered by the core, in its own time."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any, Final

from roost.ios_bridge.core.effects import Answer

PATIENCE_S: Final = 10.0


class Questions:
    """Hands a question to the core, and the core's answer to who asked."""

    def __init__(self, post: Callable[[Any], None], nonce: str) -> None:
        """Ask a core.

        Args:
            post: Hands an event to it, from any thread.
            nonce: Text that no earlier process had: answers to its questions are nobody's.
        """
        self._post, self._nonce, self._count = post, nonce, itertools.count(1)
        self._open: dict[str, tuple[asyncio.AbstractEventLoop, asyncio.Future[Answer]]] = {}

    async def ask(self, event: Callable[[str], Any]) -> Answer:
        """Return the core's answer to the event that this function makes of a request's name.

        Raises:
            TimeoutError: the core is busy, or ends.
        """
        loop = asyncio.get_running_loop()
        request = f"{self._nonce}-{next(self._count)}"
        future = loop.create_future()
        self._open[request] = (loop, future)
        try:
            self._post(event(request))
            return await asyncio.wait_for(future, PATIENCE_S)
        finally:
            del self._open[request]

    def answer(self, effect: Answer) -> None:
        """Tell who asked; a question of an earlier process, or a stale one, is nobody's."""
        waiting = self._open.get(effect.request)
        if waiting is not None:
            loop, future = waiting
            loop.call_soon_threadsafe(_resolve, future, effect)


def _resolve(future: "asyncio.Future[Answer]", effect: Answer) -> None:
    if not future.done():
        future.set_result(effect)
