"""Reading files without copying them."""

from pathlib import Path

import pytest
from roost.chassis.files import mapped


def test_a_file_is_mapped_read_only(tmp_path: Path) -> None:
    """Its bytes are seen, and cannot be changed."""
    path = tmp_path / "file"
    path.write_bytes(b"0123")
    with mapped(path) as view:
        assert bytes(view[1:3]) == b"12"
        assert view.readonly
    with pytest.raises(ValueError, match="released"):
        bytes(view)


def test_an_empty_file_is_an_empty_view(tmp_path: Path) -> None:
    """The system cannot map it."""
    (tmp_path / "file").touch()
    with mapped(tmp_path / "file") as view:
        assert bytes(view) == b""
