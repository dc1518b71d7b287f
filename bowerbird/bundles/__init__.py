"""Bundles: the immutable versions of a model, their gates and their registry."""

from bowerbird.bundles.bundle import Bundle, read_bundle, verify_golden
from bowerbird.bundles.scorer import Scorer

__all__ = ["Bundle", "Scorer", "read_bundle", "verify_golden"]
