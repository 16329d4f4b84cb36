"""Every rule of the specification is named by a test, or stands on a list that only shrinks."""

from pathlib import Path

from .rules import (
    FAMILIES,
    defined,
    named,
    pages,
    proving_files,
    source_files,
    untested,
    without_test,
)


def test_rules_are_there_once() -> None:
    """Each family has rules, and no id is given twice."""
    ids = defined(pages())
    assert len(ids) == len(set(ids))
    assert {id_.split("-")[0] for id_ in ids} == set(FAMILIES)


def test_the_list_of_rules_without_test_is_exact() -> None:
    """A rule that a test names leaves the list; a rule that no test names is on it."""
    missing = without_test(defined(pages()), proving_files())
    assert untested() == missing, "correct tests/specs/rules_without_test.txt"


def test_nobody_names_a_rule_that_is_not_there() -> None:
    """Sources, tests and pages name only rules that some page states."""
    rules = set(defined(pages()))
    strange = {id_: who for id_, who in named(source_files()).items() if id_ not in rules}
    assert strange == {}


def test_a_rule_without_test_is_found(tmp_path: Path) -> None:
    """The collector sees a rule that no test names, and lets go of it once one does."""
    page, test = tmp_path / "page.md", tmp_path / "test_it.py"
    page.write_text("* **TASK-997** A rule.\n* **TASK-998** Another; see TASK-997.\n")
    test.write_text('"""Proves it (TASK-998)."""\n')
    assert defined([page]) == ["TASK-997", "TASK-998"]
    assert without_test(defined([page]), [test]) == ["TASK-997"]
    test.write_text('"""Proves both (TASK-998, TASK-997)."""\n')
    assert without_test(defined([page]), [test]) == []
