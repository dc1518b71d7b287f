"""Which way a version is served by on a host."""

import dataclasses

import msgspec
import numpy as np
import pytest

from bowerbird.bundles import choose_way
from bowerbird.bundles.block_json import block_from_json
from bowerbird.bundles.bundle import STAGED
from bowerbird.bundles.choose_way import WaySetting, load_served, request_block
from bowerbird.bundles.host import this_host
from bowerbird.bundles.way_choice import ChoiceStore, WayTiming, ranked
from bowerbird.compiler.backends.native import Native
from bowerbird.errors import CorruptionError, InputError
from bowerbird.kernels.pair import PairProgram
from tests.server.tiny import allowed

WAYS = ("torch.bf16", "native.fp32", "native.int8")


@pytest.fixture
def bundle(make_bundle, tmp_path):
    """A version whose gates allow several ways."""
    made = make_bundle(tmp_path / "home" / "1")
    ways = [allowed(way) for way in WAYS] + [msgspec.structs.replace(allowed("native.bf16"), passed=False, note="bad")]
    return dataclasses.replace(made, manifest=msgspec.structs.replace(made.manifest, ways=ways))


@pytest.fixture
def setting(tmp_path):
    return WaySetting(tmp_path / "ways")


@pytest.fixture
def measured(monkeypatch):
    """Replaces the stop watch: seconds by way; counts how often it ran."""
    runs = []
    speeds = {"torch.fp32": 9.0, "torch.bf16": 8.0, "native.fp32": 3.0, "native.bf16": 2.0, "native.int8": 1.0}

    def measure(scorers, blocks):
        runs.append(list(scorers))
        return [WayTiming(name, {count: speeds[name] for count in blocks}) for name in scorers]

    monkeypatch.setattr(choose_way, "measure", measure)
    return runs


def broken(*precisions):
    prepare = Native.prepare

    def fail(self, program, precision, cache=None):
        if precision in precisions:
            raise RuntimeError("no such instruction")
        return prepare(self, program, precision, cache)

    return fail


def test_the_fastest_is_chosen_once_and_remembered(bundle, setting, measured):
    first, second = load_served(bundle, setting), load_served(bundle, setting)
    assert measured == [["torch.fp32", *WAYS]]
    assert first.choice == second.choice
    assert (first.choice.way, first.choice.why) == ("native.int8", "fastest")
    assert first.scorer.model.way.name == second.scorer.model.way.name == "native.int8"
    block = block_from_json(bundle.golden[0].block)
    assert np.array_equal(first.scorer.score(block)["click"], second.scorer.score(block)["click"])


def test_amx_that_is_there_and_not_used_is_told(bundle, setting, measured, monkeypatch, caplog):
    monkeypatch.setattr(PairProgram, "unused_amx", staticmethod(lambda: "the system says no"))
    load_served(bundle, setting)
    assert "AMX is not used: the system says no" in caplog.text


def test_a_version_that_has_other_weights_alone_is_not_measured(bundle, setting, measured):
    first = load_served(bundle, setting)
    again = dataclasses.replace(bundle, digest="e" * 64)
    assert load_served(again, setting).choice == first.choice
    assert len(measured) == 1
    assert ChoiceStore(setting.folder).of("e" * 64) == [first.choice]
    fewer = msgspec.structs.replace(bundle.manifest, ways=[allowed("native.fp32")])
    load_served(dataclasses.replace(bundle, digest="d" * 64, manifest=fewer), setting)
    assert len(measured) == 2, "the fastest is not allowed to it"
    more = msgspec.structs.replace(bundle.manifest, ways=[*bundle.manifest.ways, allowed("native.bf16")])
    load_served(dataclasses.replace(bundle, digest="c" * 64, manifest=more), setting)
    assert len(measured) == 3, "what it may be served by was not looked at"


def test_another_host_or_structure_is_measured_anew(bundle, setting, measured, monkeypatch):
    load_served(bundle, setting)
    files = {**bundle.manifest.files, STAGED: msgspec.structs.replace(bundle.manifest.files[STAGED], sha256="f" * 64)}
    manifest = msgspec.structs.replace(bundle.manifest, files=files)
    load_served(dataclasses.replace(bundle, digest="f" * 64, manifest=manifest), setting)
    other = msgspec.structs.replace(this_host(), cpu="another")
    monkeypatch.setattr(choose_way, "this_host", lambda: other)
    load_served(bundle, setting)
    assert len(measured) == 3
    assert len(ChoiceStore(setting.folder).of(bundle.digest)) == 2


