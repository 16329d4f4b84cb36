"""Each service as a real process on a disk without room: RLIMIT_FSIZE stops every write."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from roost.chassis.received import Received
from roost.protocol.round.messages import RoundStart
from roost.protocol.task.messages import StartTask, TaskSpec

from ..conftest import Mosquitto  # noqa: TID252 - the tests are no package
from .processes import Client, Service
from .shapes import BASE

pytestmark = pytest.mark.system

IMAGE = f"blob:nobody/{'0' * 64}"


@dataclass(frozen=True)
class Case:
    """An order to a service, and how its obedience shows.

    Attributes:
        order: Topic and payload of the order with this number.
        answer: Topic of its answer.
        wanted: Tells the answer by what it holds.
    """

    order: Callable[[int], tuple[str, bytes]]
    answer: Callable[[int], str]
    wanted: Callable[[int, Received], bool] = lambda _n, _received: True


def _start(n: int) -> tuple[str, bytes]:
    start = RoundStart(
        round_id=f"r{n}", model_uri=BASE, task_wasm_image=IMAGE, participants=("p",), k_of_n=1
    )
    return "fl/rounds/start", start.encode()


def _task(n: int) -> tuple[str, bytes]:
    task = StartTask(attempt=1, remaining_s=600, task=TaskSpec(image=IMAGE))
    return f"proplets/p/tasks/t{n}/start", task.encode()


CASES = {
    "manager": Case(
        lambda n: ("tasks/launch", b'{"task_id":"t%d","image":"oci://x/y:1"}' % n),
        lambda n: f"tasks/t{n}/state",
    ),
    "coordinator": Case(_start, lambda n: f"fl/rounds/r{n}/state"),
    "model_server": Case(
        lambda n: ("fl/models/publish", b'{"w":[%d],"name":"m%d"}' % (n, n)),
        lambda _n: "fl/models/index",
        lambda n, received: b'"m%d"' % n in received.payload,
    ),
    "proplet": Case(_task, lambda n: f"proplets/p/tasks/t{n}/report"),
}


@pytest.fixture
def client(broker: Mosquitto) -> Iterator[Client]:
    """Return a client on a real broker."""
    client = Client(broker.url)
    yield client
    client.close()


@pytest.mark.parametrize("name", CASES)
def test_a_full_disk_stops_a_service_until_there_is_room(
    name: str, broker: Mosquitto, client: Client, tmp_path: Path
) -> None:
    """An order is neither obeyed nor forgotten, over ``kill -9`` as well.

    (WIRE-016, WIRE-067, WIRE-068)
    """
    case = CASES[name]
    (tmp_path / "workloads").mkdir()
    environment = {"ROOST_PROPLET_ID": "p", "ROOST_WORKLOADS": str(tmp_path / "workloads")}

    def answered(n: int) -> Callable[[Received], bool]:
        return lambda received: case.wanted(n, received)

    with Service(name, broker.url, tmp_path / "state", **environment) as service:
        client.insist(case.order(1), case.answer(1), answered(1))
        assert (service.state / "clock.json").exists(), "its deadlines are on a steady clock"
        service.fill_disk()
        client.send(*case.order(2))
        said = service.log("state.unwritable")
        assert str(service.state) in said
        assert not client.heard(case.answer(2), answered(2))
        service.make_room()
        assert client.wait(case.answer(2), answered(2))
        service.log("state.writable_again")
        service.fill_disk()
        client.send(*case.order(3))
        service.log("state.unwritable")
        service.kill()
        assert not client.heard(case.answer(3), answered(3))
        service.start()
        assert client.wait(case.answer(3), answered(3))


def test_a_service_that_starts_on_a_full_disk_says_so(broker: Mosquitto, tmp_path: Path) -> None:
    """It names the folder and ends; whoever watches it starts it again (WIRE-034, WIRE-067)."""
    state = tmp_path / "state"
    service = Service("coordinator", broker.url, state)
    service.start_full()
    assert str(state) in service.log("service.failed")
    assert service.process.wait(30) == 1
