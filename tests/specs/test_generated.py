"""What is generated is up to date, complete, and sound in itself."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from roost.protocol.phone.refusals import PHONE_REFUSALS
from roost.protocol.phone.topics import TOPICS as PHONE_TOPICS
from roost.protocol.round.messages import RoundStart
from roost.protocol.round.refusals import ROUND_REFUSALS
from roost.protocol.round.topics import TOPICS as ROUND_TOPICS
from roost.protocol.task.messages import FailureReason, TaskRequest
from roost.protocol.task.refusals import TASK_REFUSALS
from roost.protocol.task.topics import TOPICS as TASK_TOPICS
from roost.specs.__main__ import main
from roost.specs.diagrams import END, MACHINES, Row, mermaid
from roost.specs.pages import UnknownPart, fill
from roost.specs.schemas import json_schema
from roost.specs.settings import SERVICES, settings_class
from roost.wire.blob import TOPICS as BLOB_TOPICS
from roost.wire.refusal import WIRE_REFUSALS

SPECS = Path(__file__).parents[2] / "specs"
TOPICS = (*BLOB_TOPICS, *TASK_TOPICS, *ROUND_TOPICS, *PHONE_TOPICS)
ASYNCAPI = ("asyncapi-task.json", "asyncapi-round.json", "asyncapi-phone.json")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the pages and of what is generated."""
    shutil.copytree(SPECS / "generated", tmp_path / "generated")
    for page in SPECS.glob("*.md"):
        shutil.copy(page, tmp_path)
    return tmp_path


