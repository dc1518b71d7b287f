"""Which code trained a model."""

from __future__ import annotations

import functools
import hashlib
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_ROOMS = ("plan", "kernels", "embedding", "models", "training", "bundles")
_PACKAGES = ("bowerbird", "torch", "numpy", "pyarrow", "lightgbm")


@functools.cache
def code_version() -> str:
    """Return the package's version and 12 hexadecimal digits of the sources that shape a model."""
    try:
        number = version("bowerbird")
    except PackageNotFoundError:
        number = "0"
    digest = hashlib.sha256()
    package = Path(__file__).parent.parent
    for room in _ROOMS:
        for file in sorted((package / room).rglob("*.py")):
            digest.update(file.relative_to(package).as_posix().encode())
            digest.update(file.read_bytes())
    return f"{number}+{digest.hexdigest()[:12]}"


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that shape a model; those not installed are left out."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions
