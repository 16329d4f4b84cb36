"""The durable side of a service: states, outbox, timers and retained copies in one SQLite file.

Everything that one turn of the runner changes is committed in one transaction. Journal mode WAL
with ``synchronous=FULL``: what was committed survives the loss of power.
"""

import contextlib
import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from pydantic import TypeAdapter, ValidationError
from roost.chassis.core import Key
from roost.chassis.effects import Publish
from roost.chassis.errors import StateDamaged, StateNewer

SCHEMA_VERSION: Final = 2
_SCHEMA: Final = """
CREATE TABLE entities (kind TEXT, id TEXT, body BLOB NOT NULL, PRIMARY KEY (kind, id));
CREATE TABLE outbox (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, body BLOB NOT NULL, payload BLOB);
CREATE TABLE timers (key TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE retained (
    topic TEXT PRIMARY KEY, body BLOB NOT NULL, payload BLOB NOT NULL, expires_at REAL
);
CREATE TABLE set_aside (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, event TEXT NOT NULL, error TEXT NOT NULL
);
"""
_STEPS: Final = {
    # Effects whose shape has changed, and that follow from the next connection by themselves.
    1: "DELETE FROM outbox WHERE kind IN ('Acknowledge', 'Refresh');",
}
"""What makes a file of each older version one of the next."""
_SET_ASIDE_KEPT: Final = 1000
_PUBLISH: Final = "Publish"
_ADAPTERS: Final[dict[type[Any], TypeAdapter[Any]]] = {}


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """One committed effect that is not done yet."""

    id: int
    effect: Any


