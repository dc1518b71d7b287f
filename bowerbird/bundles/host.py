"""What a host is, as far as the speed and the last bits of scores depend on it."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

import msgspec
import torch

from bowerbird.errors import InputError
from bowerbird.kernels.pair import EMULATED, PairProgram


class Host(msgspec.Struct, frozen=True):
    """A processor, the instruction sets in use, the threads of a model, and versions of what may compute it."""

    cpu: str
    native: str
    torch: str
    threads: int
    versions: str

    @property
    def fingerprint(self) -> str:
        """A short name: equal where every part is."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:12]


def this_host() -> Host:
    """Return what this process runs on; raises InputError for a BOWERBIRD_ISA that is not there or is emulated."""
    isa = PairProgram.isa()
    if isa == EMULATED:
        raise InputError(
            f"BOWERBIRD_ISA is {isa!r}, which is for tests: no way of serving is measured or chosen by it.", "Unset it."
        )
    return Host(
        cpu=_cpu(),
        native=isa,
        torch=torch.backends.cpu.get_cpu_capability().lower(),
        threads=torch.get_num_threads(),
        versions=f"bowerbird {metadata.version('bowerbird')}, torch {torch.__version__}{_openvino()}",
    )


@cache
def _openvino() -> str:
    try:
        return f", openvino {metadata.version('openvino')}"
    except metadata.PackageNotFoundError:
        return ""


@cache
def _cpu() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "CPU part")))
    return next(named, platform.processor() or platform.machine())
