"""Proof 4: the task side's names, strings and comments hold no learning word."""

import shutil
from pathlib import Path

import pytest

from .task_side import FOLDERS, ROOT, files_seen, words_in


def test_no_learning_word() -> None:
    """No file of the task side has a learning word in its name or text."""
    assert list(words_in(ROOT)) == []
    assert files_seen(ROOT) > 40  # the folders are where this test looks for them


@pytest.mark.parametrize(
    "text",
    [
        "quorum = 3", "# closes the round at k participants", 'TOPIC = "fl/rounds/start"',
        'to = "fml/updates"', "class FedAvg:", "def numSamples(): ...", "hyper_params = {}",
        "seconds since the epoch", "gradients", "aggregated = 1", "training_dir", "Federated",
    ],
)  # fmt: skip
def test_a_planted_word_is_found(text: str, tmp_path: Path) -> None:
    """The search sees each word in code, in comments and in strings."""
    for folder in FOLDERS:
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "chassis" / "new.py").write_text(f"x = 1\n{text}\n")
    assert list(words_in(tmp_path)) == [f"chassis/new.py:2: {text}"]


def test_a_planted_name_is_found(tmp_path: Path) -> None:
    """The search sees file and folder names."""
    shutil.copytree(ROOT / "specs" / "wire", tmp_path / "manager" / "fedavg")
    assert any("its name" in found for found in words_in(tmp_path))
