"""The loss of a batch is PyTorch's cross entropy, weighted, over mature labels; its gradient, too."""

import pytest
import torch
from torch.nn import functional

from bowerbird import _native
from bowerbird.models.ranker import Targets
from bowerbird.training.losses import task_losses

ROWS = 50


def targets(label: torch.Tensor, weight: torch.Tensor) -> Targets:
    return Targets({"click": label}, weight, lambda: torch.zeros(len(label), dtype=torch.int64))


def expected(logits: torch.Tensor, label: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    mature = ~label.isnan()
    entropy = functional.binary_cross_entropy_with_logits(
        logits[mature].double(), label[mature].double().unsqueeze(1).expand(-1, logits.shape[1]), reduction="none"
    )
    return (entropy.mean(dim=1) * weight[mature]).sum() / weight[mature].sum()


@pytest.mark.parametrize("members", [1, 4])
@pytest.mark.parametrize("scale", [1.0, 60.0])
def test_loss_and_gradient_are_those_of_mature_labels(members, scale):
    generator = torch.Generator().manual_seed(members)
    logits = (scale * torch.randn(ROWS, members, generator=generator)).requires_grad_()
    label = torch.randint(0, 2, (ROWS,), generator=generator).float()
    label[::7] = torch.nan
    weight = torch.rand(ROWS, generator=generator)
    loss, wanted = task_losses({"click": logits}, targets(label, weight))["click"], expected(logits, label, weight)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-6)
    (found,), (gradient,) = (torch.autograd.grad(3 * each, logits) for each in (loss, wanted))
    assert torch.allclose(found, gradient, rtol=1e-5, atol=1e-8) and not found[::7].any()


def test_labels_between_and_logits_in_bfloat16():
    logits = torch.tensor([[0.5], [-2.0]], dtype=torch.bfloat16, requires_grad=True)
    label, weight = torch.tensor([0.25, 1.0]), torch.ones(2)
    loss = task_losses({"click": logits}, targets(label, weight))["click"]
    loss.backward()
    assert loss.item() == pytest.approx(expected(logits, label, weight).item(), rel=1e-6)
    assert logits.grad.dtype == torch.bfloat16


def test_without_a_mature_label_nothing_is_lost():
    logits = torch.randn(3, 1, requires_grad=True)
    loss = task_losses({"click": logits}, targets(torch.full((3,), torch.nan), torch.ones(3)))["click"]
    loss.backward()
    assert loss.item() == 0.0 and not logits.grad.any()


def test_what_is_no_number_shows_in_the_loss():
    logits = torch.tensor([[torch.nan], [1.0]])
    assert task_losses({"click": logits}, targets(torch.ones(2), torch.ones(2)))["click"].isnan()


def test_threads_do_not_change_a_losss_bits():
    generator = torch.Generator().manual_seed(0)
    logits, label, weight = (torch.rand(5000, generator=generator) for _ in range(3))
    found = []
    for threads in (1, 2, 5):
        gradient = torch.empty(5000, 1)
        loss = _native.cross_entropy(logits.unsqueeze(1), label, weight, gradient, threads)
        found.append((loss, gradient.numpy().tobytes()))
    assert len(set(found)) == 1


def test_arrays_of_other_rows_are_refused():
    logits, gradient = torch.zeros(3, 2), torch.zeros(3, 2)
    for label, weight, into in [(2, 3, gradient), (3, 4, gradient), (3, 3, torch.zeros(3, 1))]:
        with pytest.raises(ValueError, match=r"other rows|differ in shape"):
            _native.cross_entropy(logits, torch.zeros(label), torch.zeros(weight), into, 1)
    with pytest.raises(ValueError, match="empty"):
        _native.cross_entropy(torch.zeros(0, 2), torch.zeros(0), torch.zeros(0), torch.zeros(0, 2), 1)
