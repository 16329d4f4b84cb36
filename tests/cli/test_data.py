"""Digits are dealt without loss, CSV files are read or refused by line and column."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roost.cli.csv_data import read_csv
from roost.cli.digits import Split, deal, load_digits, split_off_test
from roost.cli.errors import UsageProblem
from roost.cli.state import StateDir

from .conftest import Answer

DIGITS = load_digits()


def rows(samples: Split) -> list[bytes]:
    """Each sample as bytes, sorted, to compare sets of samples."""
    return sorted(x.tobytes() + y.tobytes() for x, y in zip(samples.x, samples.y, strict=True))


def test_the_digits_are_the_set_that_scikit_learn_ships() -> None:
    """1,797 images of 64 pixels in 0..1, the published numbers of each digit."""
    assert DIGITS.x.shape == (1797, 64)
    assert DIGITS.x.dtype == np.float32
    assert DIGITS.y.dtype == np.int64
    assert (DIGITS.x.min(), DIGITS.x.max()) == (0.0, 1.0)
    assert np.bincount(DIGITS.y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=25)
def test_a_fifth_is_kept_for_tests_and_nothing_is_lost(seed: int) -> None:
    """Train and test are disjoint parts of the whole."""
    train, test = split_off_test(DIGITS, seed)
    assert len(test) == 359
    both = Split(np.concatenate([train.x, test.x]), np.concatenate([train.y, test.y]))
    assert rows(both) == rows(DIGITS)


@given(
    shares=st.integers(1, 12),
    seed=st.integers(0, 2**32),
    alpha=st.floats(0.2, 100),
    at_least=st.integers(0, 10),
)
@settings(deadline=None, max_examples=40)
def test_every_sample_is_dealt_to_exactly_one_part(
    shares: int, seed: int, alpha: float, at_least: int
) -> None:
    """Whatever the seed and the concentration."""
    parts = deal(DIGITS, shares, seed, alpha=alpha, at_least=at_least)
    assert len(parts) == shares
    assert min(map(len, parts)) >= at_least
    together = Split(np.concatenate([p.x for p in parts]), np.concatenate([p.y for p in parts]))
    assert rows(together) == rows(DIGITS)


def test_the_same_seed_deals_the_same_and_another_deals_otherwise() -> None:
    """So that a demo can be repeated."""

    def sizes(seed: int) -> list[int]:
        return [len(p) for p in deal(DIGITS, 5, seed, alpha=0.5, at_least=20)]

    assert sizes(3) == sizes(3)
    assert sizes(3) != sizes(4)


def test_a_small_concentration_makes_parts_differ_more() -> None:
    """The largest share of one digit in a part, on average."""

    def skew(alpha: float) -> float:
        parts = [p for s in range(5) for p in deal(DIGITS, 5, s, alpha=alpha, at_least=20)]
        return float(np.mean([np.bincount(p.y).max() / len(p) for p in parts]))

    assert skew(0.5) > 1.5 * skew(100)


def test_too_many_proplets_are_refused() -> None:
    """Rather than giving some of them nothing."""
    with pytest.raises(UsageProblem, match="cannot give each of 100 proplets"):
        deal(DIGITS, 100, 0, alpha=0.5, at_least=20)


def test_roost_data_digits(roost: Callable[..., Answer], state: StateDir) -> None:
    """Files in the proplets' folders; the test split in none of them."""
    answer = roost("data", "digits", "--proplets", 4, "--state", state.root, "--json")
    assert answer.code == 0
    assert sum(row["samples"] for row in answer.json) == 1797 - 359
    test_x = np.load(state.held_back("digits-test") / "x.npy")
    held_back = {x.tobytes() for x in test_x}
    for name in state.proplet_names():
        x = np.load(state.mount(name, "train") / "x.npy")
        y = np.load(state.mount(name, "train") / "y.npy")
        assert (x.dtype, y.dtype, x.shape) == (np.float32, np.int64, (len(y), 64))
        assert not held_back & {row.tobytes() for row in x} - duplicates()
    assert state.proplet_names() == ["proplet-1", "proplet-2", "proplet-3", "proplet-4"]


def duplicates() -> set[bytes]:
    """Images that the set itself holds twice, if any."""
    seen: dict[bytes, int] = {}
    for x in DIGITS.x:
        seen[x.tobytes()] = seen.get(x.tobytes(), 0) + 1
    return {x for x, times in seen.items() if times > 1}


