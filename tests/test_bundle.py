from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import stat
import zipfile
from pathlib import Path

import pytest

from edgekit import manifest as manifest_format
from edgekit.bundle import MANIFEST_LIMIT_BYTES, Bundle, write_bundle
from edgekit.errors import BundleError, OutputError
from edgekit.manifest import (
    MANIFEST_MEMBER,
    Binding,
    Golden,
    Input,
    Language,
    Manifest,
    Member,
    Provenance,
    TextTolerance,
    Variant,
)
from edgekit.preprocessing.declared import Audio, LogMel, Picture, Preprocessing
from edgekit.strict import canonical_json
from tests.bundle_parts import CONTENTS, example_manifest, good_entries, in_directory, zipped
from tests.tiny_models import member, pack


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "sources"
    folder.mkdir()
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in CONTENTS}


@pytest.fixture
def bundle_path(tmp_path: Path, sources: dict[str, Path]) -> Path:
    path = tmp_path / "tiny.edgekit"
    write_bundle(path, example_manifest(), sources)
    return path


def refused(path: Path, *words: str) -> None:
    with pytest.raises(BundleError) as caught, Bundle.open(path) as bundle:
        bundle.verify()
    for word in (path.name, *words):
        assert word in str(caught.value)


class TestWriting:
    def test_what_was_written_is_read(self, bundle_path: Path) -> None:
        with Bundle.open(bundle_path) as bundle:
            assert bundle.manifest == example_manifest()
            assert {name: bundle.read(name) for name in CONTENTS} == CONTENTS
            assert bundle.verify() == example_manifest().members

    def test_equal_inputs_give_equal_bytes(self, tmp_path: Path, bundle_path: Path, sources: dict[str, Path]) -> None:
        again = tmp_path / "again.edgekit"
        write_bundle(again, example_manifest(), dict(reversed(list(sources.items()))))
        assert again.read_bytes() == bundle_path.read_bytes()

    def test_the_manifest_is_first_then_members_sorted(self, bundle_path: Path) -> None:
        with zipfile.ZipFile(bundle_path) as archive:
            assert archive.namelist() == [MANIFEST_MEMBER, *sorted(CONTENTS)]

    def test_a_member_is_deflated_only_where_that_is_smaller(self, bundle_path: Path) -> None:
        with zipfile.ZipFile(bundle_path) as archive:
            methods = {info.filename: info.compress_type for info in archive.infolist()}
        assert methods["tflite-int8.tflite"] == zipfile.ZIP_DEFLATED
        assert methods["onnx-fp32.onnx"] == zipfile.ZIP_STORED

    def test_times_and_permissions_are_fixed(self, bundle_path: Path) -> None:
        with zipfile.ZipFile(bundle_path) as archive:
            for info in archive.infolist():
                assert info.date_time == (1980, 1, 1, 0, 0, 0)
                assert info.external_attr >> 16 == stat.S_IFREG | 0o644

    def test_a_file_that_is_not_what_the_manifest_says(self, tmp_path: Path, sources: dict[str, Path]) -> None:
        sources["golden.npz"].write_bytes(b"other")
        with pytest.raises(BundleError, match=r"member 'golden.npz' was changed: sha256 \w+, expected \w+"):
            write_bundle(tmp_path / "b.edgekit", example_manifest(), sources)
        assert not (tmp_path / "b.edgekit").exists()

    def test_a_wrong_size_in_the_manifest(self, tmp_path: Path, sources: dict[str, Path]) -> None:
        manifest = example_manifest()
        wrong = dataclasses.replace(manifest.golden.member, bytes=1)
        manifest = dataclasses.replace(manifest, golden=dataclasses.replace(manifest.golden, member=wrong))
        with pytest.raises(BundleError, match=r"has 300 bytes, the manifest says 1"):
            write_bundle(tmp_path / "b.edgekit", manifest, sources)

    def test_a_missing_and_an_extra_file(self, tmp_path: Path, sources: dict[str, Path]) -> None:
        with pytest.raises(BundleError, match=r"member 'extra' is not in the manifest"):
            write_bundle(tmp_path / "b.edgekit", example_manifest(), {**sources, "extra": tmp_path})
        del sources["golden.npz"]
        with pytest.raises(BundleError, match=r"member 'golden.npz' is in the manifest but missing"):
            write_bundle(tmp_path / "b.edgekit", example_manifest(), sources)

    def test_a_source_that_is_not_there(self, tmp_path: Path, sources: dict[str, Path]) -> None:
        sources["golden.npz"].unlink()
        with pytest.raises(BundleError, match=r"cannot pack .*golden.npz: No such file"):
            write_bundle(tmp_path / "b.edgekit", example_manifest(), sources)

    def test_a_folder_that_cannot_be_written_to(self, sources: dict[str, Path]) -> None:
        with pytest.raises(OutputError, match=r"cannot write"):
            write_bundle(sources["golden.npz"] / "b.edgekit", example_manifest(), sources)

    def test_the_bundle_of_a_failed_write_stays(self, bundle_path: Path, sources: dict[str, Path]) -> None:
        before = bundle_path.read_bytes()
        sources["golden.npz"].write_bytes(b"other")
        with pytest.raises(BundleError):
            write_bundle(bundle_path, example_manifest(), sources)
        assert bundle_path.read_bytes() == before
        assert sorted(item.name for item in bundle_path.parent.iterdir()) == ["sources", "tiny.edgekit"]


