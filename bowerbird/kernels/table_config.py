"""How an embedding table is made: precision, optimiser, admission, expiry; the native table and its twin take it."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from bowerbird.errors import InputError

Precision: TypeAlias = Literal["float32", "float16", "bfloat16"]
Rounding: TypeAlias = Literal["stochastic", "nearest"]
Evicted: TypeAlias = Literal["least_recent", "least_frequent"]

PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "bfloat16")
EVICTED: tuple[Evicted, ...] = ("least_recent", "least_frequent")


@dataclass(frozen=True, kw_only=True)
class Step:
    """What every optimiser has.

    A row's gradients in a batch are summed, then clipped, then ``l2 * weight`` is added, then the optimiser steps.
    """

    learning_rate: float = 0.01
    """The rate of a step whose call names none."""
    l2: float = 0.0
    """Factor of the weight that is added to its gradient: half of it times the squared weight is the penalty."""
    clip: float = 0.0
    """The largest norm of a row's summed gradient; 0 for none."""


@dataclass(frozen=True, kw_only=True)
class SGD(Step):
    """Plain descent: no state."""


@dataclass(frozen=True, kw_only=True)
class Adagrad(Step):
    """A sum of squares for each weight (Duchi, Hazan and Singer, JMLR 2011): one float32 of state per weight."""

    epsilon: float = 1e-10
    initial: float = 0.0
    """What the sums begin with."""


@dataclass(frozen=True, kw_only=True)
class RowWiseAdagrad(Step):
    """A sum of mean squares for each row, as in TorchRec and FBGEMM: one float32 of state per row."""

    epsilon: float = 1e-8
    initial: float = 0.0
    """What the sums begin with."""


@dataclass(frozen=True, kw_only=True)
class Adam(Step):
    """Adam (Kingma and Ba, ICLR 2015), two float32 of state per weight; steps are counted for the table as a whole.

    Lazy by default: a row moves only in batches that it is in. ``exact`` steps every row of the table in every update,
    which is ``torch.optim.Adam`` with ``weight_decay=l2`` over the whole table, at the cost of the whole table.
    """

    learning_rate: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    exact: bool = False


@dataclass(frozen=True, kw_only=True)
class FTRL(Step):
    """FTRL-proximal (McMahan et al., KDD 2013, algorithm 1), two float32 of state per weight.

    ``learning_rate`` is the paper's alpha and ``l2`` its lambda 2, inside the closed form. The first state is such
    that the closed form gives the initial weight (with the configured rate); 0 for a weight of 0, as in the paper.
    """

    beta: float = 1.0
    l1: float = 0.0
    initial: float = 0.0
    """What the sums of squares begin with."""


Optimiser: TypeAlias = SGD | Adagrad | RowWiseAdagrad | Adam | FTRL
OPTIMISERS: tuple[type[Optimiser], ...] = (SGD, Adagrad, RowWiseAdagrad, Adam, FTRL)


@dataclass(frozen=True, kw_only=True)
class Admission:
    """When a new key gets a row: until then it shares row 1."""

    minimum_count: int = 1
    """How often it must have been seen, 1 to 255."""
    probability: float = 1.0
    """The chance of each sight from there on; drawn by hashing the key and its count."""
    filter_keys: int = 1_000_000
    """So many new keys may be counted before all counts halve: this bounds the filter's memory."""
    filter_error: float = 0.01
    """The chance that a key never seen counts as seen, with ``filter_keys`` keys in the filter."""


