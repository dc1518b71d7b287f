import pytest

from bowerbird.bundles.gates import GateLimits, auc_gate, calibration_gate, check_gates, log_loss_gate, parity_gate
from bowerbird.errors import GateError

LIMITS = GateLimits()
NAN = float("nan")


@pytest.mark.parametrize(("candidate", "passed"), [(0.75, True), (0.7481, True), (0.7479, False), (NAN, True)])
def test_auc_may_be_a_little_lower(candidate, passed):
    assert auc_gate("click", candidate, 0.75, LIMITS).passed is passed


@pytest.mark.parametrize(("candidate", "passed"), [(0.4, True), (0.5024, True), (0.5026, False)])
def test_log_loss_may_be_a_little_higher(candidate, passed):
    assert log_loss_gate("click", candidate, 0.5, LIMITS).passed is passed


@pytest.mark.parametrize(
    ("estimate", "low", "high", "passed"),
    [
        (1.0, 0.95, 1.05, True),
        (1.15, 1.05, 1.25, True),
        (1.15, 1.12, 1.18, False),
        (0.8, 0.7, 0.89, False),
        (0.8, 0.7, 0.91, True),
        (1.5, NAN, NAN, False),
        (NAN, NAN, NAN, True),
    ],
)
def test_calibration_fails_only_when_it_is_surely_wrong(estimate, low, high, passed):
    assert calibration_gate("click", estimate, low, high, LIMITS).passed is passed


@pytest.mark.parametrize(
    ("worst", "passed"), [(0.0, True), (1e-5, True), (1.1e-5, False), (float("inf"), False), (NAN, False)]
)
def test_parity(worst, passed):
    assert parity_gate(worst, LIMITS).passed is passed


def test_every_failed_gate_is_named():
    gates = [parity_gate(0.5, LIMITS), auc_gate("click", 0.5, 0.9, LIMITS), auc_gate("long", 0.9, 0.9, LIMITS)]
    with pytest.raises(GateError) as raised:
        check_gates(gates)
    assert "parity is 0.5, allowed at most 1e-05" in raised.value.what
    assert "auc.click is 0.5, allowed at least 0.8980" in raised.value.what
    assert "auc.long" not in raised.value.what
    assert "--force" in raised.value.remedy
    check_gates(gates[2:])
