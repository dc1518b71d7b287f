"""What each model learns in its first steps; ``python -m tests.models.golden`` writes the curves anew."""

import json

import numpy as np
import pytest

from bowerbird.models import MODELS
from tests.models.golden import FOLDER, curve


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_curve_is_the_golden_one(name):
    """A refactoring must not change what is learned; write the curve anew when a change is meant."""
    expected = json.loads((FOLDER / f"{name}.json").read_text())
    losses = curve(name)
    np.testing.assert_allclose(losses, expected, atol=5e-3, rtol=2e-3)
    assert losses[-1] < losses[0]


def test_every_curve_belongs_to_a_model():
    assert sorted(file.stem for file in FOLDER.glob("*.json")) == sorted(MODELS)
