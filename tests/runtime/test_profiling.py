"""`session.profile`: operators where the engine times them, memory, and energy where a meter may be read."""

from __future__ import annotations

import math
from pathlib import Path
from time import sleep

import pytest

from edgekit.bundle import Bundle
from edgekit.errors import BundleError, EngineError
from edgekit.runtime import energy, open_bundle, survey
from edgekit.runtime.energy import measure_energy
from edgekit.runtime.profiling import read_onnx_profile
from edgekit.tensorrt.recipe import Recipe
from tests.runtime.fake_board import Board
from tests.tiny_models import Part, float_onnx, pack


def files(root: Path, **contents: object) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (root / name).write_text(f"{content}\n")
    return root


class TestOperators:
    def test_onnx_runtime_times_each(self, tiny_bundle: Path) -> None:
        with open_bundle(tiny_bundle, variant="onnx-fp32") as session:
            found = session.profile(warmup=3, runs=7)
        (gemm,) = found.operators
        assert (gemm.type, gemm.runs, gemm.share, gemm.place) == ("Gemm", 7, 1.0, "CPUExecutionProvider")
        assert 0 <= gemm.median_ms < 1000
        assert (found.timing.runs, found.timing.warmup, found.no_operators) == (7, 3, None)

    def test_litert_has_no_profiler_and_says_so(self, tiny_bundle: Path) -> None:
        with open_bundle(tiny_bundle, variant="tflite-int8") as session:
            found = session.profile(warmup=1, runs=3)
        assert found.operators == ()
        assert found.no_operators == "ai-edge-litert has no profiler of operators in its Python package"

    def test_tensorrt_times_its_layers(self, board: Board, tmp_path: Path) -> None:
        part = Part("onnx", "fp32", float_onnx(), "onnxruntime", recipe=Recipe())
        with open_bundle(pack(tmp_path, (part,)), engine="tensorrt") as session:
            found = session.profile(warmup=1, runs=4)
            session.run(session.sample())
        assert [(it.name, it.runs, it.median_ms, it.share) for it in found.operators] == [
            ("gemm", 4, 2.0, 0.8), ("reformat", 4, 0.5, 0.2),
        ]  # fmt: skip
        assert board.left() == set()

    def test_the_file_has_changed_since(self, tmp_path: Path) -> None:
        path = pack(tmp_path, (Part("onnx", "fp32", float_onnx(), "onnxruntime"),))
        with open_bundle(path) as session:
            pack(tmp_path, (Part("onnx", "fp32", float_onnx(1), "onnxruntime"),))
            with pytest.raises(BundleError, match="the file was changed since it was opened; open it again"):
                session.profile(warmup=0, runs=1)

    @pytest.mark.parametrize("content", ["", "{}", '[{"cat": "Node", "name": "x_kernel_time"}]', "[1]"])
    def test_a_profile_of_another_form(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "profile.json"
        path.write_text(content)
        if content == "{}":
            assert read_onnx_profile(path, skip=0) == ()
            return
        with pytest.raises(EngineError, match="ONNX Runtime's profile cannot be read"):
            read_onnx_profile(path, skip=0)


def test_the_peak_of_memory(tiny_bundle: Path) -> None:
    with open_bundle(tiny_bundle) as session:
        peak = session.profile(warmup=0, runs=2).peak_rss_bytes
    assert peak is None or 1 << 20 < peak < 1 << 40


def test_a_bundle_is_measured_with_it(tiny_bundle: Path) -> None:
    with Bundle.open(tiny_bundle) as bundle:
        counts = {"warmup": 1, "runs": 2, "threads": 1}
        reply = survey.bench(bundle, ["onnx-fp32"], **counts, progress=lambda _: None, profile=True)
    profile = reply.results[0].profile
    assert profile is not None
    assert profile.operators[0].type == "Gemm"


class TestEnergy:
    def test_no_meter(self, tmp_path: Path) -> None:
        done: list[int] = []
        assert measure_energy(lambda: done.append(1), tmp_path) is None
        assert done == [1]

    def test_rapl_counts_packages_and_wraps_around(self, tmp_path: Path) -> None:
        packages = [
            files(tmp_path / f"class/powercap/intel-rapl:{index}", energy_uj=start, max_energy_range_uj=9_999_999)
            for index, start in enumerate((9_000_000, 1_000_000))
        ]
        files(tmp_path / "class/powercap/intel-rapl:0:0", energy_uj=5, max_energy_range_uj=9_999_999)

        def work() -> None:
            files(packages[0], energy_uj=500_000)
            files(packages[1], energy_uj=3_000_000)

        found = measure_energy(work, tmp_path)
        assert found is not None
        assert (found.joules, found.meter, found.samples) == (3.5, "RAPL, 2 package(s)", None)

    def test_the_total_rail_of_a_jetson(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(energy, "SAMPLE_S", 0.002)
        files(
            tmp_path / "bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3", in1_label="VDD_IN", in1_input=5000,
            curr1_input=900, in2_label="VDD_CPU_GPU_CV", in2_input=5000, curr2_input=100,
        )  # fmt: skip
        found = measure_energy(lambda: sleep(0.02), tmp_path)
        assert found is not None
        assert found.meter == "INA3221 VDD_IN"
        assert found.samples is not None
        assert found.samples > 1
        assert math.isclose(found.joules, 4.5 * found.seconds, rel_tol=1e-6)

    @pytest.mark.parametrize("status", ["Discharging", "Charging"])
    def test_a_battery_where_it_discharges(self, tmp_path: Path, status: str) -> None:
        files(
            tmp_path / "class/power_supply/battery", type="Battery", status=status, voltage_now=4_000_000,
            current_now=-500_000,
        )  # fmt: skip
        found = measure_energy(lambda: None, tmp_path)
        if status == "Charging":
            assert found is None
        else:
            assert found is not None
            assert math.isclose(found.joules, 2.0 * found.seconds, rel_tol=1e-6)

    def test_work_that_fails(self, tmp_path: Path) -> None:
        files(tmp_path / "bus/i2c/drivers/ina3221/1/hwmon/h", in1_label="VDD_IN", in1_input=1, curr1_input=1)
        with pytest.raises(ZeroDivisionError):
            measure_energy(lambda: 1 / 0, tmp_path)
