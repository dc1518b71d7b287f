"""Copies FuxiCTR's weights into our models, by name; each function returns the names that it has used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Weights = dict[str, Tensor]
"""By name; FuxiCTR's own begin with ``weight/``."""
Model = Any


class Source:
    """FuxiCTR's weights; what is read is remembered."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        self.used.add(f"weight/{name}")
        return self.weights[f"weight/{name}"]

    def has(self, name: str) -> bool:
        """Return whether there is such a weight."""
        return f"weight/{name}" in self.weights

    def layer(self, name: str, target: Model, unknown: int = 0) -> None:
        """Copy weight and bias of a layer, and a batch norm's statistics.

        Our last ``unknown`` inputs are none of FuxiCTR's: they count nothing.
        """
        for part in ("bias", "running_mean", "running_var"):
            if self.has(f"{name}.{part}"):
                getattr(target, part).copy_(self[f"{name}.{part}"])
        if self.has(f"{name}.weight"):
            weight = self[f"{name}.weight"]
            target.weight.copy_(functional.pad(weight, (0, unknown)) if unknown else weight)

    def mlp(self, name: str, target: Model, unknown: int = 0) -> str:
        """Copy an MLP block's hidden layers, the first as ``layer`` does; return the name of the layer after them."""
        place = 0
        for ours in range(0, len(target), 2):
            self.layer(f"{name}.{place}", target[ours], unknown if ours == 0 else 0)
            place += 1
            if target[ours + 1].norm is not None:
                self.layer(f"{name}.{place}", target[ours + 1].norm)
                place += 1
            place += 1
        return f"{name}.{place}"


def _lr(weights: Weights, model: Model) -> set[str]:
    source = Source(weights)
    model.first_order.bias.copy_(source["lr_layer.bias"])
    return source.used


def _fm(weights: Weights, model: Model) -> set[str]:
    source = Source(weights)
    model.first_order.bias.copy_(source["fm.lr_layer.bias"])
    return source.used


def _deepfm(weights: Weights, model: Model) -> set[str]:
    source = Source(weights)
    source.layer(source.mlp("mlp.mlp", model.mlp), model.heads.linear)
    model.heads.linear.bias += source["fm.lr_layer.bias"]
    return source.used


def _dcnv2(weights: Weights, model: Model) -> set[str]:
    source = Source(weights)
    for place, layer in enumerate(model.crosses.layers):
        source.layer(f"crossnet.cross_layers.{place}", layer)
    source.mlp("parallel_dnn.mlp", model.mlp)
    source.layer("fc", model.heads.linear)
    return source.used


def _autoint(weights: Weights, model: Model) -> set[str]:
    source = Source(weights)
    for place, layer in enumerate(model.attention):
        theirs = f"self_attention.{place}"
        for name, target in (("W_q", layer.to_query), ("W_k", layer.to_key), ("W_v", layer.to_value)):
            source.layer(f"{theirs}.{name}", target)
        source.layer(f"{theirs}.layer_norm", layer.norm)
        if source.has(f"{theirs}.W_res.weight"):
            source.layer(f"{theirs}.W_res", layer.residual[0])
    last = source.mlp("dnn.mlp", model.deep[1])
    model.heads.linear.weight.copy_(torch.cat([source["fc.weight"], source[f"{last}.weight"]], dim=1))
    model.heads.linear.bias.copy_(source["fc.bias"] + source[f"{last}.bias"])
    return source.used


def _finalmlp(weights: Weights, model: Model) -> set[str]:
    source = Source(weights)
    for place, gate in enumerate(model.gates, start=1):
        source.layer(source.mlp(f"fs_module.fs{place}_gate.mlp", gate.mlp), gate.gate)
    source.mlp("mlp1.mlp", model.first)
    source.mlp("mlp2.mlp", model.second)
    fusion = model.fusion
    fusion.of_first.weight.copy_(source["fusion_module.w_x.weight"])
    fusion.of_first.bias.copy_(source["fusion_module.w_x.bias"] + source["fusion_module.w_y.bias"])
    fusion.of_second.weight.copy_(source["fusion_module.w_y.weight"])
    fusion.weight.copy_(source["fusion_module.w_xy"].view_as(fusion.weight))
    return source.used


def _finalnet(weights: Weights, model: Model) -> set[str]:
    source = Source(weights)
    source.layer("feature_gating.linear", model.gate.linear)
    for number, (block, head) in enumerate(zip(model.blocks, model.heads, strict=True), start=1):
        for place in range(len(block) // 2):
            source.layer(f"block{number}.layer.{place}.linear", block[2 * place].linear)
            source.layer(f"block{number}.norm.{place}", block[2 * place + 1].norm)
        source.layer(f"fc{number}", head.linear)
    return source.used


def _din(weights: Weights, model: Model) -> set[str]:
    source = Source(weights)
    (attention,) = model.flat.histories
    theirs = "attention_layers.0.attention_layer.mlp"
    of_query, of_event, of_difference, of_product = source[f"{theirs}.0.weight"].chunk(4, dim=1)
    ages = attention.events.numbers.width
    attention.of_query.weight.copy_(of_query + of_difference)
    attention.of_query.bias.copy_(source[f"{theirs}.0.bias"])
    attention.of_product.weight.copy_(of_product)
    attention.of_event.weight.copy_(functional.pad(of_event - of_difference, (0, ages)))
    source.layer(f"{theirs}.2", attention.scorer[0])
    source.layer(f"{theirs}.4", attention.score)
    source.layer(source.mlp("dnn.mlp", model.mlp, unknown=ages), model.heads.linear)
    return source.used


COPIES: dict[str, Callable[[Weights, Model], set[str]]] = {
    "LR": _lr,
    "FM": _fm,
    "DeepFM": _deepfm,
    "DCNv2": _dcnv2,
    "DIN": _din,
    "AutoInt": _autoint,
    "FinalMLP": _finalmlp,
    "FinalNet": _finalnet,
}
"""By FuxiCTR's class."""