class Store:
    """One service's durable state. Used by one thread at a time.

    Attributes:
        folder: Where its file lies.
    """

    def __init__(
        self, path: Path, kinds: Mapping[str, type[Any]], effects: Iterable[type[Any]]
    ) -> None:
        """Open or create the file.

        Raises:
            StateNewer: a newer Roost wrote it.
            StateDamaged: it cannot be read.
        """
        self._path = path
        self.folder = path.parent
        self._states = {kind: _adapter(type_) for kind, type_ in kinds.items()}
        self._effects = {type_.__name__: _adapter(type_) for type_ in effects}
        with self._reading():
            self._db = self._connect(path)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            (found,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(found)
            self._migrate(path)

    @staticmethod
    def _connect(path: Path) -> sqlite3.Connection:
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Say in words what is wrong with the file."""
        try:
            yield
        except sqlite3.OperationalError:
            raise  # the disk is full, or not there: that is not the file's fault
        except (sqlite3.DatabaseError, ValidationError, KeyError, ValueError) as error:
            why = str(error).splitlines()[0][:200]
            raise StateDamaged(
                f"{self._path} cannot be read ({why}): put a copy of the state folder in its "
                "place; or, to begin anew without all that this service remembers, move "
                f"{self._path.name}* away"
            ) from error

    def _migrate(self, path: Path) -> None:
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found > SCHEMA_VERSION:
            self._db.close()
            raise StateNewer(
                f"{path} has schema {found}, this Roost knows {SCHEMA_VERSION}: "
                "update Roost, or choose another state folder"
            )
        if found == 0:
            self._advance(_SCHEMA, SCHEMA_VERSION)
            return
        for version in range(found, SCHEMA_VERSION):
            self._advance(_STEPS[version], version + 1)

    def _advance(self, script: str, version: int) -> None:
        self._db.executescript(f"BEGIN; {script} PRAGMA user_version={version}; COMMIT;")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        """Begin a transaction."""
        self._db.execute("BEGIN IMMEDIATE")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Commit, or roll back when something was raised, the commit itself included."""
        try:
            if kind is None:
                self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:  # SQLite itself ends some of those that fail
                self._db.execute("ROLLBACK")

    def get(self, key: Key) -> Any:
        """Return one entity as it was committed, or None.

        Raises:
            StateDamaged: it cannot be read.
        """
        with self._reading():
            found = self._db.execute("SELECT body FROM entities WHERE kind=? AND id=?", key)
            row = found.fetchone()
            return None if row is None else self._states[key[0]].validate_json(row[0])

    def load_states(self, but: Collection[str] = ()) -> Iterator[tuple[Key, Any]]:
        """Yield every entity but those of some kinds, oldest first.

        Raises:
            StateDamaged: one cannot be read.
        """
        kinds = [kind for kind in self._states if kind not in but]
        wanted = ",".join("?" * len(kinds))
        query = f"SELECT kind, id, body FROM entities WHERE kind IN ({wanted}) ORDER BY rowid"  # noqa: S608 - question marks
        with self._reading():
            rows = self._db.execute(query, kinds).fetchall()
            for kind, id_, body in rows:
                yield (kind, id_), self._states[kind].validate_json(body)

    def put(self, key: Key, state: Any | None) -> None:
        """Write or, with None, delete one entity."""
        kind, id_ = key
        if state is None:
            self._db.execute("DELETE FROM entities WHERE kind=? AND id=?", key)
            return
        self._db.execute(
            "INSERT INTO entities VALUES (?,?,?) "
            "ON CONFLICT (kind, id) DO UPDATE SET body=excluded.body",
            (kind, id_, self._states[kind].dump_json(state)),
        )

    def add_to_outbox(self, effect: Any) -> int:
        """Journal an effect and return the id of its entry."""
        if isinstance(effect, Publish):
            row = (_PUBLISH, _publish_body(effect), effect.payload)
        else:
            name = type(effect).__name__
            row = (name, self._effects[name].dump_json(effect), b"")
        cursor = self._db.execute("INSERT INTO outbox (kind, body, payload) VALUES (?,?,?)", row)
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def outbox(self) -> list[OutboxEntry]:
        """Return what was committed and is not done, oldest first.

        Raises:
            StateDamaged: an entry cannot be read, or is of a kind that this service does not know.
        """
        with self._reading():
            rows = self._db.execute("SELECT id, kind, body, payload FROM outbox ORDER BY id")
            return [
                OutboxEntry(id_, self._effect(kind, body, payload))
                for id_, kind, body, payload in rows
            ]

    def _effect(self, kind: str, body: bytes, payload: bytes) -> Any:
        if kind == _PUBLISH:
            return _publish(body, payload)
        return self._effects[kind].validate_json(body)

    def mark_done(self, ids: Iterable[int]) -> None:
        """Forget effects that were carried out."""
        self._db.executemany("DELETE FROM outbox WHERE id=?", ((id_,) for id_ in ids))

    def set_timer(self, key: str, at: float | None) -> None:
        """Write or, with None, delete a timer."""
        if at is None:
            self._db.execute("DELETE FROM timers WHERE key=?", (key,))
        else:
            self._db.execute("INSERT OR REPLACE INTO timers VALUES (?,?)", (key, at))

    def timers(self) -> dict[str, float]:
        """Return all timers: Unix seconds by key."""
        return dict(self._db.execute("SELECT key, at FROM timers").fetchall())

    def keep_retained(self, publish: Publish, at: float) -> None:
        """Keep the copy of a retained topic; an empty payload deletes it."""
        if not publish.payload:
            self._db.execute("DELETE FROM retained WHERE topic=?", (publish.topic,))
            return
        expires_at = None if publish.expiry_s is None else at + publish.expiry_s
        # Delete first: row order is publishing order, and an index must stay last.
        self._db.execute("DELETE FROM retained WHERE topic=?", (publish.topic,))
        self._db.execute(
            "INSERT INTO retained VALUES (?,?,?,?)",
            (publish.topic, _publish_body(publish), publish.payload, expires_at),
        )

    def retained(self, at: float) -> list[Publish]:
        """Return the retained topics that have not expired, in the order of their publishing."""
        with contextlib.suppress(sqlite3.OperationalError):  # a full disk keeps them for a while
            self._db.execute("DELETE FROM retained WHERE expires_at <= ?", (at,))
        rows = self._db.execute(
            "SELECT body, payload, expires_at FROM retained "
            "WHERE expires_at IS NULL OR expires_at > ? ORDER BY rowid",
            (at,),
        )
        return [
            _publish(body, payload, None if expires_at is None else expires_at - at)
            for body, payload, expires_at in rows
        ]

    def set_aside(self, at: float, event: str, error: str) -> None:
        """Keep an event that the core could not digest, for a person to look at."""
        self._db.execute(
            "INSERT INTO set_aside (at, event, error) VALUES (?,?,?)", (at, event, error)
        )
        self._db.execute(
            "DELETE FROM set_aside WHERE id <= (SELECT max(id) FROM set_aside) - ?",
            (_SET_ASIDE_KEPT,),
        )

    def set_aside_events(self) -> list[tuple[float, str, str]]:
        """Return time, event and error of what was set aside, oldest first."""
        return self._db.execute("SELECT at, event, error FROM set_aside ORDER BY id").fetchall()


def _adapter(type_: type[Any]) -> TypeAdapter[Any]:
    """Return the adapter of a type, made once: that takes milliseconds."""
    if type_ not in _ADAPTERS:
        _ADAPTERS[type_] = TypeAdapter(type_)
    return _ADAPTERS[type_]


def _publish_body(publish: Publish) -> bytes:
    return json.dumps(
        {
            "topic": publish.topic,
            "retain": publish.retain,
            "expiry_s": publish.expiry_s,
            "content_type": publish.content_type,
            "correlation": None if publish.correlation is None else publish.correlation.hex(),
            "properties": publish.properties,
        }
    ).encode()


def _publish(body: bytes, payload: bytes, expiry_s: float | None = None) -> Publish:
    fields = json.loads(body)
    correlation = fields.pop("correlation")
    properties = tuple((name, value) for name, value in fields.pop("properties"))
    if expiry_s is not None:
        fields["expiry_s"] = expiry_s
    return Publish(
        payload=payload,
        correlation=None if correlation is None else bytes.fromhex(correlation),
        properties=properties,
        **fields,
    )
