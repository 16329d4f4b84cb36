"""TCP ports of this machine: a free one, and who holds a taken one.

Linux keeps the listeners in /proc/net/tcp and tcp6 (proc(5)): the local address in hex, the state
(0A is LISTEN), the owner's uid and the socket's inode. The process is the one with that inode
among its open files.
"""

from __future__ import annotations

import pwd
import socket
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Holder", "free_port", "holder_of", "is_open", "wait_open"]

_LISTEN = "0A"
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Holder:
    """Who listens on a port.

    Attributes:
        pid: the process, or None where this user may not look.
        command: its command line, or an empty string.
        user: the login name of its owner.
    """

    pid: int | None
    command: str
    user: str

    def __str__(self) -> str:
        if self.pid is None:
            return f"a process of user {self.user}"
        return f"pid {self.pid} of user {self.user}: {self.command}"


def free_port() -> int:
    """A loopback port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        return int(probe.getsockname()[1])


def is_open(host: str, port: int, timeout_s: float = 0.5) -> bool:
    """Whether something accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=timeout_s):
            return True
    except OSError:
        return False


def wait_open(host: str, port: int, timeout_s: float) -> bool:
    """Wait until something accepts connections there; False if nothing did in time."""
    deadline = time.monotonic() + timeout_s
    while not is_open(host, port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def holder_of(port: int, proc: Path = Path("/proc")) -> Holder | None:
    """Who listens on `port` on any local address; None if nobody, or no /proc here."""
    for table in ("tcp", "tcp6"):
        for inode, uid in _listeners(proc / "net" / table, port):
            pid = _pid_of(inode, proc)
            command = _command_of(pid, proc) if pid is not None else ""
            return Holder(pid, command, _user_name(uid))
    return None


def _listeners(table: Path, port: int) -> list[tuple[str, int]]:
    """(socket inode, uid) of each listener on `port`."""
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return []
    found = []
    for line in lines:
        fields = line.split()
        if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
            found.append((fields[9], int(fields[7])))
    return found


def _pid_of(inode: str, proc: Path) -> int | None:
    wanted = f"socket:[{inode}]"
    for process in proc.iterdir():
        if not process.name.isdigit():
            continue
        try:
            if any(str(fd.readlink()) == wanted for fd in (process / "fd").iterdir()):
                return int(process.name)
        except OSError:  # another user's process, or one that has just ended
            continue
    return None


def _command_of(pid: int, proc: Path) -> str:
    try:
        raw = (proc / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ""
    return raw.replace(b"\0", b" ").decode(errors="replace").strip()


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
