"""Images come from three kinds of places, and are what their digest says."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from roost.proplet.adapters.images import ImageStore
from roost.proplet.adapters.oci import Reference, Registry, parse
from roost.proplet.errors import ImageRefused, ImageUnavailable

from .fakes import FakeTransport
from .registry import FakeRegistry, digest

WASM = b"\0asm\x01\0\0\0" + b"one" * 100
OTHER = b"\0asm\x01\0\0\0" + b"two" * 100


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    """Return a registry in this process."""
    fake = FakeRegistry()
    yield fake
    fake.close()


@pytest.fixture
def transport() -> FakeTransport:
    """Return an empty transport."""
    return FakeTransport()


@pytest.fixture
def make(tmp_path: Path, transport: FakeTransport) -> Callable[..., ImageStore]:
    """Return a function that makes stores on one folder."""

    def store(max_bytes: int = 10_000, **more: Any) -> ImageStore:
        return ImageStore(
            tmp_path / "images", transport, Registry(5.0, max_bytes), 5.0, max_bytes, **more
        )

    return store


@pytest.fixture
def store(make: Callable[..., ImageStore]) -> ImageStore:
    """Return a store."""
    return make()


def stored(store: ImageStore) -> set[str]:
    """Return the names of all files in a store."""
    return {path.name for path in store.folder.iterdir()}


def test_a_blob_is_fetched_once(store: ImageStore, transport: FakeTransport) -> None:
    """The second time it is on disk (GUEST-003)."""
    sha256 = transport.offer("ops", WASM)
    first = store.fetch(f"blob:ops/{sha256}")
    assert first.path.read_bytes() == WASM
    assert first.sha256 == sha256
    assert store.fetch(f"blob:ops/{sha256}") == first
    assert len(transport.fetched) == 1
    assert stored(store) == {f"{sha256}.wasm"}


def test_a_missing_blob_is_unavailable(store: ImageStore) -> None:
    """The message says what to do, and where it was looked for."""
    with pytest.raises(ImageUnavailable, match=r"offer the image again with .*no blob ops/"):
        store.fetch(f"blob:ops/{'0' * 64}")
    assert stored(store) == set()


@pytest.mark.parametrize("reference", ["blob:ops", "blob:ops/123", "blob:"])
def test_a_bad_blob_reference_is_refused(store: ImageStore, reference: str) -> None:
    """The message shows the form."""
    with pytest.raises(ImageRefused, match="blob:owner/sha256"):
        store.fetch(reference)


def test_a_damaged_image_on_disk_is_fetched_again(
    make: Callable[..., ImageStore], transport: FakeTransport
) -> None:
    """The next process checks the digest before it believes the disk."""
    sha256 = transport.offer("ops", WASM)
    image = make().fetch(f"blob:ops/{sha256}")
    image.path.write_bytes(OTHER)
    assert make().fetch(f"blob:ops/{sha256}").path.read_bytes() == WASM
    assert len(transport.fetched) == 2


def test_the_image_used_longest_ago_goes(
    make: Callable[..., ImageStore], transport: FakeTransport
) -> None:
    """The bound holds, and the newest image always stays."""
    store = make(max_bytes=700)
    digests = [transport.offer("ops", WASM + bytes([n])) for n in range(3)]
    for age, sha256 in enumerate(digests[:2]):
        os.utime(store.fetch(f"blob:ops/{sha256}").path, (age, age))
    store.fetch(f"blob:ops/{digests[0]}")
    store.fetch(f"blob:ops/{digests[2]}")
    assert stored(store) == {f"{digests[0]}.wasm", f"{digests[2]}.wasm"}


def test_an_image_above_the_bound_is_refused(
    make: Callable[..., ImageStore], transport: FakeTransport
) -> None:
    """It would push all others out and not fit all the same."""
    sha256 = transport.offer("ops", WASM)
    with pytest.raises(ImageRefused, match="ROOST_IMAGES_MAX_MB"):
        make(max_bytes=100).fetch(f"blob:ops/{sha256}")


def test_files_are_allowed_by_folder(make: Callable[..., ImageStore], tmp_path: Path) -> None:
    """A file below an allowed folder is copied under its digest (GUEST-004)."""
    (tmp_path / "ok/sub").mkdir(parents=True)
    (tmp_path / "ok/sub/a.wasm").write_bytes(WASM)
    store = make(file_folders=(tmp_path / "other", tmp_path / "ok"))
    for reference in (f"file:{tmp_path}/ok/sub/a.wasm", f"file://{tmp_path}/ok/sub/a.wasm"):
        image = store.fetch(reference)
        assert image.sha256 == hashlib.sha256(WASM).hexdigest()
        assert image.path.read_bytes() == WASM
        assert image.path.parent == store.folder


def test_a_changed_file_is_another_image(make: Callable[..., ImageStore], tmp_path: Path) -> None:
    """A file is read at each start: someone is developing."""
    (tmp_path / "a.wasm").write_bytes(WASM)
    store = make(file_folders=(tmp_path,))
    first = store.fetch(f"file:{tmp_path}/a.wasm")
    (tmp_path / "a.wasm").write_bytes(OTHER)
    assert store.fetch(f"file:{tmp_path}/a.wasm").sha256 != first.sha256


def test_other_files_are_refused(make: Callable[..., ImageStore], tmp_path: Path) -> None:
    """Neither outside, nor by dots, nor through a link (GUEST-004)."""
    (tmp_path / "ok").mkdir()
    (tmp_path / "secret").write_bytes(WASM)
    (tmp_path / "ok/link").symlink_to(tmp_path / "secret")
    store = make(file_folders=(tmp_path / "ok",))
    for name in ("secret", "ok/../secret", "ok/link", "okay"):
        with pytest.raises(ImageRefused, match="ROOST_FILE_IMAGES"):
            store.fetch(f"file:{tmp_path}/{name}")
    with pytest.raises(ImageRefused, match="no folder"):
        make().fetch(f"file:{tmp_path}/ok/x")
    with pytest.raises(ImageUnavailable, match="No such file"):
        store.fetch(f"file:{tmp_path}/ok/missing")


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("oci://host/name", Reference("host", "name", None, None)),
        ("oci://host:5000/a/b-c:v1.0", Reference("host:5000", "a/b-c", "v1.0", None)),
        (f"oci://h/n@sha256:{'a' * 64}", Reference("h", "n", None, "a" * 64)),
        (f"oci://[::1]:5/n:t@sha256:{'a' * 64}", Reference("[::1]:5", "n", "t", "a" * 64)),
    ],
)
def test_references_are_read(text: str, reference: Reference) -> None:
    """Host, name, tag and digest; a digest wins over a tag, and ``latest`` is the last resort."""
    assert parse(text) == reference
    wanted = f"sha256:{reference.digest}" if reference.digest else reference.tag or "latest"
    assert reference.wanted == wanted


@pytest.mark.parametrize(
    "text",
    ["oci://host", "oci://host/", "oci://host/Upper", "oci://host/n@sha256:12", "oci://host/n:t:u",
     "oci:///n", "oci://host/../n", "oci://host/n?x=1", "oci://us er@host/n", "oci://host/n:"],
)  # fmt: skip
def test_bad_references_are_refused(text: str) -> None:
    """What is no reference never becomes a URL."""
    with pytest.raises(ImageRefused, match="no image reference"):
        parse(text)


@pytest.mark.parametrize(
    ("host", "plain", "scheme"),
    [
        ("localhost:5000", (), "http"),
        ("127.0.0.1", (), "http"),
        ("[::1]:80", (), "http"),
        ("registry:5000", (), "https"),
        ("registry:5000", ("registry:5000",), "http"),
        ("registry:5000", ("registry",), "http"),
        ("localhost.example.org", (), "https"),
    ],
)
def test_only_named_hosts_are_spoken_to_in_plain(
    host: str, plain: tuple[str, ...], scheme: str
) -> None:
    """TLS is the rule (GUEST-002)."""
    base = Registry(1.0, 1, frozenset(plain))._base(parse(f"oci://{host}/n"))
    assert base == f"{scheme}://{host}/v2/n"


def test_an_image_is_pulled_by_tag(store: ImageStore, registry: FakeRegistry) -> None:
    """The tag is asked for each time, the bytes once (GUEST-002)."""
    registry.push("app", "v1", WASM)
    reference = f"oci://{registry.host}/app:v1"
    assert store.fetch(reference).path.read_bytes() == WASM
    store.fetch(reference)
    assert [path.split("/")[3] for path in registry.asked] == ["manifests", "blobs", "manifests"]
    registry.push("app", "v1", OTHER)
    assert store.fetch(reference).path.read_bytes() == OTHER


def test_a_pinned_image_needs_no_registry_twice(
    make: Callable[..., ImageStore], registry: FakeRegistry
) -> None:
    """Once its manifest was checked, the digest alone finds the bytes, also after a restart."""
    pin = registry.push("app", "v1", WASM)
    reference = f"oci://{registry.host}/app@sha256:{pin}"
    assert make().fetch(reference).path.read_bytes() == WASM
    asked = len(registry.asked)
    image = make().fetch(reference)
    assert len(registry.asked) == asked
    image.path.unlink()
    assert make().fetch(reference).path.read_bytes() == WASM
    assert len(registry.asked) == asked + 2


@pytest.mark.parametrize("slow", ["manifests", "blobs"])
def test_a_pull_ends_with_the_task(
    make: Callable[..., ImageStore], registry: FakeRegistry, slow: str
) -> None:
    """However slowly, and for however long, the registry goes on sending (TASK-081).

    Regression: a registry was waited for as long as its settings allow.
    """
    registry.push("app", "v1", WASM)
    path = next(path for path in registry.answers if slow in path)
    registry.stall.add(path)
    with pytest.raises(ImageUnavailable, match="the task's time is over before the image is here"):
        make().fetch(f"oci://{registry.host}/app:v1", 1.0)
    with pytest.raises(ImageUnavailable, match="allow it more time"):
        make().fetch(f"oci://{registry.host}/app:v1", 0.0)


def test_a_pinned_manifest_must_have_its_digest(store: ImageStore, registry: FakeRegistry) -> None:
    """A registry that sends another one is caught (GUEST-002)."""
    pin = registry.push("app", "v1", WASM)
    registry.push("app", f"sha256:{pin}", OTHER)
    with pytest.raises(ImageRefused, match="the registry sent a manifest with the digest"):
        store.fetch(f"oci://{registry.host}/app@sha256:{pin}")
    assert stored(store) == set()


@pytest.mark.parametrize("body", [OTHER, WASM + b"x", WASM[:-1], b""])
def test_a_layer_must_have_its_digest_and_size(
    store: ImageStore, registry: FakeRegistry, body: bytes
) -> None:
    """Changed, longer and shorter bytes are caught, and nothing of them is kept (GUEST-002)."""
    registry.push("app", "v1", WASM)
    registry.answers[f"/v2/app/blobs/{digest(WASM)}"] = (200, body)
    with pytest.raises(ImageRefused, match="do not have their digest and size"):
        store.fetch(f"oci://{registry.host}/app:v1")
    assert stored(store) == set()


def _layers(*types: str) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        layer = manifest["layers"][0]
        manifest["layers"] = [{**layer, "mediaType": type_} for type_ in types]

    return change


def _layer(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["layers"][0].update(fields)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_layers(), "has none"),
        (_layers("application/vnd.oci.image.layer.v1.tar+gzip"), "tar"),
        (_layers("application/wasm", "application/wasm"), "application/wasm, application/wasm"),
        (_layer(digest="sha512:00"), "no SHA-256"),
        (_layer(digest=5), "no SHA-256"),
        (_layer(digest="sha256:../../secret"), "no SHA-256"),
        (_layer(size=10_001), "this proplet takes 10000"),
        (_layer(size=-1), "this proplet takes"),
        (_layer(size="12"), "this proplet takes"),
        (_layer(size=True), "this proplet takes"),
        (lambda manifest: manifest.pop("layers"), "no image manifest"),
        (lambda manifest: manifest.update(layers=[7]), "no image manifest"),
    ],
)
def test_a_bad_manifest_is_refused(
    store: ImageStore, registry: FakeRegistry, change: Any, said: str
) -> None:
    """Each kind of nonsense is named (GUEST-002)."""
    registry.push("app", "v1", WASM, change)
    with pytest.raises(ImageRefused, match=said):
        store.fetch(f"oci://{registry.host}/app:v1")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"", b"[" * 5000, b"x" * 1_048_577])
def test_what_is_no_json_is_refused(store: ImageStore, registry: FakeRegistry, body: bytes) -> None:
    """As is what is far too large."""
    registry.answers["/v2/app/manifests/v1"] = (200, body)
    with pytest.raises(ImageRefused):
        store.fetch(f"oci://{registry.host}/app:v1")


@pytest.mark.parametrize(
    ("status", "said"), [(404, "no such image"), (401, "login"), (403, "login"), (500, "500")]
)
def test_a_registry_that_has_it_not(
    store: ImageStore, registry: FakeRegistry, status: int, said: str
) -> None:
    """Its answer is told."""
    registry.answers["/v2/app/manifests/v1"] = (status, b"")
    with pytest.raises(ImageUnavailable, match=said):
        store.fetch(f"oci://{registry.host}/app:v1")


def test_a_connection_that_breaks(store: ImageStore, registry: FakeRegistry) -> None:
    """Half a layer is none."""
    registry.push("app", "v1", WASM)
    registry.hang_up.add(f"/v2/app/blobs/{digest(WASM)}")
    with pytest.raises(ImageUnavailable, match="is the registry"):
        store.fetch(f"oci://{registry.host}/app:v1")
    assert stored(store) == set()


def test_a_registry_that_is_down(store: ImageStore, registry: FakeRegistry) -> None:
    """The message names it."""
    registry.close()
    with pytest.raises(ImageUnavailable, match=f"is the registry {registry.host} up"):
        store.fetch(f"oci://{registry.host}/app:v1")


def test_pins_are_bounded(
    store: ImageStore, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Notes of pinned manifests do not pile up for ever."""
    monkeypatch.setattr("roost.proplet.adapters.images._MAX_PINS", 1)
    for n in range(4):
        pin = registry.push("app", "v1", WASM + bytes([n]))
        store.fetch(f"oci://{registry.host}/app@sha256:{pin}")
    assert sum(name.endswith(".layer") for name in stored(store)) <= 2


def test_what_was_abandoned_is_swept(store: ImageStore, transport: FakeTransport) -> None:
    """A fetch that was killed leaves a folder; images stay."""
    sha256 = transport.offer("ops", WASM)
    image = store.fetch(f"blob:ops/{sha256}")
    os.utime(image.path, (1, 1))
    (store.folder / "fetch-old").mkdir()
    (store.folder / "fetch-young").mkdir()
    os.utime(store.folder / "fetch-old", (1, 1))
    store.sweep(shared=True)
    assert stored(store) == {image.path.name, "fetch-young"}
    store.sweep(shared=False)
    assert stored(store) == {image.path.name}
