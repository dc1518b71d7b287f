"""Fits a plan's transforms on what precedes the samples, so that no sample's future is in its features."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bowerbird.errors import InputError
from bowerbird.log.reader import LogReader
from bowerbird.plan.encode import Encoder
from bowerbird.plan.engine import NativeEngine
from bowerbird.plan.spec import Feature, Fit, Node, Plan
from bowerbird.samples.replay import Reads, reads_of_exposures, replay

Values = npt.NDArray[np.float64]


def fit_plan(plan: Plan, reader: LogReader, exposures: pa.Table) -> tuple[Plan, int]:
    """Return the fitted plan and the first LSN at which a sample may be read.

    Transforms of attributes alone are fitted on the attributes known before the first exposure. Others
    need the project's ``fit_until``: they are fitted on the exposures before it, and samples start there.
    """
    if not plan.fits:
        return plan, 0
    probe = _probe_plan(plan)
    encoder = Encoder(probe)
    if plan.fit_until is not None:
        before = exposures.filter(pc.less(exposures.column("_read_time"), plan.fit_until))
        first = reader.lsn_at(plan.fit_until)
        reads = reads_of_exposures(encoder, before)
    else:
        _refuse_aggregates(plan)
        first = int(exposures.column("_read_lsn")[0].as_py()) if exposures.num_rows else reader.size
        reads = _reads_of_entities(encoder, reader, first)
    values = _values(reader, encoder, reads, len(plan.fits))
    nodes = list(plan.nodes)
    for fit, observed in zip(plan.fits, values, strict=True):
        nodes[fit.node] = _fitted(plan, fit, observed)
    return msgspec.structs.replace(plan, nodes=nodes, fits=[]), first


def _probe_plan(plan: Plan) -> Plan:
    """Return a plan whose features are the inputs of the fitted transforms."""
    nodes = list(plan.nodes)
    for fit in plan.fits:
        placeholder = [0.0, 1.0] if fit.method == "moments" else [0.0]
        nodes[fit.node] = msgspec.structs.replace(nodes[fit.node], numbers=placeholder)
    features = [Feature(f"fit{at}", "number", "pair", fit.source) for at, fit in enumerate(plan.fits)]
    return msgspec.structs.replace(plan, nodes=nodes, features=features, fits=[])


def _depends_on_events(plan: Plan, node: int) -> bool:
    return plan.nodes[node].aggregate >= 0 or any(
        _depends_on_events(plan, i) for i in plan.nodes[node].inputs
    )


def _features_of(plan: Plan, node: int) -> str:
    return ", ".join(f.name for f in plan.features if f.node == node) or "a part of another feature"


def _refuse_aggregates(plan: Plan) -> None:
    for fit in plan.fits:
        if _depends_on_events(plan, fit.source):
            raise InputError(
                f"{_features_of(plan, fit.node)}: its transform is fitted on events, whose range is not declared.",
                "Give Project(fit_until=…): transforms see the exposures before it, samples begin there.",
            )


def _reads_of_entities(encoder: Encoder, reader: LogReader, lsn: int) -> Reads:
    """Return one read for each user and item that has attributes before ``lsn``."""
    plan = encoder.plan
    rows = []
    for slot in (plan.user_slot, plan.item_slot):
        for record in plan.types:
            if record.kind == "table" and record.slots and record.slots[0] == slot:
                table = reader.records(record.name, last=lsn)
                keys = np.unique(encoder.encode_table(record.name, table)[slot])
                request = np.repeat(encoder.encode_request(None, {})[:, None], len(keys), axis=1)
                request[slot] = keys
                rows.append(request)
    slots = np.concatenate(rows, axis=1) if rows else encoder.encode_request(None, {})[:, None][:, :0]
    count = slots.shape[1]
    return Reads(np.full(count, lsn, dtype=np.int64), np.zeros(count, dtype=np.int64), slots)


def _values(reader: LogReader, encoder: Encoder, reads: Reads, fits: int) -> list[Values]:
    parts: list[list[Values]] = [[] for _ in range(fits)]
    for rows in replay(reader, encoder, NativeEngine(encoder.plan), reads):
        for at in range(fits):
            parts[at].append(rows.block.numbers[f"fit{at}"].astype(np.float64))
    joined = [np.concatenate(part) if part else np.empty(0) for part in parts]
    return [values[np.isfinite(values)] for values in joined]


def _fitted(plan: Plan, fit: Fit, values: Values) -> Node:
    if not len(values):
        raise InputError(
            f"{_features_of(plan, fit.node)}: no value to fit its transform on was found.",
            "Ingest the attributes first, or move fit_until later.",
        )
    if fit.method == "moments":
        deviation = float(values.std())
        return msgspec.structs.replace(plan.nodes[fit.node], numbers=[float(values.mean()), deviation or 1.0])
    cuts = np.unique(np.quantile(values, np.arange(1, fit.quantiles) / fit.quantiles))
    return msgspec.structs.replace(plan.nodes[fit.node], numbers=[float(cut) for cut in cuts])
