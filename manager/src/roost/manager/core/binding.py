"""Workload bindings: which topic launches which tasks, and which topics go where.

A binding is data: TOML with templates (``substitute``), no code. All bindings of a folder are one
set that is taken over or refused as a whole, each problem named with its file and line.

Error tree of this package::

    BindingsInvalid        a set of binding files breaks a rule; carries every problem found
    TemplateError          a template is not well formed (``substitute``)
    Refused                a message broke a rule (``roost.wire``)
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from roost.manager.core.substitute import Template
from roost.wire.topic import matches


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Something wrong in a binding file.

    Attributes:
        file: Name of the file.
        line: Line, counted from 1.
        text: What is wrong and what would be right.
    """

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


class BindingsInvalid(Exception):  # noqa: N818 - it names the files' state
    """A set of binding files is refused as a whole.

    Attributes:
        problems: All that was found, by file and line.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True)
class Leaf:
    """A text, or a number written as text, of the task request."""

    template: Template
    number: bool = False


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list of the task request."""

    items: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Table:
    """An object of the task request, in the file's order."""

    items: "tuple[tuple[str, Node], ...]"

    def get(self, name: str) -> "Node | None":
        """Return the node of that name."""
        return dict(self.items).get(name)


Node: TypeAlias = Leaf | Sequence | Table


@dataclass(frozen=True, slots=True)
class LaunchRule:
    """Messages on a topic launch tasks.

    Attributes:
        topic: The topic; levels may be ``+``.
        key: Names the launch: the same key launches once, for ever.
        for_each: Field that holds a list of ids: one task for each; None: one task.
        defaults: Text of fields that the message may lack.
        task: The task request's template.
        where: ``file:line`` of the rule.
    """

    topic: str
    key: Template
    for_each: str | None
    defaults: tuple[tuple[str, str], ...]
    task: Table
    where: str


@dataclass(frozen=True, slots=True)
class ForwardRule:
    """Messages on the topics of a filter are sent on, byte for byte.

    Attributes:
        source: The filter.
        to: The topic that they are sent on to.
        where: ``file:line`` of the rule.
    """

    source: str
    to: str
    where: str

    def __str__(self) -> str:
        return f"{self.source} -> {self.to}"


@dataclass(frozen=True, slots=True)
class Binding:
    """One file.

    Attributes:
        file: Its name.
        sha256: Digest of its bytes.
        launches: Its launch rules.
        forwards: Its forward rules.
    """

    file: str
    sha256: str
    launches: tuple[LaunchRule, ...] = ()
    forwards: tuple[ForwardRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Bindings:
    """All bindings in force."""

    files: tuple[Binding, ...] = ()

    @property
    def launches(self) -> tuple[LaunchRule, ...]:
        """The launch rules of all files."""
        return tuple(rule for binding in self.files for rule in binding.launches)

    @property
    def forwards(self) -> tuple[ForwardRule, ...]:
        """The forward rules of all files."""
        return tuple(rule for binding in self.files for rule in binding.forwards)

    def launch_of(self, topic: str) -> LaunchRule | None:
        """Return the rule that a message on this topic obeys; there is at most one."""
        for rule in self.launches:
            if matches(rule.topic, topic):
                return rule
        return None
