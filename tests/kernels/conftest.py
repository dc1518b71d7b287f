"""What tests of kernels have in common."""

import pytest

from bowerbird.errors import InputError
from bowerbird.kernels.pair import PairProgram
from tests.kernels.pair_cases import ISAS


@pytest.fixture(params=ISAS)
def isa(request, monkeypatch):
    """Make programs for each instruction set that this machine has."""
    monkeypatch.setenv("BOWERBIRD_ISA", request.param)
    try:
        assert PairProgram.isa() == request.param
    except InputError:
        pytest.skip(f"this machine has no {request.param}")
    return request.param
