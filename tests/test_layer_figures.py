"""What a comparison layer by layer becomes in a report."""

from __future__ import annotations

from edgekit.comparison import LayerComparison, LayerParity, Reason
from edgekit.conversion import Layer
from edgekit.layer_figures import BESIDE, CULPRITS, NEAR_DB, _grouped, _with_parity

OPERATORS = (
    Layer("digits_1/conv0_1/BiasAdd", "Conv", 300, "int8", 0.5),
    Layer("digits_1/relu0_1/Relu", "Relu", 0, "fp32", None),
    Layer("digits_1/conv1_1/BiasAdd", "Conv", 500, "int8", 0.25),
    Layer("digits_1/conv1_1/scale", "Mul", 900, "fp32", None),
    Layer("Shape__75", "Shape", 0, "int64", None),
    Layer("Gather__78", "Gather", 32, "int64", None),
)
KNOWN = {"conv0": True, "relu0": False, "conv1": True}


def parity(name: str, output_db: float | None) -> LayerParity:
    return LayerParity(
        name=name, keras_layers=(name,), tensor=f"{name}:0", operator="Conv", snr_db=30.0, introduced_db=35.0,
        output_db=output_db, cosine=1.0, saturation=None, rounding_share=None, setting=name, readers=(),
        reasons=(Reason("rounding", "long steps"),),
    )  # fmt: skip


def test_operators_belong_to_the_layers_of_the_model() -> None:
    conv0, conv1, beside = _grouped(OPERATORS, {"relu0": "conv0"}, KNOWN)
    assert (conv0.name, conv0.operator, conv0.bytes, conv0.sparsity) == ("conv0", "Conv", 300, 0.5)
    assert (conv1.name, conv1.bytes, conv1.precision) == ("conv1", 1400, "int8"), "its weights say its precision"
    assert (beside.name, beside.bytes) == (BESIDE, 32)


def test_a_file_without_keras_names_its_modules() -> None:
    operators = [
        Layer("/features/features.0/Conv", "Conv", 10, "int8", 0.0),
        Layer("/fc/Gemm", "Gemm", 20, "int8", 0.0),
    ]
    assert [layer.name for layer in _grouped(operators, {}, None)] == ["features.0", "fc"]


def test_culprits_are_the_worst_that_matter() -> None:
    names = [f"layer{number}" for number in range(6)]
    costs = [NEAR_DB + 1, 20.0, None, 10.0, 30.0, 40.0]
    rows = tuple(parity(name, cost) for name, cost in zip(names, costs, strict=True))
    layers = _grouped(
        [Layer(f"m_1/{name}_1/BiasAdd", "Conv", 1, "int8", 0.0) for name in names], {}, dict.fromkeys(names, True)
    )
    found = _with_parity(layers, LayerComparison(4, 4, rows, ()))
    assert [layer.culprit for layer in found] == [None, 2, None, 1, 3, None]
    assert CULPRITS == 3
    assert [layer.reason for layer in found] == [None, "long steps", None, "long steps", "long steps", None]
    assert [layer.output_db for layer in found] == costs


def test_layers_that_do_not_matter_are_no_culprits() -> None:
    layers = _grouped(OPERATORS[:1], {}, KNOWN)
    (found,) = _with_parity(layers, LayerComparison(4, 4, (parity("conv0", NEAR_DB),), ()))
    assert (found.output_db, found.culprit) == (NEAR_DB, None)
