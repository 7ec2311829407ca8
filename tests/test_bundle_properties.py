"""What was written is read, whatever it is."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.bundle import Bundle, write_bundle
from edgekit.manifest import (
    FORMATS,
    PRECISIONS,
    Binding,
    Golden,
    Input,
    Manifest,
    Member,
    Provenance,
    Variant,
)
from edgekit.tensors import Quantization, TensorSpec

words = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=12)
names = st.text("abcXYZ019_-. é", min_size=1, max_size=12).filter(lambda name: name == name.rstrip(". "))
numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
shapes = st.lists(st.none() | st.integers(0, 1 << 40), max_size=4).map(tuple)
scales = st.floats(2.0**-100, 2.0**100)
contents = st.binary(max_size=300)


@st.composite
def bundles(draw: st.DrawFn) -> tuple[Manifest, dict[str, bytes]]:
    members = draw(
        st.lists(st.tuples(names, contents), min_size=2, max_size=4, unique_by=lambda item: item[0].casefold())
    )
    inputs = draw(st.lists(words, min_size=1, max_size=3, unique=True))
    outputs = draw(st.lists(words, min_size=1, max_size=2, unique=True))
    (golden, golden_bytes), *models = members
    low, high = sorted((draw(numbers), draw(numbers)))
    manifest = Manifest(
        format_version=1,
        name=draw(names),
        version=draw(names),
        inputs=tuple(Input(name, draw(shapes), "float32", draw(st.none() | st.just((low, high)))) for name in inputs),
        outputs=tuple(TensorSpec(name, draw(shapes), "int64") for name in outputs),
        variants=tuple(
            Variant(
                id=f"{place}",
                format=draw(st.sampled_from(FORMATS)),
                precision=draw(st.sampled_from(PRECISIONS)),
                member=listed(name, content),
                targets=tuple(draw(st.lists(words, max_size=2))),
                engine=draw(words),
                engine_least_version=draw(words),
                inputs=tuple(draw(bindings(name)) for name in draw(st.permutations(inputs))),
                outputs=tuple(draw(bindings(name)) for name in draw(st.permutations(outputs))),
                golden_tolerance=draw(numbers),
                metrics=draw(st.dictionaries(words, numbers, max_size=2)),
                float_layers=tuple(draw(st.lists(words, max_size=2))),
                notes=tuple(draw(st.lists(words, max_size=2))),
            )
            for place, (name, content) in enumerate(models)
        ),
        golden=Golden(listed(golden, golden_bytes), draw(st.integers(0, 9))),
        provenance=Provenance((), draw(st.dictionaries(words, words, max_size=2)), draw(words), {}),
        labels=draw(st.none() | st.lists(words, max_size=3).map(tuple)),
    )
    return manifest, dict(members)


@st.composite
def bindings(draw: st.DrawFn, name: str) -> Binding:
    quantized = draw(st.none() | st.builds(Quantization, scales, st.integers(-128, 127)))
    return Binding(name, draw(words), "float16" if quantized is None else "int8", quantized)


def listed(name: str, content: bytes) -> Member:
    return Member(name, hashlib.sha256(content).hexdigest(), len(content))


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(bundles())
def test_what_was_written_is_read(made: tuple[Manifest, dict[str, bytes]]) -> None:
    manifest, members = made
    with tempfile.TemporaryDirectory() as folder:
        sources = {}
        for place, (name, content) in enumerate(members.items()):
            sources[name] = Path(folder, str(place))
            sources[name].write_bytes(content)
        first, second = Path(folder, "first.edgekit"), Path(folder, "second.edgekit")
        write_bundle(first, manifest, sources)
        with Bundle.open(first) as bundle:
            assert bundle.manifest == manifest
            assert {name: bundle.read(name) for name in members} == members
            write_bundle(second, bundle.manifest, sources)
        assert second.read_bytes() == first.read_bytes()
