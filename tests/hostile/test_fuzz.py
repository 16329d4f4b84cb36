"""A short run of the coverage-guided fuzzing of each decoder."""

import pytest

from .fuzz import CORPUS, is_available, run
from .fuzz_targets import TARGETS

SECONDS = 8
FEWEST = 500


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_has_no_finding(name: str) -> None:
    """Whatever was once found, and what fuzzing begins from (WIRE-020, WIRE-064)."""
    found = sorted((CORPUS / name).iterdir())
    assert found
    for path in found:
        TARGETS[name](path.read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_fuzzing_finds_nothing(name: str) -> None:
    """Nothing but refusals comes, and second readers agree (WIRE-020, WIRE-064)."""
    if not is_available():
        pytest.skip("SKIPPED LOUDLY: atheris is not installed (uv sync --group fuzz)")
    tried, said = run(name, SECONDS)
    assert tried > FEWEST, said
