"""Files that are read in place and turned down: what maps them is let go of all the same."""

from pathlib import Path

import msgpack
import pytest
from roost.chassis.files import mapped
from roost.coordinator.adapters.models import Models
from roost.coordinator.adapters.spool import Spool
from roost.model_server.adapters.files import Files
from roost.protocol.round.tensorfile import check_file
from roost.wire.refusal import Refused

from . import samples
from .shapes import entry, raw, update_map

NAN = b"\0\0\xc0\x7f"
FILE = raw({"a": entry(0, 4), "w": entry(4, 8)}, bytes(4) + NAN)


def test_what_is_wrong_with_a_mapped_file_is_said(tmp_path: Path) -> None:
    """Parts of the view in the error's frames kept it from closing (WIRE-020)."""
    path = tmp_path / "file"
    path.write_bytes(FILE)
    with pytest.raises(Refused, match="not_finite"), mapped(path) as content:
        check_file(content)


def test_a_model_that_is_not_finite_is_refused_by_that_name(tmp_path: Path) -> None:
    """And its file is gone (MODEL-011)."""
    files = Files(tmp_path, lambda: "1")
    with pytest.raises(Refused, match="not_finite"):
        files.take_in(FILE, 1.0)
    assert list((tmp_path / "incoming").iterdir()) == []


def test_a_large_update_that_is_not_finite_is_refused_by_that_name(tmp_path: Path) -> None:
    """One that came as a blob is read from its file (MODEL-011, ROUND-011)."""
    path = tmp_path / "update"
    path.write_bytes(msgpack.packb(update_map(update=FILE)))
    with pytest.raises(Refused, match="not_finite"):
        Spool(tmp_path / "spool", lambda: "1").take_in_file("r", "a", path)


def test_a_fetched_base_that_is_not_finite_is_refused_by_that_name(tmp_path: Path) -> None:
    """The round says what is wrong with its base (MODEL-011)."""
    models = Models(tmp_path)
    for content in (FILE, samples.JSON_MODEL.replace(b"-2", b"NaN")):
        models.incoming("r").write_bytes(content)
        with pytest.raises(Refused, match="not_finite"):
            models.adopt(models.incoming("r"), samples.SHA)