@dataclass(frozen=True, kw_only=True)
class Expiry:
    """When a key loses its row; 0 is never. Times are seconds since the key was last admitted or used in training."""

    max_age: float = 0.0
    """``expire`` removes keys unused for longer."""
    rare_age: float = 0.0
    """``expire`` removes keys unused for longer that were used fewer than ``rare_uses`` times."""
    rare_uses: int = 0
    max_bytes: int = 0
    """Rows, index and filter together take at most so much; a key must go before another one comes."""
    evicted: Evicted = "least_recent"
    """Which goes, among some eighty that are looked at: the longest unused, or the one with the fewest uses."""


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """One table; raises InputError where a setting makes no sense."""

    dimension: int = 16
    precision: Precision = "float32"
    """Of the weights at rest; arithmetic and optimiser state are float32."""
    rounding: Rounding = "stochastic"
    """How a step rounds float16 and bfloat16 weights; stochastic keeps small steps alive on average."""
    initial_scale: float = 0.01
    """Standard deviation of a new row, whose numbers depend on seed, key and position alone."""
    seed: int = 0
    optimiser: Optimiser = field(default_factory=RowWiseAdagrad)
    admission: Admission = field(default_factory=Admission)
    expiry: Expiry = field(default_factory=Expiry)

    def __post_init__(self) -> None:
        admission, expiry, optimiser = self.admission, self.expiry, self.optimiser
        _require(1 <= self.dimension <= 65536, "dimension", self.dimension, "Use 1 to 65536.")
        _require(self.precision in PRECISIONS, "precision", self.precision, f"Use one of {', '.join(PRECISIONS)}.")
        _require(self.rounding in ("stochastic", "nearest"), "rounding", self.rounding, "Use stochastic or nearest.")
        _require(_finite(self.initial_scale), "initial_scale", self.initial_scale, "Use 0 or more.")
        _require(0 <= self.seed < 2**64, "seed", self.seed, "Use 0 to 2^64 - 1.")
        _require(
            isinstance(optimiser, OPTIMISERS), "optimiser", optimiser, "Use SGD, Adagrad, RowWiseAdagrad, Adam or FTRL."
        )
        _require(optimiser.learning_rate > 0, "learning_rate", optimiser.learning_rate, "Use more than 0.")
        for name, value in dataclasses.asdict(optimiser).items():
            _require(_finite(value), name, value, "Use a finite number of 0 or more.")
        if isinstance(optimiser, Adam):
            _require(optimiser.beta1 < 1 and optimiser.beta2 < 1, "beta1 or beta2", optimiser, "Use less than 1.")
            exact_half = optimiser.exact and self.precision != "float32"
            _require(not exact_half, "precision of an exact table", self.precision, "Use float32.")
        _require(1 <= admission.minimum_count <= 255, "minimum_count", admission.minimum_count, "Use 1 to 255.")
        _require(0 < admission.probability <= 1, "probability", admission.probability, "Use more than 0, at most 1.")
        _require(admission.filter_keys >= 1, "filter_keys", admission.filter_keys, "Use 1 or more.")
        _require(0 < admission.filter_error < 1, "filter_error", admission.filter_error, "Use a share between 0 and 1.")
        for name in ("max_age", "rare_age", "rare_uses", "max_bytes"):
            value = getattr(expiry, name)
            _require(_finite(value) and (name == "max_bytes" or value < 2**32), name, value, "Use 0 for never.")
        _require(expiry.evicted in EVICTED, "evicted", expiry.evicted, f"Use one of {', '.join(EVICTED)}.")

    def to_json(self) -> str:
        """Return the configuration as JSON, the optimiser's name beside its settings."""
        content = dataclasses.asdict(self)
        content["optimiser"]["name"] = type(self.optimiser).__name__
        return json.dumps(content)

    @staticmethod
    def from_json(text: str) -> TableConfig:
        """Read what ``to_json`` wrote; raises InputError for anything else."""
        try:
            content: dict[str, Any] = json.loads(text)
            optimiser = dict(content.pop("optimiser"))
            kinds: dict[str, type[Optimiser]] = {kind.__name__: kind for kind in OPTIMISERS}
            made = kinds[optimiser.pop("name")](**optimiser)
            admission, expiry = Admission(**content.pop("admission")), Expiry(**content.pop("expiry"))
            return TableConfig(optimiser=made, admission=admission, expiry=expiry, **content)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"This is not the configuration of a table: {text[:200]!r} ({error}).", "Was another version used?"
            ) from error


def _finite(value: float) -> bool:
    return math.isfinite(value) and value >= 0


def _require(holds: bool, name: str, value: object, remedy: str) -> None:
    if not holds:
        raise InputError(f"A table cannot have {name} {value!r}.", remedy)
