"""Well-formed payloads, from which hostile ones are made."""

import json
from typing import Any

BASE = "fl/models/global_model_v0"


def raw(header: Any, data: bytes = b"") -> bytes:
    """Return a safetensors file with this header, however wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(begin: int, end: int, shape: Any = (1,), dtype: Any = "F32") -> dict[str, Any]:
    """Return one tensor's fields in a header."""
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def update_map(**changed: Any) -> dict[str, Any]:
    """Return the fields of an update for round ``r``, some changed."""
    fields: dict[str, Any] = {
        "round_id": "r",
        "base_model_uri": BASE,
        "num_samples": 10,
        "metrics": {"loss": 0.5},
        "update": {"w": [1.0, 2.0], "b": 0.5},
    }
    return {**fields, **changed}
