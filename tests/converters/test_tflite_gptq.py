"""GPTQ: kernels rounded by the second moments of what they meet."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from edgekit_tflite import converter, gptq, moments, rounding
from edgekit_tflite.activations import activations
from edgekit_tflite.conversion import _float_export
from edgekit_tflite.layers import kernel_of, name_operators
from edgekit_tflite.patches import PATCHED, patched
from edgekit_tflite.reading import read_model
from edgekit_tflite.rounding import DAMPING, compensated, round_rows
from edgekit_tflite.running import Runner
from edgekit_tflite.settling import Setting

from edgekit.errors import ConversionError

# LiteRT says that keeping all tensors, which calibration is about, takes memory.
pytestmark = pytest.mark.filterwarnings("ignore:Warning. Enabling .experimental_preserve_all_tensors.:UserWarning")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """`exported(inputs, outputs, samples)`: source and samples of a Keras model."""

    def export(image, outputs, samples):
        import keras

        from edgekit.exporting import export_source
        from edgekit.loading import load

        source = export_source(load(keras.Model(image, outputs)), tmp_path_factory.mktemp("exported"))
        return SimpleNamespace(source=source, inputs=samples)

    return export


# Rounding


@pytest.fixture
def alike():
    """Weights, their grids, and moments of inputs that resemble each other: 2 groups of 5 rows of 12 numbers."""
    generator = np.random.default_rng(0)
    met = generator.normal(1, 1, (2, 200, 12)) @ generator.normal(0, 1, (2, 12, 12))
    weights = generator.normal(0, 1, (2, 5, 12))
    steps = np.broadcast_to(np.abs(weights).max(axis=2, keepdims=True) / 7, weights.shape)
    return weights, steps, met.transpose(0, 2, 1) @ met


def cost(error, second):
    return float(np.sum((error @ second) * error))


def test_outputs_err_less_than_with_weights_rounded_to_nearest(alike):
    weights, steps, second = alike
    codes = round_rows(weights, steps, second, 7)
    nearest = np.round(weights / steps) * steps
    assert codes.dtype == np.int8
    assert cost(weights - codes * steps, second) < 0.5 * cost(weights - nearest, second)


def test_rounding_is_that_of_the_paper(alike):
    """Optimal Brain Surgeon's updates, one weight after the other, with the inverse of what is left."""
    weights, steps, second = alike
    codes = compensated(weights, steps, second, 7)
    for group, row in itertools.product(range(2), range(5)):
        damped = second[group] + DAMPING * np.mean(np.diag(second[group])) * np.eye(12)
        order = np.argsort(-np.diag(second[group]))
        left, found = weights[group, row].copy(), np.zeros(12)
        for index, weight in enumerate(order):
            rest = order[index:]
            inverse = np.linalg.inv(damped[np.ix_(rest, rest)])
            found[weight] = np.clip(np.round(left[weight] / steps[group, row, weight]), -7, 7)
            error = left[weight] - found[weight] * steps[group, row, weight]
            left[rest] -= error / inverse[0, 0] * inverse[0]
        assert found.tolist() == codes[group, row].tolist()


def test_blocks_change_nothing(monkeypatch):
    generator = np.random.default_rng(0)
    met = generator.normal(0, 1, (400, 150)) @ generator.normal(0, 1, (150, 150))
    weights, steps = generator.normal(0, 1, (1, 3, 150)), np.full((1, 3, 150), 0.1)
    blocks = compensated(weights, steps, (met.T @ met)[None], 127)
    monkeypatch.setattr(rounding, "_BLOCK", 150)
    assert np.array_equal(blocks, compensated(weights, steps, (met.T @ met)[None], 127))


def test_no_row_is_worse_than_rounded_to_nearest(alike):
    weights, steps, second = alike
    nearest, moved = np.round(weights / steps), compensated(weights, steps, second, 7)
    codes = round_rows(weights, steps, second, 7)
    worse = 0
    for group, row in itertools.product(range(2), range(5)):
        errors = [weights[group, row] - it[group, row] * steps[group, row] for it in (codes, nearest, moved)]
        best, plain, greedy = (cost(error[None], second[group]) for error in errors)
        assert best == min(plain, greedy)
        worse += greedy > plain
    assert worse == 0


def test_no_code_leaves_the_grid(alike):
    weights, steps, second = alike
    assert np.abs(round_rows(3 * weights, steps, second, 7)).max() == 7


def test_what_never_meets_anything_is_rounded_to_nearest(alike):
    weights, steps, second = alike
    assert np.array_equal(round_rows(weights, steps, 0 * second, 7), np.round(weights / steps))


def test_a_channel_of_zeros_stays_zero(alike):
    weights, _, second = alike
    assert not round_rows(0 * weights, 0 * weights, second, 7).any()


# What kernels meet


