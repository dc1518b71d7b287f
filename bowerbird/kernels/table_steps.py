"""Optimiser steps of one row in float32, operation for operation as native/src/table/kernels.cpp."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bowerbird.kernels.table_config import FTRL, SGD, Adagrad, Adam, Optimiser, RowWiseAdagrad
from bowerbird.kernels.table_numbers import Floats

_BLOCK = 16
_f32 = np.float32


@dataclass(frozen=True)
class StepNumbers:
    """What a step knows beside the row: rates, and for Adam its bias corrections, all float32."""

    learning_rate: np.float32
    step_size: np.float32
    root_correction: np.float32

    @staticmethod
    def of(optimiser: Optimiser, learning_rate: float | None, step: int) -> StepNumbers:
        """Return the numbers of a table's step, counted from 1."""
        rate = _f32(optimiser.learning_rate if learning_rate is None else learning_rate)
        if not isinstance(optimiser, Adam):
            return StepNumbers(rate, _f32(0), _f32(1))
        left1 = 1.0 - float(_f32(optimiser.beta1)) ** step
        left2 = 1.0 - float(_f32(optimiser.beta2)) ** step
        return StepNumbers(rate, _f32(float(rate) / left1), _f32(math.sqrt(left2)))


def first_state(optimiser: Optimiser, weights: Floats) -> list[Floats]:
    """Return a new row's state: no, one or two arrays."""
    if isinstance(optimiser, SGD):
        return []
    if isinstance(optimiser, RowWiseAdagrad):
        return [np.full(1, optimiser.initial, np.float32)]
    if isinstance(optimiser, Adagrad):
        return [np.full(len(weights), optimiser.initial, np.float32)]
    if isinstance(optimiser, Adam):
        return [np.zeros(len(weights), np.float32), np.zeros(len(weights), np.float32)]
    root = np.sqrt(_f32(optimiser.initial))
    slope = (_f32(optimiser.beta) + root) / _f32(optimiser.learning_rate) + _f32(optimiser.l2)
    first = np.where(weights == 0, _f32(0), -weights * slope - np.copysign(_f32(optimiser.l1), weights))
    return [first, np.full(len(weights), optimiser.initial, np.float32)]


def step(optimiser: Optimiser, numbers: StepNumbers, weights: Floats, state: list[Floats], gradient: Floats) -> Floats:
    """Return a row's weights after a step with its summed gradient; ``state`` is changed in place."""
    if optimiser.clip > 0:
        norm = np.sqrt(_sum(gradient * gradient))
        if norm > _f32(optimiser.clip):
            gradient = gradient * (_f32(optimiser.clip) / norm)
    if optimiser.l2 != 0 and not isinstance(optimiser, FTRL):
        gradient = gradient + _f32(optimiser.l2) * weights
    rate = numbers.learning_rate
    if isinstance(optimiser, SGD):
        return weights - rate * gradient
    if isinstance(optimiser, RowWiseAdagrad):
        state[0] += _sum(gradient * gradient) / _f32(len(weights))
        row_rate = _f32(rate / (np.sqrt(state[0]) + _f32(optimiser.epsilon)))
        return weights - row_rate * gradient
    if isinstance(optimiser, Adagrad):
        state[0] += gradient * gradient
        root = (np.sqrt(state[0]) + _f32(optimiser.epsilon)).astype(np.float32)
        return weights - rate * gradient / root
    if isinstance(optimiser, Adam):
        return _adam(optimiser, numbers, weights, state, gradient)
    return _ftrl(optimiser, rate, weights, state, gradient)


def _adam(optimiser: Adam, numbers: StepNumbers, weights: Floats, state: list[Floats], gradient: Floats) -> Floats:
    first, second = state
    beta1, beta2 = _f32(optimiser.beta1), _f32(optimiser.beta2)
    first += (_f32(1) - beta1) * (gradient - first)
    second[:] = beta2 * second + (_f32(1) - beta2) * (gradient * gradient)
    root = (np.sqrt(second) / numbers.root_correction + _f32(optimiser.epsilon)).astype(np.float32)
    return weights - numbers.step_size * first / root


def _ftrl(optimiser: FTRL, rate: np.float32, weights: Floats, state: list[Floats], gradient: Floats) -> Floats:
    first, second = state
    inverse = _f32(1) / rate
    before = np.sqrt(second)
    second += gradient * gradient
    root = np.sqrt(second)
    first += gradient - (root - before) * inverse * weights
    size = np.abs(first) - _f32(optimiser.l1)
    moved = -np.copysign(size, first) / ((_f32(optimiser.beta) + root) * inverse + _f32(optimiser.l2))
    return np.where(size > 0, moved, _f32(0))


def _sum(values: Floats) -> np.float32:
    """Add up in sixteen lanes, then the lanes in halves: the order of the native sum."""
    padded = np.zeros(-(-len(values) // _BLOCK) * _BLOCK, np.float32)
    padded[: len(values)] = values
    lanes = np.zeros(_BLOCK, np.float32)
    for block in padded.reshape(-1, _BLOCK):
        lanes = lanes + block
    while len(lanes) > 1:
        lanes = lanes[: len(lanes) // 2] + lanes[len(lanes) // 2 :]
    total: np.float32 = lanes[0]
    return total
