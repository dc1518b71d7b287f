"""Our power of two agrees with the library's, and its coefficients are the nearest doubles."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.kernels import exp2 as module
from bowerbird.kernels.exp2 import exp2, scale_by_power


@given(st.floats(-1000.0, 1000.0))
def test_exp2_is_near_the_librarys(x: float) -> None:
    assert exp2(x) == pytest.approx(math.exp2(x), rel=1e-11)


@pytest.mark.parametrize("exponent", [-1074, -1, 0, 1, 52, 1023])
def test_whole_powers_are_exact(exponent: int) -> None:
    assert exp2(float(exponent)) == math.ldexp(1.0, exponent)


def test_far_exponents_are_zero_or_infinite() -> None:
    assert exp2(-1e18) == 0.0
    assert exp2(1e18) == math.inf
    assert scale_by_power(-1.0, 5000) == -math.inf


def test_coefficients_are_the_nearest_doubles() -> None:
    with localcontext(prec=60):
        logarithm = Decimal(2).ln()
        exact = [float(logarithm**k / math.factorial(k)) for k in range(1, 13)]
    assert list(module._COEFFICIENTS) == [1.0, *exact]
