"""What every benchmark shares: the machine's description, tables, and the JSON that docs/benchmarks.md is made of."""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table

OUT = Path(__file__).parent / "out"
WORK = Path(os.environ.get("BOWERBIRD_BENCH_WORK", Path(__file__).parent / "work"))
_PACKAGES = ("bowerbird", "torch", "numpy", "pyarrow", "duckdb", "polars", "lightgbm", "uvicorn")


@dataclass(frozen=True)
class Row:
    """One measured figure; ``peer`` and ``ratio`` stay empty where nothing is compared.

    ``equal`` says whether the answers were found equal before anything was timed.
    """

    case: str
    ours: float
    unit: str
    peer: float | None = None
    ratio: float | None = None
    equal: bool | None = None
    note: str = ""


def data_folder(name: str) -> Path:
    """Return a folder of real data: $BOWERBIRD_DATA/NAME, or ../shared/data/NAME beside the project."""
    root = Path(os.environ.get("BOWERBIRD_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
    if not (root / name).is_dir():
        raise SystemExit(f"{root / name} is not there. Set BOWERBIRD_DATA to the folder that holds {name}/.")
    return root / name


def machine() -> dict[str, object]:
    """Describe the processor, the cores, the memory and the versions in use."""
    cpu = next(
        (line.split(":", 1)[1].strip() for line in _cpu_lines() if line.startswith("model name")), platform.machine()
    )
    features = next((line for line in _cpu_lines() if line.startswith("flags")), "")
    sets = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8") if f" {name}" in features]
    return {
        "cpu": cpu,
        "instruction_sets": sets,
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def _cpu_lines() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.is_file() else []


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def write(name: str, rows: list[Row], arguments: str = "", **more: object) -> Path:
    """Print the rows as a table and write ``bench/out/NAME.json``; ``arguments`` are what the script needs for them."""
    table = Table("case", "ours", "peer", "ratio", "unit", "equal", "note", title=name)
    for row in rows:
        table.add_row(
            row.case, f"{row.ours:,.5g}", _shown(row.peer), _shown(row.ratio), row.unit,
            "" if row.equal is None else "yes" if row.equal else "NO", row.note,
        )  # fmt: skip
    Console(width=140).print(table)
    OUT.mkdir(parents=True, exist_ok=True)
    file = OUT / f"{name}.json"
    content = {
        "name": name,
        "script": f"{_script()} {arguments}".strip(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine(),
        "rows": [asdict(row) for row in rows],
        **more,
    }
    file.write_text(json.dumps(content, indent=2) + "\n")
    return file


def _script() -> str:
    """Return which module of ``bench`` is run."""
    spec = sys.modules["__main__"].__spec__
    return spec.name.removeprefix("bench.").removesuffix(".__main__") if spec is not None else ""


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}"
