"""A broker's folder: made once, then changed user by user while the broker runs.

`users.json` and `site.json` are the truth; password files, ACL and configuration are generated
from them. One process at a time changes them. Mosquitto reads passwords, ACL and certificates
again at SIGHUP: who was added may connect, who was taken away is disconnected, and nobody else
notices (ADR 0015).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from roost.cli.errors import CliError, UsageProblem
from roost.cli.security.configuration import secured_config
from roost.cli.security.files import locked, private_folder, write_private
from roost.cli.security.invitations import Invitations
from roost.cli.security.site import Site, SitePaths
from roost.cli.security.trust import ensure_certificates
from roost.cli.security.users import Role, User, Users, hash_password, new_password
from roost.manager.bindings import BindingsInvalid, load
from roost.specs.acl import FORWARDER, MANAGER, OPERATOR, SERVICES, mosquitto_acl
from roost.specs.workloads import WorkloadTopics, topics_of

__all__ = ["BrokerFolder", "running_pid"]


_PASSWORD = "ROOST_PASSWORD"  # noqa: S105 - the name of a variable


class BrokerFolder:
    """The folder of a broker that devices reach.

    Attributes:
        paths: Its files.
    """

    def __init__(self, root: Path) -> None:
        self.paths = SitePaths(root.absolute())

    @property
    def exists(self) -> bool:
        """Whether it was ever set up."""
        return self.paths.site.exists()

    def site(self) -> Site:
        """What it is generated from.

        Raises:
            UsageProblem: it was never set up.
            CliError: the file is damaged.
        """
        try:
            return Site.parse(self.paths.site.read_text())
        except FileNotFoundError:
            raise UsageProblem(
                f"{self.paths.root} is no broker's folder: make it one with `roost broker setup`"
            ) from None

    def users(self) -> Users:
        """Who may connect.

        Raises:
            CliError: the file is damaged.
        """
        try:
            return Users.parse(self.paths.users.read_text())
        except FileNotFoundError:
            return Users()

    def prepare(self, site: Site) -> None:
        """Make the folders."""
        private_folder(self.paths.root, passable=site.run_as is not None)
        private_folder(self.paths.store, owner=site.run_as)
        private_folder(self.paths.invites)

    def setup(self, site: Site, now: datetime) -> None:
        """Write everything; certificates and users that are there already stay.

        Args:
            site: What it shall be generated from.
            now: For the validity of certificates.

        Raises:
            UsageProblem: the workload bindings cannot be read.
        """
        workloads = _topics(site)
        self.prepare(site)
        with locked(self.paths.root):
            ensure_certificates(self.paths, site, now)
            write_private(self.paths.site, site.dump())
            users = self._with_everyone(site)
            write_private(self.paths.users, users.dump())
            write_private(self.paths.config, secured_config(site, self.paths), owner=site.run_as)
            self._write_rights(site, users, workloads)
        self.reload()

    @contextmanager
    def changing(self) -> Iterator[Callable[[Users], None]]:
        """Let nobody else change users meanwhile; call what is yielded with the new ones.

        Raises:
            UsageProblem: it was never set up, or the workload bindings cannot be read.
        """
        site = self.site()
        workloads = _topics(site)

        def store(users: Users) -> None:
            write_private(self.paths.users, users.dump())
            self._write_rights(site, users, workloads)
            self.reload()

        with locked(self.paths.root):
            yield store

    def add(self, name: str, role: Role, password: str) -> None:
        """Let somebody connect from now on.

        Raises:
            UsageProblem: the name is taken or is none.
        """
        with self.changing() as store:
            store(self.users().adding(User(name, role, hash_password(password))))

    def remove(self, name: str) -> None:
        """Let a user connect no longer, invited again or not; its connection ends."""
        with self.changing() as store:
            store(self.users().without(name))
            Invitations(self.paths.invites).withdraw(name)
            for kind in ("people", "services"):
                self.paths.settings(kind, name).unlink(missing_ok=True)

    def reload(self) -> bool:
        """Let a running mosquitto read again what changed; False if none runs on this folder.

        Raises:
            CliError: it belongs to another user.
        """
        pid = running_pid(self.paths)
        if pid is None:
            return False
        try:
            os.kill(pid, signal.SIGHUP)
        except PermissionError:
            raise CliError(
                f"mosquitto (pid {pid}) belongs to another user: `sudo kill -HUP {pid}` lets it "
                "read what changed"
            ) from None
        return True

    def write_environment(self, kind: str, name: str, settings: dict[str, str]) -> Path:
        """Keep settings with a password in a file that only its owner may read."""
        file = self.paths.settings(kind, name)
        private_folder(file.parent)
        write_private(file, "".join(f"{key}={value}\n" for key, value in settings.items()))
        return file

    def read_environment(self, kind: str, name: str) -> dict[str, str]:
        """Settings that were written for one who connects."""
        lines = self.paths.settings(kind, name).read_text().splitlines()
        return {key: value for key, _, value in (line.partition("=") for line in lines)}

    def environment(self, name: str, password: str, url: str) -> dict[str, str]:
        """Settings of one who connects from this machine, or takes `ca.pem` along."""
        site = self.site()
        found = {"ROOST_BROKER": url, "ROOST_USERNAME": name, _PASSWORD: password}
        if url.startswith("mqtts:"):
            found["ROOST_CA_FILE"] = str(self.paths.authority)
        if site.prefix:
            found["ROOST_TOPIC_PREFIX"] = site.prefix
        return found

    def _with_everyone(self, site: Site) -> Users:
        """Who is there, and the services and the first operator; all their settings anew."""
        users, passwords = self.users(), dict[str, str]()
        for name in (*SERVICES, OPERATOR):
            known = _password_in(self._settings_of(name)) if name in users.by_name else None
            passwords[name] = known or new_password()
            if known is None:
                role = Role.OPERATOR if name == OPERATOR else Role.SERVICE
                user = User(name, role, hash_password(passwords[name]))
                users = users.without(name).adding(user)
        for name, password in passwords.items():
            url = site.people_url if name == OPERATOR else site.service_url
            settings = self.environment(name, password, url)
            if name == MANAGER:  # one process with two connections
                settings["ROOST_FORWARDER_USERNAME"] = FORWARDER
                settings["ROOST_FORWARDER_PASSWORD"] = passwords[FORWARDER]
            self.write_environment(self._settings_of(name).parent.name, name, settings)
        return users

    def local_devices(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """Let proplets of this machine connect; their settings by name.

        Raises:
            UsageProblem: somebody else has such a name.
        """
        site, found = self.site(), dict[str, dict[str, str]]()
        with self.changing() as store:
            users = self.users()
            for name in names:
                password = _password_in(self.paths.settings("services", name))
                if name in users.by_name and password is None:
                    raise UsageProblem(
                        f"{name} is a board that has joined, or a user: revoke it, or run fewer "
                        "--proplets here"
                    )
                if name not in users.by_name or password is None:
                    password = new_password()
                    users = users.adding(User(name, Role.DEVICE, hash_password(password)))
                found[name] = self.environment(name, password, site.service_url)
                self.write_environment("services", name, found[name])
            store(users)
        return found

    def _settings_of(self, name: str) -> Path:
        return self.paths.settings("people" if name == OPERATOR else "services", name)

    def _write_rights(self, site: Site, users: Users, workloads: WorkloadTopics) -> None:
        everyone = tuple(Role)
        listeners = {
            "everyone": everyone,
            "devices": (Role.SERVICE, Role.DEVICE, Role.VIEWER),
            "people": (Role.OPERATOR,),
        }
        for name, roles in listeners.items():
            text = users.password_file(*roles)
            write_private(self.paths.passwords(name), text, owner=site.run_as)
        acl = mosquitto_acl(
            workloads,
            prefix=site.prefix,
            proplets=users.named(Role.DEVICE),
            operators=users.named(Role.OPERATOR),
            viewers=users.named(Role.VIEWER),
            anonymous=site.loopback_port is not None,
        )
        write_private(self.paths.acl, acl, owner=site.run_as)


def running_pid(paths: SitePaths) -> int | None:
    """The mosquitto that runs on this folder's configuration, or None.

    A pid file outlives a killed process: what has that pid now may be anything.
    """
    try:
        pid = int(paths.pid.read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if os.fsencode(paths.config) in words else None


def _password_in(file: Path) -> str | None:
    """The password in a file of settings, or None."""
    lines = file.read_text().splitlines() if file.exists() else []
    mark = f"{_PASSWORD}="
    return next((line.removeprefix(mark) for line in lines if line.startswith(mark)), None)


def _topics(site: Site) -> WorkloadTopics:
    try:
        return topics_of(load(Path(site.workloads)))
    except BindingsInvalid as problem:
        raise UsageProblem(
            f"rights follow from the workload bindings, and those are refused:\n{problem}"
        ) from problem