class TestReading:
    def test_a_member_of_another_name(self, bundle_path: Path) -> None:
        with Bundle.open(bundle_path) as bundle, pytest.raises(BundleError, match=r"did you mean 'golden.npz'"):
            bundle.read("goldn.npz")

    def test_a_variant_of_another_name(self, bundle_path: Path) -> None:
        with Bundle.open(bundle_path) as bundle:
            assert bundle.variant("onnx-fp32").engine == "onnxruntime"
            with pytest.raises(BundleError, match=r"no variant 'tflite-in8'; did you mean 'tflite-int8'"):
                bundle.variant("tflite-in8")

    def test_closing_twice_is_harmless(self, bundle_path: Path) -> None:
        bundle = Bundle.open(bundle_path)
        bundle.close()
        bundle.close()


class TestRefusals:
    def test_no_file(self, tmp_path: Path) -> None:
        refused(tmp_path / "none.edgekit", "no such file")

    def test_a_folder(self, tmp_path: Path) -> None:
        refused(tmp_path, "cannot be read")

    @pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04" + b"\0" * 100])
    def test_not_a_zip(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "b.edgekit"
        path.write_bytes(content)
        refused(path, "not an edgekit bundle")

    def test_cut_short_anywhere(self, bundle_path: Path) -> None:
        content = bundle_path.read_bytes()
        for length in range(1, len(content), 97):
            bundle_path.write_bytes(content[:length])
            refused(bundle_path, "not an edgekit bundle")

    def test_any_byte_of_a_members_data_changed_names_the_member(self, tmp_path: Path) -> None:
        path = pack(tmp_path)
        content = path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            infos = {info.filename: info for info in archive.infolist()}
        for name, info in infos.items():
            start = info.header_offset + 30 + len(name)
            for offset in range(start, start + info.compress_size, max(1, info.compress_size // 16)):
                path.write_bytes(content[:offset] + bytes([content[offset] ^ 0x41]) + content[offset + 1 :])
                refused(path, name)

    def test_a_stored_byte_changed_with_its_checksum(self, tmp_path: Path) -> None:
        changed = bytes([CONTENTS["golden.npz"][0] ^ 1]) + CONTENTS["golden.npz"][1:]
        path = zipped(tmp_path / "b.edgekit", {**good_entries(), "golden.npz": changed})
        refused(path, "member 'golden.npz' was changed: sha256", "expected", "get the bundle again")

    def test_another_size(self, tmp_path: Path) -> None:
        path = zipped(tmp_path / "b.edgekit", {**good_entries(), "golden.npz": b"short"})
        refused(path, "member 'golden.npz' was changed: 5 bytes, expected 300")

    def test_a_bomb_is_refused_by_its_declared_size(self, tmp_path: Path) -> None:
        def deflate(info: zipfile.ZipInfo) -> None:
            info.compress_type = zipfile.ZIP_DEFLATED

        path = zipped(tmp_path / "b.edgekit", {**good_entries(), "golden.npz": b"\0" * (64 << 20)}, deflate)
        assert path.stat().st_size < 1 << 20
        refused(path, "67108864 bytes, expected 300")

    def test_a_lie_about_the_size_in_the_zip(self, tmp_path: Path) -> None:
        path = zipped(tmp_path / "b.edgekit", {**good_entries(), "golden.npz": CONTENTS["golden.npz"] + b"more"})
        content = path.read_bytes().replace((304).to_bytes(4, "little"), (300).to_bytes(4, "little"))
        path.write_bytes(content)
        refused(path, "it holds bytes that no member has")

    def test_a_member_twice(self, tmp_path: Path) -> None:
        path = zipped(tmp_path / "b.edgekit", good_entries())
        with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
            archive.writestr("golden.npz", CONTENTS["golden.npz"])
        refused(path, "the zip holds member 'golden.npz' 2 times")

    def test_an_unlisted_member(self, tmp_path: Path) -> None:
        refused(zipped(tmp_path / "b.edgekit", {**good_entries(), "run.sh": b"x"}), "'run.sh' is not in the manifest")

    def test_a_missing_member(self, tmp_path: Path) -> None:
        entries = good_entries()
        del entries["golden.npz"]
        refused(zipped(tmp_path / "b.edgekit", entries), "'golden.npz' is in the manifest but missing")

    @pytest.mark.parametrize(
        "name", ["../evil", "/etc/passwd", "a/../../b", "a\\b", "C:/x", "c:x", "a//b", "./a", "folder/", "nul\x00byte"]
    )
    def test_a_path_that_escapes(self, tmp_path: Path, name: str) -> None:
        path = zipped(tmp_path / "b.edgekit", {**good_entries(), "placeholder-name"[: len(name)]: b"x"})
        path.write_bytes(path.read_bytes().replace(b"placeholder-name"[: len(name)], name.encode()))
        refused(path, "path that leaves the bundle")

    def test_a_path_that_escapes_in_the_manifest(self, tmp_path: Path) -> None:
        manifest = example_manifest()
        golden = dataclasses.replace(manifest.golden, member=member("../golden.npz", CONTENTS["golden.npz"]))
        entries = good_entries(dataclasses.replace(manifest, golden=golden))
        refused(zipped(tmp_path / "b.edgekit", entries), "'../golden.npz' is a path that leaves the bundle")

    def test_a_symbolic_link(self, tmp_path: Path) -> None:
        def link(info: zipfile.ZipInfo) -> None:
            info.external_attr = (stat.S_IFLNK | 0o777) << 16 if info.filename == "golden.npz" else 0

        refused(zipped(tmp_path / "b.edgekit", good_entries(), link), "'golden.npz' is a symbolic link")

    def test_another_compression(self, tmp_path: Path) -> None:
        def squeeze(info: zipfile.ZipInfo) -> None:
            info.compress_type = zipfile.ZIP_BZIP2

        refused(zipped(tmp_path / "b.edgekit", good_entries(), squeeze), "compressed by method 12")

    @pytest.mark.parametrize(("flag", "words"), [(0x20, "patched data"), (0x40, "strong encryption")])
    def test_flags_that_no_bundle_has(self, tmp_path: Path, flag: int, words: str) -> None:
        path = zipped(tmp_path / "b.edgekit", good_entries())
        path.write_bytes(in_directory(path.read_bytes(), 8, flag))
        refused(path, "'manifest.json'", words)

    def test_a_name_before_a_members_bytes_that_is_no_text(self, tmp_path: Path) -> None:
        path = zipped(tmp_path / "b.edgekit", good_entries())
        content = bytearray(in_directory(path.read_bytes(), 9, 0x08))  # names are UTF-8
        local = content.index(b"manifest.json") - 30
        content[local + 7] |= 0x08
        content[local + 30] = 0xFF
        path.write_bytes(content)
        refused(path, "'manifest.json'", "can't decode byte 0xff")

    def test_a_zip_of_a_later_version(self, tmp_path: Path) -> None:
        path = zipped(tmp_path / "b.edgekit", good_entries())
        path.write_bytes(in_directory(path.read_bytes(), 6, 99))
        refused(path, "zip file version 9.9")

    def test_encryption(self, tmp_path: Path) -> None:
        path = zipped(tmp_path / "b.edgekit", good_entries())
        content = bytearray(path.read_bytes())
        directory = content.rindex(b"PK\x01\x02")
        content[directory + 8] |= 1
        path.write_bytes(content)
        refused(path, "is encrypted")

    def test_the_manifest_is_not_first(self, tmp_path: Path) -> None:
        entries = dict(reversed(list(good_entries().items())))
        refused(zipped(tmp_path / "b.edgekit", entries), f"the first member is not {MANIFEST_MEMBER}")

    def test_an_empty_zip(self, tmp_path: Path) -> None:
        refused(zipped(tmp_path / "b.edgekit", {}), f"the first member is not {MANIFEST_MEMBER}")

    def test_bytes_before_the_zip(self, tmp_path: Path) -> None:
        path = zipped(tmp_path / "b.edgekit", good_entries())
        path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())
        refused(path, f"the first member is not {MANIFEST_MEMBER}")

    def test_a_manifest_too_large(self, tmp_path: Path) -> None:
        def deflate(info: zipfile.ZipInfo) -> None:
            info.compress_type = zipfile.ZIP_DEFLATED

        entries = {**good_entries(), MANIFEST_MEMBER: b" " * (MANIFEST_LIMIT_BYTES + 1)}
        refused(zipped(tmp_path / "b.edgekit", entries, deflate), "at most 16777216 are read")

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"null", b'{"format_version": 2}', b"[" * 200_000])
    def test_a_manifest_that_is_none(self, tmp_path: Path, content: bytes) -> None:
        refused(zipped(tmp_path / "b.edgekit", {**good_entries(), MANIFEST_MEMBER: content}))

    def test_an_unknown_key_in_the_manifest(self, tmp_path: Path) -> None:
        parsed = json.loads(manifest_format.to_bytes(example_manifest()))
        content = json.dumps({**parsed, "lables": []}).encode()
        refused(zipped(tmp_path / "b.edgekit", {**good_entries(), MANIFEST_MEMBER: content}), "'labels'")

    @pytest.mark.parametrize("change", [(b'{"', b'{ "'), (b'{"', b'{"name":"other","'), (b"}\n", b"}")])
    def test_a_manifest_in_another_form(self, tmp_path: Path, change: tuple[bytes, bytes]) -> None:
        content = manifest_format.to_bytes(example_manifest()).replace(*change, 1)
        refused(zipped(tmp_path / "b.edgekit", {**good_entries(), MANIFEST_MEMBER: content}), "not in canonical form")

    def test_no_variants(self, tmp_path: Path) -> None:
        manifest = dataclasses.replace(example_manifest(), variants=())
        refused(zipped(tmp_path / "b.edgekit", good_entries(manifest)), "lists no variant, so nothing can run")

    def test_two_variants_of_one_id(self, tmp_path: Path) -> None:
        manifest = example_manifest()
        first, second = manifest.variants
        variants = (first, dataclasses.replace(second, id=first.id))
        entries = good_entries(dataclasses.replace(manifest, variants=variants))
        refused(zipped(tmp_path / "b.edgekit", entries), "lists variant 'tflite-int8' 2 times")

    def test_a_member_listed_twice(self, tmp_path: Path) -> None:
        manifest = example_manifest()
        first, second = manifest.variants
        variants = (first, dataclasses.replace(second, member=first.member))
        entries = good_entries(dataclasses.replace(manifest, variants=variants))
        refused(zipped(tmp_path / "b.edgekit", entries), "lists member 'tflite-int8.tflite' 2 times")

    def test_the_manifest_as_a_member_of_itself(self, tmp_path: Path) -> None:
        manifest = example_manifest()
        golden = dataclasses.replace(manifest.golden, member=member(MANIFEST_MEMBER, b"x"))
        entries = good_entries(dataclasses.replace(manifest, golden=golden))
        refused(zipped(tmp_path / "b.edgekit", entries), f"lists member '{MANIFEST_MEMBER}' 2 times")

    @pytest.mark.parametrize("bad", [Member("golden.npz", "0" * 63, 300), Member("golden.npz", "0" * 64, -1)])
    def test_a_member_without_a_proper_hash_or_size(self, tmp_path: Path, bad: Member) -> None:
        manifest = example_manifest()
        manifest = dataclasses.replace(manifest, golden=dataclasses.replace(manifest.golden, member=bad))
        refused(zipped(tmp_path / "b.edgekit", good_entries(manifest)), "needs a size and a sha256")

    def test_a_variant_that_binds_other_inputs(self, tmp_path: Path) -> None:
        manifest = example_manifest()
        variants = tuple(dataclasses.replace(variant, inputs=()) for variant in manifest.variants)
        entries = good_entries(dataclasses.replace(manifest, variants=variants))
        refused(zipped(tmp_path / "b.edgekit", entries), "binds the inputs none, expected image")

    @pytest.mark.parametrize(
        ("path", "value", "words"),
        [
            (("inputs", 0, "dtype"), "flot32", "'image' has dtype 'flot32'; did you mean 'float32'?"),
            (("outputs", 0, "dtype"), "object", "'scores' has dtype 'object'"),
            (("inputs", 0, "range"), [1.0, 0.0], "input 'image' has range (1.0, 0.0)"),
            (("inputs", 0, "range"), [-1e308, 1e308], "input 'image' has range"),
            (("variants", 0, "inputs", 0, "dtype"), "int9", "variant 'tflite-int8': 'image' has dtype 'int9'"),
            (("variants", 0, "inputs", 0, "dtype"), "float32", "'image' has zero point -128 in float32"),
            (("variants", 0, "inputs", 0, "quantization", "zero_point"), 128, "'image' has zero point 128 in int8"),
            (("variants", 0, "inputs", 0, "quantization", "scale"), 0.0, "'image' has scale 0.0"),
            (("variants", 0, "outputs", 0, "quantization", "scale"), -1.0, "'scores' has scale -1.0"),
        ],
    )
    def test_numbers_that_make_no_sense(
        self, tmp_path: Path, path: tuple[str | int, ...], value: object, words: str
    ) -> None:
        parsed = json.loads(manifest_format.to_bytes(example_manifest()))
        place = parsed
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        refused(zipped(tmp_path / "b.edgekit", {**good_entries(), MANIFEST_MEMBER: canonical_json(parsed)}), words)

    def test_any_byte_changed_is_refused_or_harmless(self, tmp_path: Path) -> None:
        path = pack(tmp_path)
        content = path.read_bytes()
        with Bundle.open(path) as bundle:
            manifest = bundle.manifest
        for offset in range(0, len(content), 5):
            path.write_bytes(content[:offset] + bytes([content[offset] ^ 0x81]) + content[offset + 1 :])
            with contextlib.suppress(BundleError), Bundle.open(path) as bundle:
                bundle.verify()
                assert bundle.manifest == manifest


def test_the_format_is_written_down_field_by_field() -> None:
    table = Path(__file__).parents[1].joinpath("docs/bundle-format.md").read_text(encoding="utf-8")
    words = set(re.findall(r"`(\w+)(?:\[\])?`", table.split("## The manifest")[1]))
    kinds = (
        *(Manifest, Variant, Member, Binding, Input, Golden, Language, TextTolerance, Provenance),
        *(Preprocessing, Picture, Audio, LogMel),
    )
    assert words >= {field.name for kind in kinds for field in dataclasses.fields(kind)}
