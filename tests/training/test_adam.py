"""Adam in one call is PyTorch's fused Adam, and its state is read by either."""

import torch
from torch import nn

from bowerbird.training.adam import Adam

SHAPES = ((30, 4), (7,), (3, 5), ())


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(3)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def give_gradients(values: list[nn.Parameter], seed: int) -> None:
    """Give gradients to all but one parameter, which changes from step to step."""
    generator = torch.Generator().manual_seed(seed)
    for place, value in enumerate(values):
        value.grad = None if place == seed % len(values) else torch.randn(value.shape, generator=generator)


def train(optimiser: torch.optim.Optimizer, values: list[nn.Parameter], steps: range) -> None:
    for step in steps:
        give_gradients(values, step)
        optimiser.param_groups[0]["lr"] = 0.01 / (step + 1)
        optimiser.step()


def test_steps_are_torchs_bit_for_bit():
    ours, torchs = parameters(), parameters()
    one, other = Adam(ours, 0.01), torch.optim.Adam(torchs, lr=0.01, fused=True)
    train(one, ours, range(9))
    train(other, torchs, range(9))
    assert all(torch.equal(a, b) for a, b in zip(ours, torchs, strict=True))
    assert [int(one.state[value]["step"]) for value in ours] == [int(other.state[value]["step"]) for value in torchs]


def test_a_stored_state_goes_on_bit_for_bit():
    whole, begun = parameters(), parameters()
    train(Adam(whole, 0.01), whole, range(8))
    first = torch.optim.Adam(begun, lr=0.01, fused=True)
    train(first, begun, range(4))
    second = Adam(begun, 0.01)
    second.load_state_dict(first.state_dict())
    train(second, begun, range(4, 8))
    assert all(torch.equal(a, b) for a, b in zip(whole, begun, strict=True))


def test_a_closure_is_called():
    values = parameters()
    optimiser = Adam(values, 0.01)
    train(optimiser, values, range(1))
    assert optimiser.step(lambda: 0.25) == 0.25
