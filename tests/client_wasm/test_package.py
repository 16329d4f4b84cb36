"""The package carries the guest that its C files build."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from roost import client_wasm

ROOT = Path(__file__).resolve().parents[2]


def test_the_guest_is_a_module_and_the_digest_is_its_own() -> None:
    """The file has the magic of a core module, and its recorded SHA-256."""
    content = client_wasm.guest_path().read_bytes()
    assert content[:8] == b"\0asm\x01\0\0\0"
    assert client_wasm.guest_digest() == hashlib.sha256(content).hexdigest()


def test_a_damaged_guest_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file other than the recorded one is not handed out."""
    copy = tmp_path / "fl-client.wasm"
    copy.write_bytes(client_wasm.guest_path().read_bytes() + b"\0")
    shutil.copy(client_wasm.guest_path().with_name("fl-client.wasm.sha256"), tmp_path)
    monkeypatch.setattr(client_wasm, "guest_path", lambda: copy)
    with pytest.raises(client_wasm.GuestDamagedError, match="install roost-client-wasm again"):
        client_wasm.guest_digest()


@pytest.mark.slow
def test_the_guest_builds_byte_for_byte_elsewhere(tmp_path: Path) -> None:
    """A copy of the sources in another folder builds exactly the checked-in guest."""
    pytest.importorskip("ziglang", reason="the C compiler is in the dependency group `guest`")
    copy = tmp_path / "a folder" / "client-wasm"
    shutil.copytree(ROOT / "client-wasm", copy)
    shutil.copy(ROOT / "pyproject.toml", copy.parent)
    done = subprocess.run(
        [sys.executable, copy / "build.py", "--output", tmp_path / "again.wasm"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again.wasm").read_bytes() == client_wasm.guest_path().read_bytes()
