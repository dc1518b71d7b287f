"""Powers of two by additions and multiplications alone: the same bits here, in C++ and on every machine.

The coefficients of 2^f are (ln 2)^k / k!, those of its Taylor series;
``native/src/base/exp2.hpp`` holds the same doubles.
"""

from __future__ import annotations

import math

_COEFFICIENTS = (
    1.0,
    0.69314718055994529,
    0.24022650695910072,
    0.055504108664821583,
    0.0096181291076284769,
    0.0013333558146428443,
    0.00015403530393381609,
    1.5252733804059841e-05,
    1.321548679014431e-06,
    1.01780860092397e-07,
    7.0549116208011234e-09,
    4.4455382718708116e-10,
    2.5678435993488206e-11,
)
_LIMIT = 4096.0
"""Beyond this exponent a double is 0 or infinite whatever it is multiplied with."""


def exp2(x: float) -> float:
    """Return 2 to the power of a finite x with a relative error below 1e-11; 0 or infinity where it leaves a double."""
    x = min(max(x, -_LIMIT), _LIMIT)
    whole = math.floor(x)
    fraction = x - whole
    power = _COEFFICIENTS[-1]
    for coefficient in _COEFFICIENTS[-2::-1]:
        power = power * fraction + coefficient
    return scale_by_power(power, whole)


def scale_by_power(value: float, exponent: int) -> float:
    """Return ``value * 2**exponent``, rounded once, infinite where it overflows (as C's ``ldexp``)."""
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.copysign(math.inf, value)
