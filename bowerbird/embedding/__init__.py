"""Embedding tables: 64-bit keys to rows, and the tensors that models take."""

from bowerbird.embedding.collection import EmbeddingCollection
from bowerbird.embedding.inputs import Inputs

__all__ = ["EmbeddingCollection", "Inputs"]
