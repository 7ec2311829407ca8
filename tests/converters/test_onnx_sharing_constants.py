"""tf2onnx's copies of a graph share its constants."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from edgekit_onnx.sharing_constants import share_constants

VALUES = np.arange(1000, dtype=np.float32)


@pytest.fixture
def graph() -> Any:
    """A constant, and one in the body of a node."""
    from tf2onnx.graph import Graph

    made = Graph([], opset=17)
    made.make_const("weights", VALUES)
    node = made.make_node("Add", ["weights", "weights"], name="sum", outputs=["sum:0"])
    body = Graph([], opset=17)
    body.make_const("inner", VALUES)
    node.set_body_graph_as_attr("body", body)
    made.outputs = ["sum:0"]
    return made


def test_a_copy_has_the_same_constants(graph: Any) -> None:
    from tf2onnx import optimizer

    share_constants()
    copied = optimizer.copy.deepcopy(graph)
    inner, inner_copied = (each.contained_graphs["sum"]["body"] for each in (graph, copied))
    for one, other, name in ((graph, copied, "weights"), (inner, inner_copied, "inner")):
        here, there = one.get_node_by_name(name), other.get_node_by_name(name)
        assert there is not here
        assert there.attr["value"] is here.attr["value"]
        assert there.op.ByteSize() < 100
        np.testing.assert_array_equal(there.get_tensor_value(as_list=False), VALUES)


def test_a_pass_puts_a_new_constant_into_the_copy_alone(graph: Any) -> None:
    from tf2onnx import optimizer

    share_constants()
    copied = optimizer.copy.deepcopy(graph)
    copied.get_node_by_name("weights").set_tensor_value(2 * VALUES)
    np.testing.assert_array_equal(graph.get_node_by_name("weights").get_tensor_value(as_list=False), VALUES)
    written = copied.make_graph("written").initializer
    assert [tensor.name for tensor in written] == ["weights"]
    np.testing.assert_array_equal(np.frombuffer(written[0].raw_data, np.float32), 2 * VALUES)


def test_what_is_no_graph_is_copied_as_ever() -> None:
    from tf2onnx import optimizer

    share_constants()
    counted = {"Add": [1]}
    copied = optimizer.copy.deepcopy(counted)
    assert copied == counted
    assert copied["Add"] is not counted["Add"]
