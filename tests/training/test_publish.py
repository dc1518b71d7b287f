import dataclasses
import shutil
import sys
import threading
from importlib.util import find_spec

import msgspec
import numpy as np
import pytest
import torch

from bowerbird.bundles import read_bundle, verify_golden
from bowerbird.bundles.calibrate import calibrations_to_json
from bowerbird.bundles.gates import GateLimits
from bowerbird.bundles.registry import Registry, VersionStage
from bowerbird.bundles.scorer import Scorer
from bowerbird.compiler.backends.native import Native
from bowerbird.errors import CorruptionError, GateError, InputError
from bowerbird.plan.block_rows import take_rows
from bowerbird.training.batches.dataset import SampleFolder
from bowerbird.training.publishing.publish import PublishRequest, publish
from bowerbird.training.quality.held_out import read_range, score_range, score_rows
from bowerbird.training.run import train_model
from bowerbird.training.run_record import read_run, write_run
from bowerbird.training.trained import load_trained
from tests.training.conftest import SMALL, request
from tests.training.synthetic import DAYS


@pytest.fixture
def target(workspace, tmp_path, din_run):
    return PublishRequest(
        run=din_run.folder,
        samples_folder=workspace / "samples",
        bundles_folder=tmp_path / "bundles",
        registry_url=f"sqlite:///{tmp_path / 'registry.db'}",
        name="home",
    )


def test_a_published_bundle_answers_as_the_run_does(target, workspace, din_run):
    result = publish(target)
    assert (result.version.version, result.version.stage) == (1, VersionStage.CANDIDATE)
    scorer = verify_golden(read_bundle(target.bundles_folder / "home" / "1"))
    samples = SampleFolder(workspace / "samples" / "default")
    rows = read_range(samples, din_run.record.settings.split.test)
    scores = score_rows(rows, scorer.model)
    labels = np.concatenate([part.labels["click"] for part in rows])
    known = ~np.isnan(labels)
    assert np.corrcoef(scores["click"][known], labels[known])[0, 1] > 0.3
    assert result.version.metrics["click"]["auc"] == din_run.metrics["test"]["click"]["auc"]


def test_calibrations_by_field_are_published_and_served(target, workspace, din_run, tmp_path):
    """Golden requests and gates go through them; a feature of the request is shared by all candidates."""
    samples = SampleFolder(workspace / "samples" / "default")
    validation = score_range(
        samples,
        din_run.record.settings.split.validation,
        load_trained(din_run.folder, samples.plan, din_run.record.settings),
    )
    fitted = {
        "click": validation.calibrations("monotone:topic")["click"],
        "long": validation.calibrations("platt:hour")["long"],
    }
    run = tmp_path / din_run.folder.name
    shutil.copytree(din_run.folder, run)
    (run / "calibration.json").write_bytes(calibrations_to_json(fitted))
    bundle = publish(dataclasses.replace(target, run=run)).bundle
    assert bundle.calibrations == fitted
    assert [fitted[task].field for task in ("click", "long")] == ["topic", "hour"]
    scorer = verify_golden(bundle)
    rows = next(samples.read(DAYS[-1], DAYS[-1]))
    many = take_rows(rows.block, np.arange(6))
    hour = many.categories["hour"][:1]
    shared = dataclasses.replace(many, categories=many.categories | {"hour": hour})
    repeated = dataclasses.replace(many, categories=many.categories | {"hour": np.repeat(hour, 6)})
    assert np.array_equal(scorer.score(shared)["long"], scorer.score(repeated)["long"])
    place = fitted["long"].keys.index(int(hour[0]))
    shifted = msgspec.structs.replace(
        fitted["long"], shifts=[value + (row == place) for row, value in enumerate(fitted["long"].shifts)]
    )
    moved = Scorer(scorer.model, fitted | {"long": shifted}).score(shared)["long"]
    odds = [np.log(score / (1 - score)) for score in (moved, scorer.score(shared)["long"])]
    assert np.allclose(odds[0] - odds[1], 1.0)


def test_the_manifest_says_where_it_comes_from(target, din_run):
    bundle = publish(target).bundle
    manifest = bundle.manifest
    assert manifest.lineage.run == din_run.record.id
    assert manifest.lineage.samples_sha256 == din_run.record.settings.samples_sha256
    assert manifest.plan_fingerprint == bundle.plan.fingerprint
    assert [(task.name, task.given) for task in manifest.tasks] == [("click", None), ("long", "click")]
    assert {gate.name for gate in manifest.gates} == {"parity", "pcoc.click", "pcoc.long"}
    assert not manifest.forced
    assert len(bundle.golden) == 3


def test_promotion_and_the_second_version_is_compared_with_the_live_one(target):
    first = publish(dataclasses.replace(target, promote=True))
    assert first.version.stage == VersionStage.LIVE
    second = publish(target)
    names = {gate.name for gate in second.gates}
    assert {"auc.click", "auc.long", "log_loss.click", "log_loss.long"} <= names
    assert second.version.version == 2


