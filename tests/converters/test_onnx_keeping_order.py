from __future__ import annotations

from edgekit_onnx.keeping_order import InOrder, keep_order, renumber
from onnx import TensorProto, helper, parser


def test_a_set_in_order_gives_what_came_first_first() -> None:
    words = InOrder(["c", "a", "b", "a"])
    words.add("0")
    words.discard("a")
    assert list(words) == ["c", "b", "0"]
    assert list(words.union(["z", "b"])) == ["c", "b", "0", "z"]
    assert list(words.intersection(["0", "c"])) == ["c", "0"]
    assert words.issubset(["0", "b", "c", "d"])
    assert not words.issubset(["b"])
    assert words.pop() == "c"


def test_counts_of_a_process_are_counted_anew() -> None:
    names = [_renumbered("140095668833936", 8350), _renumbered("139808834468560", 12)]
    assert names[0] == names[1]
    assert "einsum4_id_axes__5" in names[0]
    assert "f_while_cond_2_frozen_3_f/while/Less" in names[0]
    assert "dense_7/MatMul" in names[0], "the numbers of Keras stay"
    assert "block__7/MatMul" in names[0]
    assert 'name: "x__1"' in names[0], "and those of inputs"
    assert 'dim_param: "unk__7"' in names[0]


def test_names_are_counted_from_the_start_for_each_model() -> None:
    """tf2onnx sorts by them, and "__99" comes after "__100"."""
    from tf2onnx.utils import make_name

    names = []
    for _ in range(2):
        keep_order()
        names.append([make_name("Transpose"), make_name("Transpose")])
    assert names[0] == names[1]


def _renumbered(address: str, count: int) -> str:
    graph = parser.parse_graph("g (float[1] x__1) => (float[1] y) { y = Identity(x__1) }")
    graph.output[0].type.tensor_type.shape.dim[0].dim_param = f"unk__{count + 9}"
    node = graph.node[0]
    node.name = f"f_while_cond_{count}_frozen_{count + 3}_f/while/Less"
    node.input[0] = f"einsum{address}_id_axes__{count + 1}"
    body = parser.parse_graph("b () => (float[1] z) { z = Identity(x) }")
    body.node[0].input[0] = node.input[0]
    node.attribute.append(helper.make_attribute("body", body))
    for name in ("dense_7/MatMul", "block__7/MatMul", node.input[0], f"einsum{int(address) + 8}_ba"):
        graph.initializer.append(helper.make_tensor(name, TensorProto.FLOAT, [1], [0.0]))
    renumber(graph)
    return str(graph)
