"""The training guest as a file, and what it must compute as NumPy.

The guest, `fl-client.wasm`, is a WASI preview 1 command; the folder's README.md is its contract.
`roost.client_wasm.reference` computes the same updates in NumPy, for tests and for whoever wants to
check a round.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["GuestDamagedError", "guest_digest", "guest_path"]


class GuestDamagedError(Exception):
    """The installed guest is not the one that was released; install the package again."""


def guest_path() -> Path:
    """Where the guest lies, a `wasm32-wasi` module of about 100 KB."""
    return Path(__file__).with_name("fl-client.wasm")


def guest_digest() -> str:
    """SHA-256 of the guest, 64 hexadecimal digits, checked against the file itself.

    Raises:
        GuestDamagedError: the file's bytes are not those of the recorded digest.
    """
    path = guest_path()
    recorded = path.with_name(path.name + ".sha256").read_text(encoding="ascii").split()[0]
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != recorded:
        message = f"{path} has digest {found}, not {recorded}; install roost-client-wasm again"
        raise GuestDamagedError(message)
    return recorded
