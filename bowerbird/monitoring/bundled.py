"""The plan of a published version, read without its model."""

from __future__ import annotations

from pathlib import Path

import msgspec

from bowerbird.errors import CorruptionError, NotFoundError
from bowerbird.plan.spec import Plan

_PLAN_FILE = "plan.json"


def bundled_plan(folder: Path) -> Plan:
    """Return the plan in a bundle's folder; raises NotFoundError or CorruptionError."""
    try:
        return Plan.from_json((folder / _PLAN_FILE).read_bytes())
    except OSError as error:
        raise NotFoundError(f"{folder} holds no plan: {error}.", "See `bowerbird models list`.") from error
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        remedy = "Restore it, or publish the version again."
        raise CorruptionError(f"{folder / _PLAN_FILE}: {error}.", remedy) from error
