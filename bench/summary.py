"""Writes docs/benchmarks.md from the figures in bench/out: ``python -m bench.summary``."""

from __future__ import annotations

import json
from pathlib import Path

from bench.common import OUT

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
_HEADER = """# Benchmarks

Each table is what one script under `bench/` printed on the machine and the day named above it; run it to get yours.
*equal* says whether answers were found equal before anything was timed.
"""


def section(file: Path) -> str:
    """Return one script's figures as Markdown."""
    content = json.loads(file.read_text())
    machine = content["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        f"## {content['name']}",
        "",
        f"`python -m bench.{content['script']}` on {content['date']}: {machine['cpu']}, "
        f"{machine['cores']} cores, {machine['memory_gib']} GiB, {', '.join(machine['instruction_sets'])}; "
        f"Python {machine['python']}, {versions}.",
        "",
        "| case | ours | peer | ratio | unit | equal | note |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in content["rows"]:
        equal = "" if row["equal"] is None else "yes" if row["equal"] else "NO"
        shown = [_number(row[name]) for name in ("ours", "peer", "ratio")]
        lines.append(f"| {row['case']} | {' | '.join(shown)} | {row['unit']} | {equal} | {row['note']} |")
    if content.get("note"):
        lines += ["", content["note"]]
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.5g}"


def main() -> None:
    sections = [section(file) for file in sorted(OUT.glob("*.json"))]
    PAGE.write_text("\n".join([_HEADER, *sections]))
    print(PAGE)


if __name__ == "__main__":
    main()