def test_nothing_is_stale(capsys: pytest.CaptureFixture[str]) -> None:
    """Tables, schemas, diagrams and settings are those of the code: run `python -m roost.specs`."""
    stale = main(["--check", str(SPECS)])
    assert not stale, capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("task-protocol.md", "| `boot_id` | id |"),
        ("task-protocol.md", "queued --> dispatched"),
        ("round-protocol.md", "| 320 | `duplicate` |"),
        ("generated/settings.md", "`ROOST_BROKER`"),
        ("generated/schemas/Report.json", '"boot_id"'),
    ],
)
def test_a_stale_file_fails_with_a_diff(
    path: str, text: str, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A changed file, and a missing one, are told with what should be there; writing mends it."""
    place = copy / path
    right = place.read_text()
    assert text in right
    place.write_text(right.replace(text, "something else"))
    assert main(["--check", str(copy)]) == 1
    told = capsys.readouterr().err
    assert f"{path} (as it should be)" in told
    assert re.search(rf"^\+.*{re.escape(text)}", told, re.MULTILINE)
    assert main([str(copy)]) == 0
    assert place.read_text() == right
    if path.startswith("generated"):
        place.unlink()
        assert main(["--check", str(copy)]) == 1


def test_nothing_is_left_over() -> None:
    """Below generated/ there is no file that nobody generates any more."""
    named = {topic.payload.__name__ for topic in TOPICS if topic.payload}
    assert {path.stem for path in (SPECS / "generated" / "schemas").iterdir()} == named


def test_a_page_names_parts_that_exist() -> None:
    """A marker with an unknown name is an error, not an empty part."""
    with pytest.raises(UnknownPart, match="no part 'nothing'"):
        fill("<!-- generated: nothing -->\n<!-- end of generated -->\n", {})


@pytest.mark.parametrize("name", ASYNCAPI)
def test_asyncapi_is_sound(name: str) -> None:
    """References lead somewhere, addresses have their parameters, operations have channels."""
    document = json.loads((SPECS / "generated" / name).read_text())
    assert document["asyncapi"] == "3.0.0"
    for reference in references(document):
        assert resolve(document, reference) is not None, reference
    for channel in document["channels"].values():
        declared = set(channel.get("parameters", {}))
        assert declared == set(re.findall(r"\{(\w+)\}", channel["address"]))
    channels = {each["channel"]["$ref"] for each in document["operations"].values()}
    assert channels == {f"#/channels/{name}" for name in document["channels"]}


def test_asyncapi_has_every_topic() -> None:
    """Each topic of every table is a channel."""
    found = {
        channel["address"]
        for name in ASYNCAPI
        for channel in json.loads((SPECS / "generated" / name).read_text())["channels"].values()
    }
    assert found == {topic.template for topic in TOPICS}


def references(node: Any) -> Iterator[str]:
    """Yield all ``$ref`` texts of a document."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolve(document: Any, reference: str) -> Any:
    """Return what a JSON pointer points to, or None."""
    node = document
    for part in reference.removeprefix("#/").split("/"):
        node = node.get(part) if isinstance(node, dict) else None
    return node


@pytest.mark.parametrize("path", sorted((SPECS / "generated" / "schemas").iterdir()), ids=str)
def test_schemas_are_sound(path: Path) -> None:
    """Each schema is an object's, and its references lead somewhere."""
    schema = json.loads(path.read_text())
    assert schema["type"] == "object"
    assert schema["title"] == path.stem
    for reference in references(schema):
        assert resolve(schema, reference) is not None, reference


def test_schemas_say_what_is_required() -> None:
    """A schema names the fields without which a message is refused, and no others."""
    assert json_schema(TaskRequest)["required"] == ["image", "task_id"]
    wanted = {"task_wasm_image", "participants", "k_of_n", "round_id", "model_uri"}
    assert set(json_schema(RoundStart)["required"]) == wanted


def test_refusal_numbers_are_unique_and_in_range() -> None:
    """1xx is the wire's, 2xx the tasks', 3xx the rounds', 4xx the phones' (WIRE-021)."""
    ranges = (WIRE_REFUSALS, TASK_REFUSALS, ROUND_REFUSALS, PHONE_REFUSALS)
    numbers = [each.code for refusals in ranges for each in refusals]
    names = [each.name for refusals in ranges for each in refusals]
    assert len(set(numbers)) == len(numbers)
    assert len(set(names)) == len(names)
    for first, refusals in enumerate(ranges, 1):
        assert {each.code // 100 for each in refusals} == {first}


def test_every_failure_reason_is_explained() -> None:
    """The task protocol's page has a row for each reason, and for no other (TASK-040)."""
    page = (SPECS / "task-protocol.md").read_text()
    table = page.split("## How a task fails")[1].split("## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(FailureReason)


@pytest.mark.parametrize("name", MACHINES)
def test_diagrams_end(name: str) -> None:
    """From the first state of each machine every state can be reached, and an end from each."""
    rows = MACHINES[name]()
    ends = {row.target for row in rows} - {row.source for row in rows} or {END}
    assert reachable(rows, {rows[0].source}) >= {row.source for row in rows} | ends
    back = [Row(row.target, row.why, row.source) for row in rows]
    assert reachable(back, ends) >= {row.source for row in rows}


def reachable(rows: list[Row], start: set[str]) -> set[str]:
    """Return the states that rows lead to from some state of ``start``, those included."""
    seen = set(start)
    while more := {row.target for row in rows if row.source in seen} - seen:
        seen |= more
    return seen


def test_diagram_labels_hold_no_colon() -> None:
    """Mermaid ends a label at a colon; such a diagram would not be drawn."""
    drawn = mermaid([Row("a", "lost: again; and again", "b")])
    assert "a --> b: lost, again, and again" in drawn


@pytest.mark.parametrize("service", SERVICES)
def test_every_setting_is_described(service: str) -> None:
    """Each setting of each service has a description and stands in the table."""
    page = (SPECS / "generated" / "settings.md").read_text()
    for name, field in settings_class(service).model_fields.items():
        assert field.description, name
        assert f"`ROOST_{name.upper()}`" in page


def test_links_lead_somewhere() -> None:
    """Each relative link of a page names a file, and a heading of it where it says one."""
    for page in (*SPECS.glob("*.md"), *(SPECS / "adr").glob("*.md")):
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if "://" in target:
                continue
            file, _, heading = target.partition("#")
            place = (page.parent / file) if file else page
            assert place.exists(), f"{page.name}: {target}"
            if heading:
                assert heading in headings(place), f"{page.name}: {target}"


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in found}


def test_every_topic_has_its_place_among_the_owned() -> None:
    """The architecture's tables name each topic once, retained ones apart from the others."""
    page = (SPECS / "architecture.md").read_text()
    passing = page.split("### Orders and news")[1].split("### Retained topics")[0]
    retained = page.split("### Retained topics")[1].split("### Files")[0]
    for topic in TOPICS:
        here, there = (retained, passing) if topic.retained else (passing, retained)
        assert f"`{topic.template}`" in here, topic.template
        assert f"`{topic.template}`" not in there, topic.template
