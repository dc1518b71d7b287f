"""Features that are looked up late are a dict of tensors, each looked up once."""

import numpy as np
import pytest
import torch

from bowerbird.embedding.deferred import DeferredFeatures, TableColumns, TableRows, in_place, stretches
from bowerbird.embedding.exact_tables import ExactTables


@pytest.fixture
def tables():
    made = ExactTables(4)
    made.put({"tag": torch.randn(5, 4), "video": torch.randn(9, 4)})
    return made


@pytest.fixture
def features(tables):
    rows = np.array([[0, 8, 8], [3, 0, 1]], np.int32)
    unread = {"played.video": TableRows(tables.handed(), *tables.range_of("video"), rows)}
    return DeferredFeatures({"age": torch.ones(2)}, unread)


def test_it_is_a_dict_of_tensors(features, tables):
    assert list(features) == ["age", "played.video"] and len(features) == 2 and "played.video" in features
    assert "played.author" not in features and features.get("played.author") is None and features.unread
    expected = tables.view("video")[torch.tensor([[0, 8, 8], [3, 0, 1]])]
    for whole in ({**features}, dict(features), features | {}, dict(features.items()), features.copy()):
        assert list(whole) == ["age", "played.video"] and torch.equal(whole["played.video"], expected)
    assert features["played.video"] is features["played.video"] and not features.unread
    with pytest.raises(KeyError):
        features["played.author"]


def test_what_was_set_or_read_is_no_row_of_a_table(features):
    assert isinstance(in_place(features, "played.video"), TableRows)
    features["played.video"] = torch.zeros(2, 3, 4)
    assert torch.equal(in_place(features, "played.video"), torch.zeros(2, 3, 4))
    del features["played.video"]
    assert list(features) == ["age"] and torch.equal(in_place(features, "age"), torch.ones(2))


def test_what_was_deleted_is_not_looked_up(features):
    del features["played.video"]
    assert "played.video" not in features and len(features) == 1


def test_lookups_that_hand_on_a_table_add_to_one_gradient(tables):
    columns = [np.array([0, 3, 3]), np.array([[13, 3], [2, 2]])]
    weights = [torch.randn(3, 4), torch.randn(2, 2, 4)]
    handed = tables.handed()
    for lookups in ([handed.look_up([each])[0] for each in columns], tables(columns)):
        tables.rows.grad = None
        sum((found * weight).sum() for found, weight in zip(lookups, weights, strict=True)).backward()
        expected = torch.zeros(14, 4)
        for column, weight in zip(columns, weights, strict=True):
            expected.index_add_(0, torch.from_numpy(column.reshape(-1)), weight.reshape(-1, 4))
        assert torch.allclose(tables.rows.grad, expected, atol=1e-6)


PLACES = np.array([[0, 4, 8, 1], [3, 0, 1, 1], [3, 2, 8, 0]], np.int32)


def _columns(tables):
    columns = {"tag": (1, 0), "video": (2, 5), "other_tag": (3, 0)}
    waiting = TableColumns(tables.handed(), PLACES, columns)
    return DeferredFeatures({"age": torch.ones(3)}, dict.fromkeys(columns, waiting))


def _expected(tables):
    places = torch.from_numpy(PLACES).long()
    parts = {"tag": (1, "tag"), "video": (2, "video"), "other_tag": (3, "tag")}
    return {name: tables.view(vocabulary)[places[:, column]] for name, (column, vocabulary) in parts.items()}


def test_columns_are_read_together_one_by_one_or_side_by_side(tables):
    expected = _expected(tables)
    for names in (["video", "tag"], ["tag", "video", "other_tag"]):
        (whole,) = stretches(_columns(tables), names)
        assert torch.equal(whole, torch.cat([expected[name] for name in names], dim=1))
    together = _columns(tables)
    assert torch.equal(together["video"], expected["video"]) and not together.unread
    assert [len(each) for each in (stretches(together, ["tag", "video"]), stretches(_columns(tables), []))] == [2, 0]
    after = _columns(tables)
    stretches(after, ["tag", "video"])
    assert torch.equal(after["tag"], expected["tag"]) and list(after.unread) == ["video", "other_tag"]
    assert torch.equal(in_place(after, "video"), expected["video"])


def test_a_column_that_was_set_does_not_stand_in_a_table(tables):
    features = _columns(tables)
    features["tag"] = torch.zeros(3, 4)
    tag, video = stretches(features, ["tag", "video"])
    assert not tag.any() and torch.equal(video, _expected(tables)["video"])


def test_columns_side_by_side_and_one_by_one_add_to_one_gradient(tables):
    weights = torch.randn(3, 12)
    gradients = []
    for whole in (True, False):
        features, tables.rows.grad = _columns(tables), None
        parts = stretches(features, ["tag", "video", "other_tag"]) if whole else [
            features[name] for name in ("tag", "video", "other_tag")
        ]
        (torch.cat(parts, dim=1) * weights + (features["video"] ** 2).sum()).sum().backward()
        gradients.append(tables.rows.grad)
    assert torch.allclose(*gradients, atol=1e-5) and gradients[0].any()