def test_a_note_that_cannot_be_read_is_written_again(bundle, setting, measured):
    load_served(bundle, setting)
    for file in setting.folder.iterdir():
        file.write_text("{")
    load_served(bundle, setting)
    assert len(measured) == 2
    assert ChoiceStore(setting.folder).get(bundle.digest, this_host()) is not None


def test_a_folder_that_cannot_be_written_stops_nothing(bundle, tmp_path, measured):
    (tmp_path / "file").write_text("")
    served = load_served(bundle, WaySetting(tmp_path / "file" / "ways"))
    assert served.choice.way == "native.int8"


def test_a_set_way_is_taken_without_measuring(bundle, setting, measured):
    for way in ("torch.fp32", "native.fp32"):
        served = load_served(bundle, dataclasses.replace(setting, way=way))
        assert (served.choice.way, served.choice.why, served.scorer.model.way.name) == (way, "pinned", way)
    by_name = dataclasses.replace(setting, way={"home": "native.fp32"})
    assert load_served(bundle, by_name).choice.way == "native.fp32"
    assert load_served(bundle, dataclasses.replace(setting, way={"other": "native.fp32"})).choice.why == "fastest"
    assert len(measured) == 1


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("native.fp23", "Did you mean 'native.fp32'"),
        ("native.bf16", "may not be served by native.bf16: bad"),
        ("torch.int8", "No way of serving"),
    ],
)
def test_a_set_way_that_may_not_be_is_refused(bundle, setting, way, message):
    with pytest.raises(InputError, match=message):
        load_served(bundle, dataclasses.replace(setting, way=way))


def test_a_way_that_does_not_load_is_left_out(bundle, setting, measured, monkeypatch, caplog):
    monkeypatch.setattr(Native, "prepare", broken("int8"))
    choice = load_served(bundle, setting).choice
    assert (choice.way, choice.why) == ("native.fp32", "fastest")
    assert [(each.way, each.reason) for each in choice.refused] == [("native.int8", "no such instruction")]
    assert "not served by native.int8" in caplog.text


def test_a_way_that_fails_at_a_later_start_gives_way_to_the_next(bundle, setting, measured, monkeypatch):
    load_served(bundle, setting)
    monkeypatch.setattr(Native, "prepare", broken("int8"))
    choice = load_served(bundle, setting).choice
    assert (choice.way, choice.why, len(choice.refused)) == ("native.fp32", "fallback", 1)
    monkeypatch.setattr(Native, "prepare", broken("int8", "fp32"))
    choice = load_served(bundle, setting).choice
    assert (choice.way, choice.why) == ("torch.bf16", "fallback")
    monkeypatch.undo()
    assert load_served(bundle, setting).choice.way == "native.int8"


def test_a_way_that_answers_wrongly_is_left_out(bundle, setting, measured):
    """int8 cannot pass where its gates saw no difference at all."""
    ways = [msgspec.structs.replace(way, tasks=[]) for way in bundle.manifest.ways]
    strict = dataclasses.replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, ways=ways))
    choice = load_served(strict, setting).choice
    assert choice.way == "native.fp32"
    assert any("answered wrongly" in each.reason for each in choice.refused)


def test_a_damaged_bundle_is_still_refused(bundle, setting):
    wrong = msgspec.structs.replace(bundle.golden[0], scores={"click": [0.9] * 9, "long": [0.9] * 9})
    with pytest.raises(CorruptionError, match="golden"):
        load_served(dataclasses.replace(bundle, golden=[wrong]), setting)


def test_float32_goes_before_what_hardly_gains_on_it():
    def timing(way, microseconds):
        return WayTiming(way, {50: microseconds, 500: microseconds})

    assert ranked([timing("native.fp32", 1.0), timing("native.int8", 0.97)])[0] == "native.fp32"
    assert ranked([timing("native.fp32", 1.0), timing("native.int8", 0.9)])[0] == "native.int8"


def test_real_measuring_gives_every_way_a_time(bundle, setting):
    choice = load_served(bundle, setting).choice
    assert {each.way for each in choice.timings} == {"torch.fp32", *WAYS}
    assert all(value > 0 for each in choice.timings for value in each.microseconds.values())
    assert choice.way == ranked(choice.timings)[0]


def test_the_measured_request_has_one_user_and_many_items(bundle):
    block = request_block(bundle, 50)
    stages = {feature.name: feature.stage for feature in bundle.plan.features}
    columns = block.categories | block.numbers | block.sequences
    assert {name: len(values) for name, values in columns.items()} == {
        name: 1 if stages[name] == "request" else 50 for name in columns
    }
