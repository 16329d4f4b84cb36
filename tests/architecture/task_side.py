"""Where the task side is, and the words and packages that have no business there."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
FOLDERS: Final = ("specs/wire", "specs/task-protocol", "specs/phone-protocol", "chassis", "manager",
                  "proplet", "ios-bridge")  # fmt: skip
MEMBERS: Final = ("roost-wire", "roost-task-protocol", "roost-phone-protocol", "roost-chassis",
                  "roost-manager", "roost-proplet", "roost-ios-bridge")  # fmt: skip
WORDS: Final = re.compile(
    r"federat|fed_?avg|quorum|gradient|epoch|participant|num_?samples|hyper_?param|training"
    r"|aggregat|(?<![a-z])fl/|fml/|\bfl\b|\bml\b|neural|weights|learning",
    re.IGNORECASE,
)
SUFFIXES: Final = frozenset({".py", ".toml", ".md", ".json", ".txt", ".cfg", ".typed", ".pyi"})
LEARNING_PACKAGES: Final = frozenset(
    {
        "numpy", "scipy", "pandas", "scikit-learn", "torch", "tensorflow", "keras", "jax", "flax",
        "onnx", "onnxruntime", "safetensors", "msgpack", "ml-dtypes", "flwr", "nvflare", "xgboost",
        "lightgbm", "transformers", "polars", "pyarrow",
        "roost-round-protocol", "roost-coordinator", "roost-model-server", "roost-client-wasm",
        "roost-cli", "roost-specs",
    }
)  # fmt: skip


def words_in(root: Path) -> Iterator[str]:
    """Yield ``file:line: text`` for each learning word in the task side's names and contents."""
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if "__pycache__" in path.parts or path.is_dir() or path.suffix not in SUFFIXES:
                continue
            place = path.relative_to(root)
            if WORDS.search(str(place)):
                yield f"{place}: its name"
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if WORDS.search(line):
                    yield f"{place}:{number}: {line.strip()}"


def files_seen(root: Path) -> int:
    """Return how many Python files ``words_in`` reads."""
    return sum(
        1
        for folder in FOLDERS
        for path in (root / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    )


def locked_closure(lock: Path, package: str) -> set[str]:
    """Return the names of a package and all it needs, over all platforms and extras, by uv.lock.

    Args:
        lock: The lock file.
        package: Where to begin.
    """
    packages = tomllib.loads(lock.read_text(encoding="utf-8"))["package"]
    needs: dict[str, set[str]] = {}
    for each in packages:
        found = needs.setdefault(each["name"], set())
        found.update(one["name"] for one in each.get("dependencies", ()))
        for extra in each.get("optional-dependencies", {}).values():
            found.update(one["name"] for one in extra)
    seen: set[str] = set()
    pending = [package]
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            pending.extend(needs[name])
    return seen
