"""Distillation: a student learns the teacher's outputs, which are computed once, and the true labels."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any  # Any: keras objects, which have no types

from edgekit.compression.copying import copied
from edgekit.compression.feature_matching import Match, match_loss, matches
from edgekit.compression.flattening import flat
from edgekit.compression.steps import Distill
from edgekit.compression.students import make_student
from edgekit.compression.task import ORIGINAL_OUTPUTS, Task, ends_in_softmax, loss_name, task_of, with_loss_of
from edgekit.compression.teacher_cache import teacher_outputs
from edgekit.compression.token_distillation import foretells_tokens, token_task
from edgekit.compression.training import Fit, Training, fine_tune
from edgekit.errors import ModelError
from edgekit.language import TOKENS, is_pretrained
from edgekit.loading import LoadedModel, Note, describe, import_keras, load
from edgekit.tensors import Array

_TINY = 1e-7  # keeps the logarithm of a probability finite


def distill(loaded: LoadedModel, step: Distill, training: Training) -> LoadedModel:
    """Train the student on the teacher's outputs; the student is what goes on.

    Raises ModelError on a student that does not match or cannot be made, DataError on labels that do not fit the loss.
    """
    import_keras().utils.set_random_seed(training.seed)  # the student's first weights are random
    student = with_loss_of(loaded, _student(loaded, step))
    if foretells_tokens(loaded):
        tokens = training.need_data().inputs[loaded.inputs[0].name]
        task = token_task(step, loaded, _soft_loss(step, loaded, student), tokens)
        _train(student, student.model, task, step, training)
        return replace(student, model=copied(student.model))
    matching = bool(step.features or step.attention)
    teacher = flat(loaded.model) if matching else loaded.model
    found = matches(step, teacher, student.model)
    hard, notes = _labels_task(student, training, step)
    with _cache_folder(training) as folder:
        view = import_keras().Model(teacher.input, [*teacher.outputs, *(match.teacher for match in found)])
        names = [f"output {number}" for number in range(len(loaded.outputs))] + [match.name for match in found]
        targets = teacher_outputs(loaded, view, names, training, folder)
        lesson = _Lesson(step, loaded, student, found, targets, hard, _is_classifier(loaded, training.settings.loss))
        _train(student, lesson.model(), lesson.task(), step, training)
    return replace(student, model=copied(student.model)).with_notes(notes)


def _train(student: LoadedModel, model: Any, task: Task, step: Distill, training: Training) -> None:
    """Train the student in place, through a model of what is compared."""
    task = replace(task, score=training.score(student))
    description = f"distil into {student.parameters:,} parameters"
    fit = Fit(description, step.epochs, step.batch_size, step.starting_rate, task, student.pack)
    fine_tune(model, fit, training)


def open_student(student: object, teacher: LoadedModel) -> LoadedModel:
    """A step's student; a folder of pretrained weights, which leaves the length open, gets the teacher's.

    Raises ModelError.
    """
    pretrained = isinstance(student, str | Path) and is_pretrained(Path(student))
    lengths = {TOKENS: int(teacher.inputs[0].shape[-1] or 0)} if pretrained else None
    return load(student, lengths=lengths)


@dataclass(frozen=True)
class _Lesson:
    """What the student's training model gives, and what it should give."""

    step: Distill
    teacher: LoadedModel
    student: LoadedModel
    matches: list[Match]
    targets: list[Array]  # the teacher's outputs, then those of the matches
    hard: Task | None  # the labels' own loss; None: the teacher's outputs alone
    classifier: bool

    def model(self) -> Any:
        """The student with the outputs that are compared: its own, its projections, and its own for the labels."""
        keras, student = import_keras(), self.student.model
        again = [] if self.hard is None else [keras.layers.Identity(name="for_labels")(student.outputs[0])]
        return keras.Model(student.input, [*student.outputs, *(match.student for match in self.matches), *again])

    def task(self) -> Task:
        """Losses, targets and weights, in the order of the model's outputs."""
        outputs = len(self.student.outputs)
        soft = 1.0 if self.hard is None else self.step.weight
        losses = [self._output_loss(index) for index in range(outputs)]
        losses += [match_loss(match, self.targets[outputs + index]) for index, match in enumerate(self.matches)]
        weights = [soft] * outputs + [self.step.feature_weight] * len(self.matches)
        if self.hard is None:
            return Task(tuple(losses), tuple(self.targets), tuple(weights))
        return Task((*losses, *self.hard.losses), (*self.targets, *self.hard.targets), (*weights, 1 - self.step.weight))

    def _output_loss(self, index: int) -> Any:
        models = (self.teacher.model, self.student.model)
        if not self.classifier and not any(ends_in_softmax(model, index) for model in models):
            return import_keras().losses.MeanSquaredError()
        return _soft_loss(self.step, self.teacher, self.student, index)


