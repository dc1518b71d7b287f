"""The NumPy twin of target attention as one pass: what weights events, and the gradients of all that it is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bowerbird.kernels.dense import (
    Values,
    linear_forward,
    linear_input_gradient,
    linear_weight_gradient,
    narrow_backward,
    narrow_forward,
    rounded,
)


@dataclass(frozen=True)
class Attention:
    """Events in parts [rows, length, width], where each meets the query (-1: nowhere), and the layers that score them.

    The first of ``weights`` has the ``shift`` [rows, hidden] in the place of a bias; ``score`` is [1, hidden].
    """

    parts: list[Values]
    meets: list[int]
    mask: npt.NDArray[np.bool_]
    query: Values
    shift: Values
    weights: list[Values]
    biases: list[Values]
    score: Values
    score_bias: Values
    scaled: bool


@dataclass(frozen=True)
class AttentionGradients:
    """The gradients of an attention's arrays."""

    parts: list[Values]
    query: Values
    shift: Values
    weights: list[Values]
    biases: list[Values]
    score: Values
    score_bias: Values


def attention_forward(given: Attention) -> Values:
    """Return the sums of events by their weights, [rows, width of all parts]."""
    events, (_, scores) = _events(given), _scored(given)
    result: Values = np.einsum("rl,rld->rd", _weights(given, scores), events).astype(np.float32)
    return result


def attention_backward(given: Attention, gradient: Values) -> AttentionGradients:
    """Return all gradients from that of the sums; an event that is not there has none."""
    rows, length = given.mask.shape
    events, (layers, scores) = _events(given), _scored(given)
    of_scores = _weights(given, np.einsum("rld,rd->rl", events, gradient)).reshape(-1, 1)
    back, of_score = narrow_backward(layers[-1], given.score, of_scores)
    weights: list[Values] = []
    biases: list[Values] = []
    for before, after, weight in zip(layers[-2::-1], layers[:0:-1], given.weights[::-1], strict=True):
        of_output = rounded(np.where(after > 0, back, 0))
        of_weight, of_bias = linear_weight_gradient(of_output, before)
        weights, biases = [of_weight, *weights], [of_bias, *biases]
        back = linear_input_gradient(of_output, weight)
    shift = of_output.reshape(rows, length, -1).sum(axis=1)
    of_inputs = back.reshape(rows, length, -1)
    of_events = of_inputs[..., : events.shape[2]] + _weights(given, scores)[..., None] * gradient[:, None]
    of_events[~given.mask] = 0
    parts, query = _met_back(given, of_events, of_inputs[..., events.shape[2] :])
    return AttentionGradients(parts, query, shift, weights, biases[1:], of_score, of_scores.sum(axis=0))


def _events(given: Attention) -> Values:
    return np.concatenate(given.parts, axis=2)


def _weights(given: Attention, scores: Values) -> Values:
    count = np.maximum(given.mask.sum(axis=1, keepdims=True), 1) if given.scaled else np.ones((1, 1))
    return np.where(given.mask, scores / np.sqrt(count), 0).astype(np.float32)


def _scored(given: Attention) -> tuple[list[Values], Values]:
    """Return what each layer was given and the last one made, [rows * length, width], and the scores [rows, length]."""
    rows, length = given.mask.shape
    products = np.zeros((rows, length, given.query.shape[1]), np.float32)
    for part, meets in zip(given.parts, given.meets, strict=True):
        if meets >= 0:
            columns = slice(meets, meets + part.shape[2])
            products[..., columns] = given.query[:, None, columns] * part
    layers = [np.concatenate([*given.parts, products], axis=2).reshape(rows * length, -1)]
    added = [np.repeat(given.shift, length, axis=0), *given.biases]
    for weight, bias in zip(given.weights, added, strict=True):
        layers.append(np.maximum(linear_forward(layers[-1], weight, None) + bias, 0))
    scores = narrow_forward(layers[-1], given.score, np.tile(given.score_bias, (rows * length, 1)))
    return layers, scores.reshape(rows, length)


def _met_back(given: Attention, of_events: Values, of_products: Values) -> tuple[list[Values], Values]:
    """Return the gradients of the parts and of the query."""
    parts, query = [], np.zeros_like(given.query)
    starts = np.cumsum([0, *(part.shape[2] for part in given.parts)])
    for part, meets, start in zip(given.parts, given.meets, starts, strict=False):
        of_part = of_events[..., start : start + part.shape[2]].copy()
        if meets >= 0:
            columns = slice(meets, meets + part.shape[2])
            of_part += of_products[..., columns] * given.query[:, None, columns]
            query[:, columns] = (of_products[..., columns] * part).sum(axis=1)
        parts.append(of_part)
    return parts, query
