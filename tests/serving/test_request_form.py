import numpy as np
import pytest

from bowerbird.errors import InputError
from bowerbird.kernels.keys import key_integer, key_text
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.encode import Encoder
from bowerbird.serving.request_form import RequestForm
from tests.shop import project

form = RequestForm(project)


def test_ids_become_their_declared_type() -> None:
    assert (form.user_id("42"), form.user_id(42), form.item_id(7)) == (42, 42, "7")
    assert form.item_ids(["a", 7, "b"]) == ["a", "7", "b"]
    for wrong in ("x", "", 1.5, True, None, 2**63, "9" * 30, [1]):
        with pytest.raises(InputError, match="user"):
            form.user_id(wrong)
    with pytest.raises(InputError, match="item is empty"):
        form.item_ids(["a", ""])


def test_keys_are_those_of_the_plan() -> None:
    ids = ["a", "ü", "long " * 20]
    np.testing.assert_array_equal(form.item_keys(ids), [key_text(each) for each in ids])
    np.testing.assert_array_equal(form.item_keys(ids), Encoder(compile_plan(project)).encode_items(ids))
    assert len(form.item_keys([])) == 0
    assert key_integer(42) != key_text("42")


def test_the_context_is_the_exposures_columns() -> None:
    assert form.context({"page": "3", "position": 2}) == {"page": 3, "position": 2.0}
    assert form.context({"page": None}) == {"page": None}
    with pytest.raises(InputError, match="Did you mean 'page'"):
        form.context({"pages": 1})
    for wrong in ({"position": "first"}, {"position": 10**400}, {"position": True}):
        with pytest.raises(InputError, match="number"):
            form.context(wrong)