@pytest.fixture(scope="module")
def moving(exported):
    """Strides, dilation, padding, groups and multipliers on an image whose sides are odd."""
    import keras

    keras.utils.set_random_seed(0)
    image = keras.Input((11, 9, 4), name="image")
    layers = keras.layers
    x = layers.Conv2D(6, (3, 2), strides=2, padding="same", bias_initializer="normal", name="strided")(image)
    x = layers.DepthwiseConv2D(2, depth_multiplier=2, bias_initializer="normal", name="depth")(x)
    x = layers.Conv2D(8, 3, dilation_rate=2, padding="same", groups=2, bias_initializer="normal", name="dilated")(x)
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", bias_initializer="normal", name="halved")(x)
    x = layers.Dense(3, bias_initializer="normal", name="scores")(layers.Flatten()(x))
    return exported(image, x, {"image": np.random.default_rng(0).normal(0, 1, (12, 11, 9, 4)).astype(np.float32)})


def test_kernels_times_patches_are_the_layers_outputs(moving):
    path = _float_export(moving.source)
    uses = patched(path)
    kinds = {use.operator.type for (use,) in uses.values()}
    assert (kinds, len(uses)) == (set(PATCHED), 5)
    (name,) = moving.source.signature_names()
    (values,) = (dict(values) for values in activations(path, [{name: moving.inputs["image"][:1]}]))
    for (use,) in uses.values():
        kernel, bias = (tensor.data.view("float32").reshape(tensor.shape) for tensor in use.operator.inputs[1:])
        patches = use.patches(values[use.reads], np.random.default_rng(0))
        outputs = np.einsum("gon,gpn->pgo", use.matrices(kernel), patches).reshape(patches.shape[1], -1) + bias
        given = values[use.operator.outputs[0].name]
        np.testing.assert_allclose(outputs, given.reshape(outputs.shape), atol=1e-5)
        assert np.array_equal(use.kernel(use.matrices(kernel)), kernel)


def feeds_of(given, times=1.0):
    (name,), (samples,) = given.source.signature_names(), given.inputs.values()
    return [{name: np.float32(times) * sample[None]} for sample in samples]


def test_moments_do_not_depend_on_how_many_kernels_are_measured_at_once(moving, monkeypatch):
    path = _float_export(moving.source)
    feeds = feeds_of(moving)
    together = dict(moments.second_moments(path, patched(path), feeds))
    monkeypatch.setattr(moments, "_AT_ONCE", 1)
    for name, apart in moments.second_moments(path, patched(path), feeds):
        np.testing.assert_allclose(apart, together.pop(name), rtol=1e-5, atol=1e-4)
    assert together == {}


# Files


def output_errors(artifact, given):
    """By kernel name, what rounding costs the layer's outputs on the calibration samples, in real numbers."""
    path = _float_export(given.source)
    stored = {kernel.name: kernel for it in read_model(artifact.path).operators if (kernel := kernel_of(it))}
    found = {}
    for kernel_name, second in moments.second_moments(path, patched(path), feeds_of(given)):
        use, kernel = patched(path)[kernel_name][0], stored[kernel_name]
        if kernel.dtype == "float32":
            continue
        shape = [1] * len(kernel.shape)
        shape[kernel.axis] = -1
        real = integers(kernel) * np.reshape(kernel.scales, shape)
        exact = kernel_of(use.operator).data.view("float32").reshape(kernel.shape)
        found[kernel_name] = cost(use.matrices(real - exact), second)
    return found


def integers(kernel):
    if kernel.dtype != "int4":
        return kernel.data.view(kernel.dtype).reshape(kernel.shape).astype(float)
    nibbles = np.stack((kernel.data & 15, kernel.data >> 4), axis=-1).reshape(-1)[: np.prod(kernel.shape)]
    return ((nibbles.astype(int) ^ 8) - 8).reshape(kernel.shape).astype(float)


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("classifier", "int8"),
        ("grouped", "int8"),
        ("classifier", "int16x8"),
        ("classifier", "dynamic-int8"),
        ("classifier", "int4-weights"),
    ],
)
def test_every_layers_outputs_err_less_at_the_same_size(untrained, converted, made, name, precision):
    given = untrained(name)
    plain, rounded = converted("tflite", name, precision), made(given, precision, algorithm="gptq")
    before, after = output_errors(plain, given), output_errors(rounded, given)
    assert before.keys() == after.keys() != set()
    same_scales = precision != "int4-weights"
    assert all(after[name] < 1.000001 * before[name] for name in before if same_scales)
    assert sum(after.values()) < 0.95 * sum(before.values())
    assert plain.path.stat().st_size == rounded.path.stat().st_size


def test_only_operators_of_the_kinds_that_it_is_for(untrained, made):
    with pytest.raises(
        ConversionError, match="'gptq' fits no operator of this model in int8: choose another algorithm"
    ):
        made(untrained("mixing"), algorithm="gptq")


