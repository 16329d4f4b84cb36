"""Compiled modules are cached by digest and engine, renamed into place, and bounded."""

import hashlib
import os
from pathlib import Path

import pytest
from roost.proplet.errors import ImageRefused, PropletError, TaskStopped
from roost.proplet.guest import GuestRun, ModuleCache, Stopper, cache, run_guest
from roost.proplet.guest.process import Ended, Watch, work
from roost.protocol.task.messages import FailureReason

from . import guests


@pytest.fixture
def own(tmp_path: Path, modules: ModuleCache) -> ModuleCache:
    """Return an empty cache that borrows the compiled Python files of all tests."""
    folder = tmp_path / "cache"
    folder.mkdir()
    modules.bytecode.mkdir(exist_ok=True)
    (folder / "bytecode").symlink_to(modules.bytecode)
    return ModuleCache(folder)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Return the file of a guest."""
    path = tmp_path / "guest.wasm"
    path.write_bytes(guests.NOTHING)
    return path


def test_a_module_is_compiled_once(own: ModuleCache, image: Path) -> None:
    """The second time the same file is there, untouched, even if the image is gone."""
    digest = hashlib.sha256(guests.NOTHING).hexdigest()
    first = own.compiled(image)
    made = first.stat()
    assert first.name.startswith(digest)
    assert list(own.modules.iterdir()) == [first]
    image.unlink()
    again = own.compiled(image, digest)
    assert again == first
    assert (again.stat().st_ino, again.stat().st_size) == (made.st_ino, made.st_size)


@pytest.mark.parametrize("damage", [b"", b"not native code", None])
def test_a_damaged_module_is_compiled_again(
    own: ModuleCache, image: Path, tmp_path: Path, damage: bytes | None
) -> None:
    """The engine refuses it before running any of it; the run succeeds all the same."""
    place = own.compiled(image)
    good = place.read_bytes()
    place.unlink()
    place.write_bytes(good[: len(good) // 2] if damage is None else damage)
    run = GuestRun(image=image, out=tmp_path / "out", stdout=tmp_path / "stdout")
    assert run_guest(run, own).reason is None
    assert place.read_bytes()[:4] == good[:4]
    assert place.stat().st_size == len(good)


def test_relative_paths_will_do(
    own: ModuleCache, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state folder named from here is the same folder for a worker, which is elsewhere."""
    monkeypatch.chdir(tmp_path)
    run = GuestRun(image=Path(image.name), out=Path("out"), stdout=Path("stdout"))
    assert run_guest(run, ModuleCache(own.folder.relative_to(tmp_path))).reason is None
    assert len(list(own.modules.iterdir())) == 1


def test_what_was_abandoned_is_swept(own: ModuleCache) -> None:
    """Old temporary folders go; young ones may be in use by others who share the folder."""
    own.sweep(shared=True)
    old, young = own.modules / "compile-old", own.modules / "compile-young"
    for folder in (old, young):
        folder.mkdir(parents=True)
        (folder / "module").touch()
    os.utime(old, (1, 1))
    own.sweep(shared=True)
    assert list(own.modules.iterdir()) == [young]
    own.sweep(shared=False)
    assert list(own.modules.iterdir()) == []


def test_a_refused_image_leaves_nothing(own: ModuleCache, image: Path) -> None:
    """Neither a module nor a temporary folder."""
    image.write_bytes(b"\0asm\x01\0\0\0garbage")
    with pytest.raises(ImageRefused):
        own.compiled(image)
    assert list(own.modules.iterdir()) == []


def test_compiling_can_be_stopped(own: ModuleCache, image: Path) -> None:
    """A stop ends it, and is no refusal."""
    stopper = Stopper()
    stopper.stop()
    with pytest.raises(TaskStopped):
        own.compiled(image, stopper=stopper)


def test_compiling_is_limited_in_time(
    own: ModuleCache, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that takes for ever to compile is refused."""
    monkeypatch.setattr(cache, "COMPILE_LIMIT_S", 0.0)
    with pytest.raises(ImageRefused, match="compiling it took more than"):
        own.compiled(image)


def test_a_compiler_that_dies_refuses_the_image() -> None:
    """A crash of the compiler is the image's fault, by its exit status."""
    with pytest.raises(ImageRefused, match="status -6"):
        cache._judge(Ended(status=-6))


def test_an_image_is_not_blamed_for_a_full_disk(tmp_path: Path) -> None:
    """The device failed, and says by what (TASK-040)."""
    if not Path("/dev/full").exists():
        pytest.skip("SKIPPED LOUDLY: this system has no /dev/full")
    image = tmp_path / "image.wasm"
    image.write_bytes(guests.NOTHING)
    job = {"do": "compile", "wasm": str(image), "out": "/dev/full"}
    ended = work(job, Watch(), tmp_path / "bytecode")
    with pytest.raises(PropletError, match=r"could not compile it: OSError.*No space left") as told:
        cache._judge(ended)
    assert told.value.reason is FailureReason.INTERNAL


def test_the_oldest_modules_go(own: ModuleCache, tmp_path: Path) -> None:
    """Above the bound what was not used for longest is removed, never the newest."""
    small = ModuleCache(own.folder, max_bytes=1)
    places = []
    for number in range(3):
        path = tmp_path / f"{number}.wasm"
        path.write_bytes(guests.build(guests.leave(number)))
        places.append(own.compiled(path))
        os.utime(places[-1], (number, number))
    os.utime(places[0])
    path.write_bytes(guests.build(guests.leave(7)))
    size = places[0].stat().st_size
    ModuleCache(own.folder, max_bytes=size * 2 + 100).compiled(path)
    assert [place.exists() for place in places] == [True, False, False]
    path.write_bytes(guests.build(guests.leave(8)))
    last = small.compiled(path)
    assert list(small.modules.iterdir()) == [last]


def test_the_key_names_engine_and_processor() -> None:
    """Another version or processor never sees these modules."""
    version, _, processor = cache.engine_key().rpartition("-")
    assert version.split(".")[0].isdecimal()
    assert len(processor) == 12
