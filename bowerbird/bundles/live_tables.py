"""A loaded model's tables, and the same model with others."""

from __future__ import annotations

from bowerbird.bundles.scorer import BlendedModel, LogitModel
from bowerbird.bundles.staged_model import StagedModel
from bowerbird.embedding.served_collection import ServedCollection


def network_of(model: LogitModel) -> StagedModel | None:
    """Return a model's network; None for trees alone."""
    network = model.network if isinstance(model, BlendedModel) else model
    return network if isinstance(network, StagedModel) else None


def tables_of(model: LogitModel) -> ServedCollection | None:
    """Return the tables that deltas can change; None for trees, and for bundles of before tables were mapped."""
    network = network_of(model)
    collection = None if network is None else network.collection
    return collection if isinstance(collection, ServedCollection) else None


def with_tables(model: LogitModel, tables: ServedCollection) -> LogitModel:
    """Return a model with other tables; program and kept items are shared with the one given."""
    if isinstance(model, BlendedModel):
        return BlendedModel(with_tables(model.network, tables), model.trees)
    assert isinstance(model, StagedModel)
    return model.with_tables(tables)