# Parameters of the quantizer


@pytest.fixture
def rounded(moving):
    """`rounded(times=1)`: the notes and the parameters after rounding all kernels by samples that are so large."""
    qtyping = pytest.importorskip("litert_quantizer.qtyping")

    def grid(operator):
        kernel = kernel_of(operator)
        values = kernel.data.view("float32").reshape(kernel.shape)
        axis = 3 if operator.type == "DEPTHWISE_CONV_2D" else 0
        scale = np.abs(values).max(axis=tuple({0, 1, 2, 3} & set(range(values.ndim)) - {axis}), keepdims=True) / 127
        codes = np.round(values / scale).astype(np.int8)
        return qtyping.UniformQuantParams(8, axis, scale, np.zeros_like(scale), quantized_data=codes)

    def run(times=1.0):
        path = _float_export(moving.source)
        settled = [(named, Setting("int8", "gptq")) for named in name_operators(read_model(path), moving.source.layers)]
        parameters = {
            name: SimpleNamespace(consumers=[qtyping.OpToTensorParams(0, [], grid(use.operator))])
            for name, (use,) in patched(path).items()
        }
        before = {name: found.consumers[0].parameters.quantized_data for name, found in parameters.items()}
        rounding = gptq.KernelRounding(path, settled, feeds_of(moving, times))
        rounding.apply(parameters)
        after = {name: found.consumers[0].parameters.quantized_data for name, found in parameters.items()}
        return list(rounding.notes()), {name: np.any(after[name] != before[name]) for name in before}

    return run


def test_every_kernel_is_rounded_anew(rounded):
    notes, changed = rounded()
    assert notes == []
    assert len(changed) == 5
    assert all(changed.values())


def test_a_kernel_that_is_too_large_is_left_and_named(rounded, monkeypatch):
    monkeypatch.setattr(gptq, "LARGEST", 24)
    notes, changed = rounded()
    assert notes == ["gptq left out in dilated, scores (each output has more than 24 weights): rounded to nearest"]
    assert sum(changed.values()) == 3


def test_a_kernel_whose_inputs_overflow_is_left_and_named(rounded):
    notes, changed = rounded(1e25)
    (note,) = notes
    assert note == ("gptq left out in strided, depth, dilated, halved, scores (inputs overflow): rounded to nearest")
    assert not any(changed.values())


def test_kernels_that_share_their_bytes_are_left_and_named(rounded, monkeypatch):
    def twins(path):
        found = patched(path)
        return {**found, "twin": next(iter(found.values()))}

    monkeypatch.setattr(gptq, "patched", twins)
    notes, changed = rounded()
    assert notes == ["gptq left out in strided (its weights are another layer's too): rounded to nearest"]
    assert sum(changed.values()) == 4


def test_a_layer_that_is_used_twice_is_rounded_and_stored_once(exported, made, snr_db):
    import keras

    from benchmarks.tflite_sides import duplicate_bytes

    keras.utils.set_random_seed(0)
    shared = keras.layers.Dense(64, name="shared")
    vector = keras.Input((64,), name="vector")
    twice = keras.ops.tanh(shared(keras.ops.tanh(shared(vector))))
    mixed = np.random.default_rng(0).normal(0, 1, (2, 64, 64)) @ np.random.default_rng(1).normal(0, 1, (64, 64))
    given = exported(vector, keras.layers.Dense(3, name="scores")(twice), {"vector": 0.1 * mixed[0].astype(np.float32)})
    wanted = outputs_of(made(given, "fp32"), given)
    decibels = {}
    for algorithm in ("min-max", "gptq"):
        artifact = made(given, "int4-weights", algorithm=algorithm, block_size=32)
        assert duplicate_bytes(artifact.path) < 64 * 32
        decibels[algorithm] = snr_db(wanted, outputs_of(artifact, given))
    assert decibels["gptq"] > decibels["min-max"] + 1 > 1


def outputs_of(artifact, given):
    """By XNNPACK: LiteRT's own kernels have no blocks."""
    call = Runner(artifact.path)
    return np.array([call(feed) for feed in feeds_of(given)])


def test_weights_alone_need_calibration_too(untrained, tmp_path):
    rounding_converter = converter.with_options({"algorithm": "gptq"}, where="settings")
    with pytest.raises(
        ConversionError, match="tflite dynamic-int8 of 'classifier' needs calibration samples of 'image'"
    ):
        rounding_converter.convert(
            untrained("classifier").source,
            precision="dynamic-int8",
            calibration=None,
            output=tmp_path / "made.tflite",
        )
    assert list(tmp_path.iterdir()) == []


def test_auto_chooses_among_files_with_the_same_kernels(untrained, made):
    (note,) = made(untrained("classifier"), calibration="auto", algorithm="gptq").notes
    assert note.startswith("calibration by SNR on ")