def _soft_loss(step: Distill, teacher: LoadedModel, student: LoadedModel, index: int = 0) -> Any:
    """What the step says of the difference of two distributions, for an output of that number."""
    soft = (ends_in_softmax(teacher.model, index), ends_in_softmax(student.model, index))
    return logits_loss(*soft) if step.objective == "logits-mse" else soft_target_loss(*soft, step.temperature)


def soft_target_loss(teacher_softmax: bool, student_softmax: bool, temperature: float) -> Any:
    """T² · KL(teacher at T ‖ student at T), whose gradients keep their size as T grows (Hinton et al. 2015)."""
    ops = import_keras().ops

    def loss(wanted: Any, got: Any) -> Any:
        teacher = ops.log_softmax(_logits(wanted, teacher_softmax) / temperature)
        student = ops.log_softmax(_logits(got, student_softmax) / temperature)
        return temperature**2 * ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)

    return loss


def logits_loss(teacher_softmax: bool, student_softmax: bool) -> Any:
    """Mean squared difference of the logits, each sample's about their mean, which a softmax does not tell."""
    ops = import_keras().ops

    def loss(wanted: Any, got: Any) -> Any:
        teacher, student = _logits(wanted, teacher_softmax), _logits(got, student_softmax)
        difference = teacher - student
        return ops.mean(ops.square(difference - ops.mean(difference, axis=-1, keepdims=True)), axis=-1)

    return loss


def _logits(outputs: Any, softmax: bool) -> Any:
    ops = import_keras().ops
    outputs = ops.cast(outputs, "float32")
    return ops.log(outputs + _TINY) if softmax else outputs


def _is_classifier(loaded: LoadedModel, loss: object) -> bool:
    """Whether a model without a softmax gives logits: what is trained by a cross-entropy, and by default."""
    chosen = loss if loss not in (None, ORIGINAL_OUTPUTS) else loaded.compiled_loss
    if chosen is None:
        return loaded.classes is not None and len(loaded.outputs[0].shape) == 2
    return loaded.classes is not None and loss_name(chosen).endswith("categorical_crossentropy")


def _labels_task(student: LoadedModel, training: Training, step: Distill) -> tuple[Task | None, list[Note]]:
    """What the labels teach, and a note where they teach nothing."""
    data, loss = training.need_data(), training.settings.loss
    if step.weight == 1:
        return None, []
    if data.labels is None:
        reason = "the data has no labels"
    elif loss == ORIGINAL_OUTPUTS:
        reason = f'the loss is "{ORIGINAL_OUTPUTS}"'
    elif len(student.outputs) > 1:
        reason = f"the model has {len(student.outputs)} outputs"
    else:
        return task_of(student, data, loss), []
    return None, [Note("distill", "", f"{reason}: the teacher's outputs alone are learned, whatever the weight")]


def _student(loaded: LoadedModel, step: Distill) -> LoadedModel:
    """The student, ready to be trained, with the teacher's notes and its own."""
    if step.student is None:
        model, notes = make_student(loaded.model, step)
        made = loaded.with_model(model)
        return replace(made, outputs=describe(model).outputs).with_notes(notes)
    student = open_student(step.student, loaded)
    if not _matches(student, loaded):
        raise ModelError(
            f"Distill.student takes {', '.join(map(str, student.inputs))} and gives "
            f"{', '.join(map(str, student.outputs))}, expected {', '.join(map(str, loaded.inputs))} "
            f"and {', '.join(map(str, loaded.outputs))}"
        )
    if student.inputs != loaded.inputs:
        own = _renamed(student.model, loaded)
    else:
        own = flat(student.model) if step.features or step.attention else copied(student.model)
    return replace(describe(own), notes=(*loaded.notes, *student.notes))


def _matches(student: LoadedModel, teacher: LoadedModel) -> bool:
    """Whether it takes and gives what the teacher does; the name of an only input does not count."""
    inputs = student.inputs
    if len(inputs) == len(teacher.inputs) == 1:
        inputs = (replace(inputs[0], name=teacher.inputs[0].name),)
    return inputs == teacher.inputs and [o.shape for o in student.outputs] == [o.shape for o in teacher.outputs]


def _renamed(model: Any, teacher: LoadedModel) -> Any:
    """A flat copy whose only input has the teacher's name: those that Keras makes up differ in every model."""
    keras = import_keras()
    own = flat(model)
    (tensor,), (spec,) = own.inputs, teacher.inputs
    taken = keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=spec.name)
    made = keras.models.clone_model(own, keras.tree.pack_sequence_as(own._inputs_struct, [taken]))
    made.set_weights(own.get_weights())
    return made


@contextmanager
def _cache_folder(training: Training) -> Iterator[Path]:
    """Where the teacher's outputs lie: beside the steps' checkpoints, so that other steps and runs find them."""
    if training.checkpoints is not None:
        yield training.checkpoints.parent
        return
    with tempfile.TemporaryDirectory(prefix="edgekit-teacher-") as name:
        yield Path(name)
