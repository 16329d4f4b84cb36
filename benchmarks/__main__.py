"""Run all measurements and write benchmarks/results.md; `make bench ARGS=guest`: a section.

Every row stands beside its limit or peer, measured in the same run; only ratios mean anything on
another machine. Nothing here is asserted by a test.
"""

import datetime as dt
import importlib
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

TOPICS = ("rounds", "scale", "faults", "averaging", "forwarding", "guest", "proplet")
RESULTS = Path(__file__).with_name("results.md")
HEADER = """\
# Benchmark results

Written by `make bench`. Each value stands beside its limit or peer, measured in the same run on the
same machine unless the peer says otherwise; quote the ratios, not the absolute times.

"""


def main(wanted: list[str]) -> int:
    """Measure the wanted topics, or all, and write the page.

    Returns:
        The exit code: 1 when a row misses its budget.
    """
    unknown = set(wanted) - set(TOPICS)
    if unknown:
        print(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(TOPICS)}")
        return 2
    sections, missed = read_sections(), 0
    for topic in wanted or TOPICS:
        print(f"measuring {topic} …", flush=True)
        before = os.getloadavg()[0]
        module = importlib.import_module(f"benchmarks.{topic}.run")
        rows = module.measure()
        missed += sum(not row["met"] for row in rows)
        about = getattr(module, "ABOUT", (module.__doc__ or "").splitlines()[0])
        sections[topic] = section(topic, about, rows, before)
        print(sections[topic])
        known = [sections[each] for each in TOPICS if each in sections]
        RESULTS.write_text(HEADER + machine() + "\n" + "\n".join(known))
    print(f"wrote {RESULTS}")
    return 1 if missed else 0


def read_sections() -> dict[str, str]:
    """Return the sections that the page has, by topic; those not measured now stay."""
    text = RESULTS.read_text() if RESULTS.exists() else ""
    found = re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]
    return {each.partition("\n")[0].removeprefix("## "): each.rstrip("\n") + "\n" for each in found}


def machine() -> str:
    """Describe the machine."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"Machine: {os.cpu_count()} × {model}, {memory:.0f} GiB, {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}.\n"
    )


def section(topic: str, title: str, rows: list[dict[str, Any]], load: float) -> str:
    """Return the Markdown table of one topic."""
    lines = [
        f"## {topic}",
        "",
        f"{title} {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC; load before: {load:.2f}.",
        "",
        "| what | measured | limit or peer | its value | ratio | budget | met |",
        "| --- | ---: | --- | ---: | ---: | --- | --- |",
    ]
    for row in rows:
        ratio = "–" if row["ratio"] is None else f"{row['ratio']:.2f}"
        peer_value = "–" if row["peer_value"] is None else number(row["peer_value"], row["unit"])
        lines.append(
            f"| {row['row']} | {number(row['value'], row['unit'])} | {row['peer']} | {peer_value} "
            f"| {ratio} | {row['budget']} | {'yes' if row['met'] else '**no**'} |"
        )
    return "\n".join(lines) + "\n"


def number(value: float | str, unit: str) -> str:
    """Write a value with three significant digits and its unit."""
    return value if isinstance(value, str) else f"{value:,.3g} {unit}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
