"""Which tests share a process (``pytest -n N --dist loadgroup``): those of a file, and all that compile every model.

Property tests have no deadline: a busy machine is no fault of theirs.
"""

import pytest
from hypothesis import settings

from bowerbird import _native

settings.register_profile("bowerbird", deadline=None)
settings.load_profile("bowerbird")

COMPILED = ("compiler/", "models/test_models.py")
"""Files whose tests look at the same compilations (``tests/compiler/cases.py``), which take a minute to make."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put each test into the group of its file."""
    for item in items:
        file = item.nodeid.partition("::")[0].removeprefix("tests/")
        item.add_marker(pytest.mark.xdist_group("compiled" if file.startswith(COMPILED) else file))


@pytest.fixture(params=["amx", "amx_emulated"])
def tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Compute layers on tile registers, the processor's where it has some and imitated ones; true if there are any."""
    monkeypatch.setenv("BOWERBIRD_ISA", request.param)
    try:
        return _native.has_tiles()
    except ValueError:
        pytest.skip(f"no {request.param} here")