def test_a_worse_version_is_refused_by_how_much_and_force_is_recorded(target, workspace):
    publish(dataclasses.replace(target, promote=True))
    poor = train_model(request(workspace, "lr", trainer={**SMALL, "epochs": 1, "learning_rate": 1e-5}))
    wanted = dataclasses.replace(target, run=poor.folder)
    with pytest.raises(GateError, match=r"auc\.click is 0\.\d+, allowed at least 0\.\d+ \(live 0\.\d+\)"):
        publish(wanted)
    assert not (target.bundles_folder / "home" / "2").exists()
    forced = publish(dataclasses.replace(wanted, force=True))
    assert forced.bundle.manifest.forced
    assert read_bundle(forced.bundle.folder).manifest.forced


def test_bad_calibration_is_refused(target):
    with pytest.raises(GateError, match=r"pcoc\.click"):
        publish(dataclasses.replace(target, limits=GateLimits(pcoc_low=1.9, pcoc_high=2.1)))


def test_a_program_that_differs_is_refused(target):
    with pytest.raises(GateError, match=r"parity is .*, allowed at most -1"):
        publish(dataclasses.replace(target, limits=GateLimits(parity=-1.0)))


def test_a_live_version_that_cannot_be_read_does_not_stop_publishing(target):
    first = publish(dataclasses.replace(target, promote=True))
    (first.bundle.folder / "rows.msgpack").unlink()
    second = publish(target)
    (gate,) = [gate for gate in second.gates if gate.name == "live"]
    assert gate.passed and "cannot score" in gate.note


@pytest.mark.parametrize("rows", ["fp16", "int8"])
def test_rows_in_fewer_bits_have_a_gate_and_golden_answers_of_their_own(target, rows):
    result = publish(dataclasses.replace(target, rows=rows, force=True))
    gate = next(gate for gate in result.gates if gate.name == f"rows.{rows}")
    assert 0 < gate.measured < 0.01
    parity = next(gate for gate in result.gates if gate.name == "parity")
    assert parity.passed, "the program is compared with the model whose rows are rounded"
    bundle = read_bundle(result.bundle.folder)
    assert {table.format for table in bundle.load_collection().tables.values()} == {rows}
    verify_golden(bundle)


def test_rows_in_fewer_bits_that_change_scores_too_much_are_refused(target, monkeypatch):
    monkeypatch.setattr("bowerbird.embedding.collection.rounded", lambda rows, format: np.round(rows))
    with pytest.raises(GateError, match=r"rows\.int8"):
        publish(dataclasses.replace(target, rows="int8"))


def ways_of(bundle):
    return {way.name: way for way in bundle.manifest.ways}


def test_a_last_resort_is_not_looked_at_where_another_way_serves_in_float32(target):
    ways = ways_of(publish(target).bundle)
    assert ways["native.fp32"].passed
    assert not ways["openvino.fp32"].passed and "native.fp32 serves" in ways["openvino.fp32"].note


def no_steps(self, program, precision, cache=None):
    raise InputError("The native engine has steps for none of it.", "Use another.")


@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
def test_openvino_is_judged_where_the_native_engine_has_no_steps(target, monkeypatch):
    monkeypatch.setattr(Native, "prepare", no_steps)
    bundle = publish(target).bundle
    way = ways_of(bundle)["openvino.fp32"]
    assert way.passed and 0 < way.largest < 1e-5
    verify_golden(bundle, way="openvino.fp32")


def test_without_openvino_its_ways_are_refused_and_the_reason_is_kept(target, monkeypatch):
    monkeypatch.setattr(Native, "prepare", no_steps)
    monkeypatch.setitem(sys.modules, "openvino", None)
    ways = ways_of(publish(target).bundle)
    assert {way.note for name, way in ways.items() if name.startswith("openvino")} == {"openvino is not installed."}


def test_lightgbm_is_published_and_served(target, tree_run):
    bundle = publish(dataclasses.replace(target, run=tree_run.folder)).bundle
    assert bundle.manifest.kind == "lightgbm"
    verify_golden(bundle)
    booster = bundle.folder / "booster.click.txt"
    booster.write_text(booster.read_text().replace("leaf_value=", "leaf_value=9 ", 1))
    with pytest.raises(CorruptionError, match=r"booster\.click\.txt"):
        read_bundle(bundle.folder)


def test_an_unfinished_run_is_not_published(target, din_run, tmp_path):
    folder = tmp_path / din_run.record.id
    write_run(folder, msgspec.structs.replace(read_run(din_run.folder), status="training"))
    with pytest.raises(InputError, match="not finished"):
        publish(dataclasses.replace(target, run=folder))


def test_two_publishers_get_two_numbers(target):
    results, errors = [], []

    def run():
        try:
            torch.set_num_threads(1)
            results.append(publish(target).version.version)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sorted(results) == [1, 2]
    registry = Registry(target.registry_url, target.bundles_folder)
    assert [record.version for record in registry.versions("home")] == [1, 2]
    registry.close()
