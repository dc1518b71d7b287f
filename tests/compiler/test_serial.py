"""A packed graph is the same graph."""

import msgspec
import pytest
import torch

from bowerbird.compiler.capture import capture
from bowerbird.compiler.execute import Executable
from bowerbird.compiler.graph import Builder, RowGraph
from bowerbird.compiler.lift import lift
from bowerbird.compiler.operations import Pointwise, Ref
from bowerbird.compiler.serial import pack_graph, unpack_graph
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