def write(folder: Path, text: str | bytes) -> Path:
    """A CSV file."""
    file = folder / "x.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_a_csv_becomes_arrays(tmp_path: Path) -> None:
    """Columns keep their order, the label is taken out, blanks around names do not count."""
    file = write(tmp_path, '\ufeffa, y ,b\r\n1,0,2.5\r\n\r\n-3e1,2,"4"\r\n')
    samples = read_csv(file, "y")
    assert samples.x.dtype == np.float32
    assert samples.x.tolist() == [[1.0, 2.5], [-30.0, 4.0]]
    assert samples.y.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty: its first line must name the columns"),
        ("a,y\n", "has a header and no rows"),
        ("a,b\n1,2\n", "has no column 'y' for the label; it has a, b"),
        ("y\n1\n", "has no other column than the label 'y'"),
        ("a,a,y\n1,2,3\n", "line 1: column 'a' is there twice"),
        ("a,y\n1,0\n1\n", "line 3: 1 cells, but the header has 2"),
        ("a,y\n1,0\nx,1\n", "line 3, column 'a': 'x' is not a number"),
        ("a,y\n1,0\n,1\n", "line 3, column 'a': an empty cell is not a number"),
        ("a,y\nnan,0\n", "line 2, column 'a': 'nan' is not a finite 32-bit number"),
        ("a,y\n1e39,0\n", "line 2, column 'a': '1e39' is not a finite 32-bit number"),
        ("a,y\n1,1.5\n", "line 2, column 'y': the label '1.5' is not a whole number"),
        ("a,y\n1,-1\n", "line 2, column 'y': the label '-1' is not a whole number"),
        ("a,y\n1,cat\n", "line 2, column 'y': 'cat' is not a number"),
        ('a,y\n"1,0\n', "not CSV"),
        (b"a,y\n\xff\xfe,1\n", "is not UTF-8 text"),
    ],
)
def test_a_bad_csv_is_refused_by_line_and_column(
    tmp_path: Path, text: str | bytes, said: str
) -> None:
    """As an editor counts the lines."""
    with pytest.raises(UsageProblem) as caught:
        read_csv(write(tmp_path, text), "y")
    assert said in str(caught.value)
    assert "x.csv" in str(caught.value)


def test_a_line_number_counts_lines_inside_cells(tmp_path: Path) -> None:
    """A quoted cell may span lines."""
    with pytest.raises(UsageProblem, match="line 4, column 'a'"):
        read_csv(write(tmp_path, 'a,y\n"\n1",0\nx,0\n'), "y")


def test_roost_data_import(roost: Callable[..., Answer], tmp_path: Path, state: StateDir) -> None:
    """The rows become one mount of one proplet."""
    file = write(tmp_path, "a,b,y\n1,2,0\n3,4,1\n")
    args = ["data", "import", file, "--label", "y", "--proplet", "p", "--state", state.root]
    answer = roost(*args, "--mount", "own", "--json")
    assert answer.code == 0
    assert answer.json[0]["samples"] == 2
    assert answer.json[0]["classes"] == 2
    assert np.load(state.mount("p", "own") / "x.npy").tolist() == [[1, 2], [3, 4]]


def test_data_is_replaced_only_on_request(
    roost: Callable[..., Answer], tmp_path: Path, state: StateDir
) -> None:
    """Neither an import nor the digits overwrite what is there; both tell how."""
    file = write(tmp_path, "a,b,y\n1,2,0\n3,4,1\n")
    at = ["--state", state.root]
    args = ["data", "import", file, "--label", "y", "--proplet", "proplet-1", *at]
    first = roost(*args)
    assert (first.code, first.err) == (0, "")
    for again in (args, ["data", "digits", "--proplets", 2, *at]):
        answer = roost(*again)
        assert answer.code == 2
        assert "proplet-1 has data in 'train' already; --replace overwrites it" in answer.err
        assert len(np.load(state.mount("proplet-1", "train") / "y.npy")) == 2
    assert roost("data", "digits", "--proplets", 2, "--replace", *at).code == 0
    assert len(np.load(state.mount("proplet-1", "train") / "y.npy")) > 2


def test_a_slip_of_the_pen_is_told_and_gets_no_digits(
    roost: Callable[..., Answer], tmp_path: Path, state: StateDir
) -> None:
    """A folder that no proplet of this Roost has."""
    file = write(tmp_path, "a,b,y\n1,2,0\n3,4,1\n")
    at = ["--state", state.root]
    answer = roost("data", "import", file, "--label", "y", "--proplet", "porplet-1", *at)
    assert answer.code == 0
    assert "has no porplet-1 yet" in answer.err
    rows = roost("data", "digits", "--json", *at).json
    assert [row["proplet"] for row in rows] == [f"proplet-{n}" for n in range(1, 6)]


def test_a_missing_csv_is_a_usage_problem(roost: Callable[..., Answer]) -> None:
    """Exit code 2, in JSON as well."""
    answer = roost("data", "import", "no.csv", "--label", "y", "--proplet", "p", "--json")
    assert answer.code == 2
    assert answer.json == [
        {"error": "cannot read no.csv: No such file or directory", "exit_code": 2}
    ]
