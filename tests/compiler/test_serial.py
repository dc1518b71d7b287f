"""A packed graph is the same graph."""

from importlib.resources import files

import msgspec
import pytest
import torch

from bowerbird.compiler.capture import capture
from bowerbird.compiler.execute import Executable
from bowerbird.compiler.fingerprint import compiler_fingerprint, fingerprint_of
from bowerbird.compiler.graph import Builder, RowGraph
from bowerbird.compiler.lift import lift
from bowerbird.compiler.operations import Pointwise, Ref
from bowerbird.compiler.serial import pack_graph, pack_program, unpack_graph, unpack_program
from bowerbird.compiler.staging import answers, stage_graph
from bowerbird.errors import CorruptionError
from tests.compiler.modules import COUPLED, ODD, STAGES, example, expanded


@pytest.mark.parametrize("name", [*ODD, *COUPLED])
def test_it_comes_back(name):
    torch.manual_seed(0)
    module = (ODD | COUPLED)[name]().eval()
    graph = lift(capture(module, expanded(example(4), 4)), STAGES).graph
    again = unpack_graph(*pack_graph(graph))
    assert [node.stage for node in again.nodes()] == [node.stage for node in graph.nodes()]
    features = example(5)
    for task, answer in Executable(graph)(features, 5).items():
        assert torch.equal(Executable(again)(features, 5)[task], answer)


@pytest.mark.parametrize("name", [*ODD, *COUPLED])
def test_a_staged_program_comes_back_and_answers_with_the_same_bits(name):
    torch.manual_seed(0)
    module = (ODD | COUPLED)[name]().eval()
    program = stage_graph(lift(capture(module, expanded(example(4), 4)), STAGES).graph, []).program
    again = unpack_program(*pack_program(program, "this"), "this")
    assert again is not None
    for part in ("request", "item", "pair"):
        one, other = getattr(program, part), getattr(again, part)
        assert list(one.outputs) == list(other.outputs)
        assert [(type(node.operation), node.stage, node.shape, node.dtype, node.shared) for node in one.nodes()] == [
            (type(node.operation), node.stage, node.shape, node.dtype, node.shared) for node in other.nodes()
        ]
    features = example(5)
    for task, answer in answers(program, features, 5).items():
        assert torch.equal(answers(again, features, 5)[task], answer)


def test_what_another_compiler_made_is_not_read():
    build = Builder()
    graph = RowGraph(build, {"y": build.input("x", (), "float32", "item")})
    data, arrays = pack_program(stage_graph(graph, []).program, "one")
    assert unpack_program(data, arrays, "other") is None
    foreign = msgspec.msgpack.decode(data) | {"nodes": [[["Unheard"], []]]}
    assert unpack_program(msgspec.msgpack.encode(foreign), arrays, "other") is None
    with pytest.raises(CorruptionError, match="staged program"):
        unpack_program(msgspec.msgpack.encode(foreign), arrays, "one")
    with pytest.raises(CorruptionError, match="staged program"):
        unpack_program(data[:5], arrays, "one")


def test_the_fingerprint_changes_with_every_source(tmp_path):
    (tmp_path / "rewrites").mkdir()
    found = set()
    for name in ("staging.py", "rewrites/linear.py"):
        for text in ("one", "other"):
            (tmp_path / name).write_text(text)
            found.add(fingerprint_of(tmp_path))
    assert len(found) == 4
    (tmp_path / "notes.txt").write_text("not a source")
    assert fingerprint_of(tmp_path) in found
    assert compiler_fingerprint() == fingerprint_of(files("bowerbird.compiler"))


def test_a_damaged_one_is_refused():
    build = Builder()
    graph = RowGraph(
        build, {"y": build.add(Pointwise("relu.default", (Ref(0),)), [build.input("x", (), "float32", "item")])}
    )
    data, arrays = pack_graph(graph)
    with pytest.raises(CorruptionError, match="cannot be read"):
        unpack_graph(data[:-3], arrays)
    for target in ("relu_.default", "no_such.default"):
        document = msgspec.msgpack.decode(data)
        document["nodes"][1][0]["target"] = target
        with pytest.raises(CorruptionError):
            unpack_graph(msgspec.msgpack.encode(document), arrays)


def test_a_shape_is_found_where_zeros_cannot_be_divided():
    build = Builder()
    place = build.input("place", (), "int64", "item")
    quotient = build.add(Pointwise("floor_divide.default", (Ref(0), Ref(1))), [place, place])
    assert (quotient.shape, quotient.dtype, quotient.stage) == ((), "int64", "item")
