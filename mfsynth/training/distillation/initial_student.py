"""Few-step weights that a distillation goes on from."""

from __future__ import annotations

from mfsynth.errors import MfsynthError
from mfsynth.models.few_steps.files import (
    FewSteps,
    find_few_steps,
    read_few_steps,
    read_weights,
)
from mfsynth.models.few_steps.student import load_student, student_weights
from mfsynth.models.locations import find_model
from mfsynth.models.tensor_files import discrepancies, read_headers
from mfsynth.models.transformer import ModalityForcingTransformer2DModel
from mfsynth.training.distillation.config import DistillConfig

# What a policy and its adapters are read by.
_THE_SAME = "steps", "points", "rank", "alpha"


def start_as(
    transformer: ModalityForcingTransformer2DModel, config: DistillConfig, student: FewSteps
) -> None:
    """Give the student of a transformer the weights of `student.initial`.

    They may be of another teacher of the same sizes: the same model before it was trained further.

    Args:
        transformer: With the student.
        config: Of the distillation.
        student: What it is to be.

    Raises:
        MfsynthError: There are no such weights, they are damaged, or of a student of other sizes.
    """
    name = config.student.initial
    assert name is not None
    teacher = find_model(config.teacher.id, config.teacher.revision)
    path = find_few_steps(teacher, name, "student.initial", "leave it out")
    try:
        began, weights = read_few_steps(path), read_weights(path)
    except MfsynthError as error:
        raise MfsynthError(
            f"student.initial: {str(error).removeprefix('model.few_steps: ')}"
        ) from error
    others = [
        f"{key} {getattr(began, key)}, not {getattr(student, key)}"
        for key in _THE_SAME
        if getattr(began, key) != getattr(student, key)
    ]
    expected = {of: tuple(weight.shape) for of, weight in student_weights(transformer).items()}
    if differences := others or discrepancies(expected, read_headers(path)):
        raise MfsynthError(
            f"student.initial: {path} is no beginning for this student: {', '.join(differences)}; "
            "give the weights of one like it, or leave student.initial out"
        )
    load_student(transformer, weights)
