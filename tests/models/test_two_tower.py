"""Two towers: what they read, the in-batch softmax, and the frequencies that correct it."""

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.errors import InputError
from bowerbird.models.frequency import StreamingFrequency
from bowerbird.models.in_batch import in_batch_softmax
from bowerbird.models.ranker import Targets
from tests.models.built import built
from tests.training.synthetic import synthetic_plan

ROWS = 12


def targets_of(items, click=1.0, weight=1.0):
    labels = {"click": torch.full((len(items),), click), "long": torch.zeros(len(items))}
    return Targets(labels, torch.full((len(items),), weight), lambda: torch.as_tensor(items))


def test_each_tower_reads_its_own_stage():
    _, model = built("two_tower")
    features = model.inputs.example(ROWS, torch.Generator().manual_seed(1))
    stages = model.inputs.stages
    request, item = model.request_vectors(features), model.item_vectors(features)
    assert request.shape == item.shape == (ROWS, 64)
    assert torch.allclose(request.norm(dim=1), torch.ones(ROWS))
    for stage, unmoved, moved in (("request", model.item_vectors, request), ("item", model.request_vectors, item)):
        changed = {
            name: value + 1 if stages[name] == stage and value.is_floating_point() else value
            for name, value in features.items()
        }
        assert torch.equal(unmoved(changed), unmoved(features))
        same = model.request_vectors if stage == "request" else model.item_vectors
        assert not torch.allclose(same(changed), moved, atol=1e-3)
        only = {name: value for name, value in features.items() if stages[name] == stage}
        assert torch.equal(same(only), moved)


def brute_force(scores, item, probability, weight):
    """Return the mean of -log softmax with a dictionary of distinct items per row."""
    losses = []
    for row in range(len(item)):
        candidates = {int(item[row]): row}
        for column in range(len(item)):
            candidates.setdefault(int(item[column]), column)
        logits = {key: scores[row, column] - np.log(probability[column]) for key, column in candidates.items()}
        total = np.log(sum(np.exp(value) for value in logits.values()))
        losses.append(total - logits[int(item[row])])
    return np.average(losses, weights=weight)


@settings(max_examples=40)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9), st.integers(0, 999))
def test_the_in_batch_softmax_is_the_brute_force_one(items, seed):
    random = np.random.default_rng(seed)
    scores = random.normal(size=(len(items), len(items)))
    item, weight = np.array(items), random.random(len(items)) + 0.1
    of_item = {key: random.random() for key in items}
    probability = np.array([of_item[key] for key in items])
    loss = in_batch_softmax(*(torch.from_numpy(value) for value in (scores, item, probability, weight)))
    assert float(loss) == pytest.approx(brute_force(scores, item, probability, weight))


def test_the_correction_makes_batches_estimate_the_full_softmax():
    """Over many batches of a skewed distribution the corrected sum of exponentials is the one over all items."""
    random = np.random.default_rng(1)
    count, size = 50, 20
    share = 1 / np.arange(1, count + 1)
    share /= share.sum()
    inclusion = 1 - (1 - share) ** size
    scores = random.normal(size=count)
    sums = []
    for _ in range(4000):
        seen = np.unique(random.choice(count, size, p=share))
        sums.append((np.exp(scores[seen]) / inclusion[seen]).sum())
    assert np.mean(sums) == pytest.approx(np.exp(scores).sum(), rel=0.02)
    estimate = StreamingFrequency(4096, 0.01)
    for _ in range(3000):
        estimate.observe(torch.from_numpy(random.choice(count, size, p=share)))
    found = estimate.probability(torch.arange(count)).numpy()
    np.testing.assert_allclose(found, inclusion, rtol=0.4)
    assert np.corrcoef(np.log(found), np.log(inclusion))[0, 1] > 0.95


def test_frequencies_follow_the_paper_step_by_step():
    estimate = StreamingFrequency(1000, 0.25)
    gaps = {}
    latest = {}
    random = np.random.default_rng(2)
    for step in range(1, 60):
        keys = random.integers(0, 30, 8)
        estimate.observe(torch.from_numpy(keys))
        for key in set(keys.tolist()):
            gap = step - latest.get(key, 0)
            gaps[key] = 0.75 * gaps[key] + 0.25 * gap if key in gaps else gap
            latest[key] = step
    keys = np.array(sorted(gaps))
    expected = [1 / gaps[key] for key in keys.tolist()]
    np.testing.assert_allclose(estimate.probability(torch.from_numpy(keys)).numpy(), expected, rtol=1e-5)


def test_any_key_has_a_bucket():
    estimate = StreamingFrequency(7, 0.1)
    keys = torch.tensor([0, -1, 2**63 - 1, -(2**63), 12345678901234567])
    estimate.observe(keys)
    assert estimate.probability(keys).tolist() == [1, 1, 1, 1, 1]


def test_the_loss_is_the_in_batch_softmax_of_positives():
    _, model = built("two_tower", temperature=0.5, in_batch=2.0)
    features = model.inputs.example(6, torch.Generator().manual_seed(4))
    items = [1, 2, 2, 3, 4, 1]
    targets = targets_of(items)
    targets.labels["click"][:] = torch.tensor([1, 0, 1, torch.nan, 1, 0])
    model.train()
    done = model.training_pass(features)
    loss = model.auxiliary_loss(done, targets)
    cosines = (done.extras["request"] @ done.extras["item"].T).detach().numpy().astype(np.float64)
    expected = 2 * brute_force(cosines / 0.5, np.array(items), np.ones(6), [1, 0, 1, 0, 1, 0])
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    assert int(model.frequency.step) == 1
    model.eval()
    model.auxiliary_loss(done, targets)
    assert int(model.frequency.step) == 1
    assert float(model.auxiliary_loss(done, targets_of(items, click=0.0)).detach()) == 0


def test_without_pointwise_labels_train_the_affine_functions_alone():
    for pointwise in (True, False):
        _, model = built("two_tower", pointwise=pointwise)
        done = model.training_pass(model.inputs.example(6, torch.Generator().manual_seed(4)))
        weight = model.item.linear.weight
        found = torch.autograd.grad(done.logits["click"].sum(), weight, allow_unused=True, retain_graph=True)[0]
        assert (found is not None) == pointwise
        assert torch.autograd.grad(done.logits["click"].sum(), model.heads.scale)[0].abs().sum() > 0


def test_what_two_towers_cannot_do_is_said():
    plan = synthetic_plan()
    alone = msgspec.structs.replace(plan, features=[plan.feature("user")])
    with pytest.raises(InputError, match="no feature of the item alone"):
        built("two_tower", alone)
    with pytest.raises(InputError, match="Did you mean 'click'"):
        built("two_tower", positive="clik")
