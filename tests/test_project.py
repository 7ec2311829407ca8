from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.budgets import Budget
from edgekit.compression import Distill, Prune, QuantizeAware, TrainingSettings
from edgekit.compression.steps import step_table
from edgekit.errors import ConfigError
from edgekit.metadata import InputSettings, MetadataSettings, OutputSettings
from edgekit.preprocessing.declared import Audio, Picture, Preprocessing
from edgekit.project import load_project

PROJECT = """\
name = "digits"
version = "1.0.0"
model = "digits.keras"
labels = "labels.txt"

[data]
train = "train.npz"
evaluation = "my_data:test"

[[compress]]
step = "prune"
sparsity = 0.8

[[compress]]
step = "quantize-aware"

[targets.android-arm64]
precision = ["int8"]

[targets.local]

[budget]
max_bytes = 500_000
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "labels.txt").write_text("zero\none\n")
    return tmp_path


def write(folder: Path, old: str = "", new: str = "") -> Path:
    assert old in PROJECT
    path = folder / "project.toml"
    path.write_text(PROJECT.replace(old, new, 1) if old else PROJECT)
    return path


def test_a_project_file_is_read(folder: Path) -> None:
    project = load_project(write(folder))
    assert (project.name, project.version, project.labels) == ("digits", "1.0.0", ("zero", "one"))
    assert project.model == folder / "digits.keras"
    assert project.recipe == (Prune(0.8), QuantizeAware())
    assert project.targets == {"android-arm64": ("int8",), "local": None}
    assert project.budget == Budget(max_bytes=500_000)


def test_paths_are_relative_to_the_file_and_functions_are_not(folder: Path) -> None:
    project = load_project(write(folder))
    assert project.locate("train.npz") == str(folder / "train.npz")
    assert project.locate("my_data:test") == "my_data:test"
    assert project.locate("/data/train.npz") == "/data/train.npz"


def test_a_students_path_is_relative_to_the_file(folder: Path) -> None:
    old = 'step = "prune"\nsparsity = 0.8'
    project = load_project(write(folder, old, 'step = "distill"\nstudent = "small.keras"'))
    assert project.recipe[0] == Distill(student=folder / "small.keras")
    assert step_table(project.recipe[0])["student"] == "small.keras"


def test_training_settings_are_read(folder: Path) -> None:
    assert load_project(write(folder)).training == TrainingSettings()
    table = '[training]\nloss = "mse"\npatience = 2\nmetric = "top1"\ntensorboard = "board"\n[budget]'
    settings = load_project(write(folder, "[budget]", table)).training
    assert settings == TrainingSettings("mse", patience=2, metric="top1", tensorboard=str(folder / "board"))


def test_metadata_is_read_and_label_files_are_relative_to_the_file(folder: Path) -> None:
    assert load_project(write(folder)).metadata is None
    table = '[metadata]\nauthor = "A"\n[metadata.inputs.image]\nmean = [0]\nstd = [255]\n'
    found = load_project(write(folder, "[budget]", table + '[metadata.outputs.p]\nlabels = "l.txt"\n[budget]')).metadata
    assert found == MetadataSettings(
        author="A",
        inputs={"image": InputSettings(mean=(0.0,), std=(255.0,))},
        outputs={"p": OutputSettings(labels=str(folder / "l.txt"))},
    )


def test_preprocessing_is_read(folder: Path) -> None:
    assert load_project(write(folder)).preprocessing == {}
    picture = "[preprocessing.image.picture]\nresize = [8, 8]\nmean = [0]\nstd = [255]\n"
    sound = "[preprocessing.sound.audio]\nsample_rate = 8000\n"
    found = load_project(write(folder, "[budget]", f"{picture}{sound}[budget]")).preprocessing
    assert found == {
        "image": Preprocessing(Picture(resize=(8, 8), mean=(0.0,), std=(255.0,))),
        "sound": Preprocessing(audio=Audio(8000)),
    }


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "[budget]",
            "[preprocessing.image.picture]\nresice = [8, 8]\n[budget]",
            "unknown key 'resice' in [preprocessing.image.picture]; did you mean 'resize'?",
        ),
        ("[budget]", "[preprocessing.image.picture]\nresize = [0, 8]\n[budget]", "resize is [0, 8], expected"),
        (
            "[budget]",
            "[metadata]\nlicence = 'MIT'\n[budget]",
            "project.toml: unknown key 'licence' in [metadata]; did you mean 'license'?",
        ),
        (
            "[budget]",
            "[metadata.inputs.image]\nmean = [0]\n[budget]",
            "project.toml: metadata: mean and std go together",
        ),
        ("labels =", "lables =", "project.toml: unknown key 'lables'; did you mean 'labels'?"),
        ("train =", "trian =", "project.toml: unknown key 'trian' in [data]; did you mean 'train'?"),
        (
            "max_bytes =",
            "max_byte =",
            "project.toml: unknown key 'max_byte' in [budget]; did you mean 'max_bytes'?",
        ),
        (
            "sparsity =",
            "sparsty =",
            "project.toml: [[compress]] 1: unknown key 'sparsty'; did you mean 'sparsity'?",
        ),
        (
            'precision = ["int8"]',
            'precisions = ["int8"]',
            "project.toml: unknown key 'precisions' in [targets.android-arm64]; did you mean 'precision'?",
        ),
        (
            '"quantize-aware"',
            '"quantise-aware"',
            "project.toml: [[compress]] 2: unknown step 'quantise-aware'; did you mean 'quantize-aware'?",
        ),
        ("sparsity = 0.8", "sparsity = 80", "Prune.sparsity is a fraction in [0, 1), got 80; for 80 % write 0.8"),
        ("sparsity = 0.8", 'sparsity = "80 %"', "[[compress]] 1: sparsity is '80 %', expected a number"),
        ('version = "1.0.0"', "version = 1.0", "project.toml: version is 1.0, expected a string"),
        ('version = "1.0.0"\n', "", "project.toml: missing key 'version'"),
        ('precision = ["int8"]', "precision = 8", "precision is 8, expected a list"),
        ("max_bytes = 500_000", "max_bytes = -1", "project.toml: budget max_bytes is -1, expected 0 or more"),
        ("max_bytes = 500_000", 'max_bytes = "500 kB"', "budget.max_bytes is '500 kB', expected a whole number"),
        ('name = "digits"', 'name = "../digits"', "name is '../digits'; use letters, digits, '.', '_' and '-'"),
        ('version = "1.0.0"', 'version = "1/0"', "version is '1/0'"),
        (
            "[budget]",
            "[training]\npatients = 2\n[budget]",
            "unknown key 'patients' in [training]; did you mean 'patience'?",
        ),
        (
            "[budget]",
            "[training]\nworkers = 2\n[budget]",
            'training.workers is 2: several need engine = "multi-worker"',
        ),
        ("[budget]", "[training]\nloss = 1\n[budget]", "training.loss is 1, expected a name or module:function"),
        ('name = "digits"', "name = digits", "not TOML"),
        ('step = "prune"', "", "[[compress]] 1: unknown step None"),
        ('labels = "labels.txt"', 'labels = "none.txt"', "cannot read labels"),
    ],
)
def test_a_mistake_is_named_with_its_place(folder: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_project(write(folder, old, new))
    assert message in str(caught.value)


def test_a_project_without_targets(folder: Path) -> None:
    text = PROJECT[: PROJECT.index("[targets")] + "[targets]\n"
    (folder / "project.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"no targets; add a table such as \[targets.android-arm64\]"):
        load_project(folder / "project.toml")


def test_a_missing_project_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read project file .*none.toml: No such file"):
        load_project(tmp_path / "none.toml")


def test_a_project_file_that_is_binary(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"p.toml: not TOML"):
        load_project(tmp_path / "p.toml")


def test_lengths_stand_beside_the_model(folder: Path) -> None:
    model = 'model = "digits.keras"'
    assert load_project(write(folder)).lengths is None
    given = load_project(
        write(folder, model, f"{model}\nlengths = {{ tokens = [128, 64], image = '224x320' }}")
    ).lengths
    assert given == {"tokens": [128, 64], "image": "224x320"}
    with pytest.raises(ConfigError, match=r"project.toml: lengths is 128, expected a table"):
        load_project(write(folder, model, f"{model}\nlengths = 128"))


def test_an_architecture_stands_beside_the_model(folder: Path) -> None:
    model = 'model = "digits.keras"'
    assert load_project(write(folder)).architecture is None
    assert load_project(write(folder, model, f'{model}\narchitecture = "nets:build"')).architecture == "nets:build"
    with pytest.raises(ConfigError, match=r"""project.toml: architecture is 'nets.py', expected "module:function"$"""):
        load_project(write(folder, model, f'{model}\narchitecture = "nets.py"'))


def test_settings_of_a_format(folder: Path) -> None:
    table = '[convert.tflite]\nkeep_float = ["head*"]\nops = { SOFTMAX = "fp32" }\n[budget]'
    assert load_project(write(folder, "[budget]", table)).convert == {
        "tflite": {"keep_float": ["head*"], "ops": {"SOFTMAX": "fp32"}}
    }
    for wrong, message in (
        ('[convert.tflite]\nkeep_float = "head"', r"\[convert.tflite\]: keep_float is 'head', expected a list"),
        ("[convert.tflte]", r"\[convert.tflte\]: no target of this build takes 'tflte'; did you mean 'tflite'\?"),
        ("[convert.onnx]\nops = {}", r"\[convert.onnx\]: unknown key 'ops'"),
    ):
        with pytest.raises(ConfigError, match=f"project.toml: {message}"):
            load_project(write(folder, "[budget]", f"{wrong}\n[budget]"))
