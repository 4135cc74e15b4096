"""Few-step weights that a distillation goes on from."""

from __future__ import annotations

import torch
from torch import Tensor

from mfsynth.errors import MfsynthError
from mfsynth.models.few_steps.files import (
    FewSteps,
    find_few_steps,
    read_few_steps,
    read_weights,
)
from mfsynth.models.few_steps.student import student_weights
from mfsynth.models.locations import find_model
from mfsynth.models.tensor_files import discrepancies, read_headers
from mfsynth.models.transformer import ModalityForcingTransformer2DModel
from mfsynth.storage.digests import sha256_of_file
from mfsynth.training.distillation.config import DistillConfig

_A, _B = ".lora_A.weight", ".lora_B.weight"
# The sides of an adapter's two matrices that have its rank.
_RANK = {_A: 0, _B: 1}


def start_as(
    transformer: ModalityForcingTransformer2DModel, config: DistillConfig, student: FewSteps
) -> str:
    """Give the student of a transformer the weights of `student.initial`.

    They may be of another teacher of the same sizes (the same model before it was trained further),
    of other steps, and of a lower rank: what a higher one has more begins without effect.

    Args:
        transformer: With the student.
        config: Of the distillation.
        student: What it is to be.

    Returns:
        SHA-256 of their file.

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
    others = []
    if began.points != student.points:
        others.append(f"points {began.points}, not {student.points}")
    if began.rank > student.rank:
        others.append(f"rank {began.rank}, more than {student.rank}")
    own = student_weights(transformer)
    expected = {of: _shape(of, weight, began.rank) for of, weight in own.items()}
    if differences := others or discrepancies(expected, read_headers(path)):
        raise MfsynthError(
            f"student.initial: {path} is no beginning for this student: {', '.join(differences)}; "
            "give the weights of one like it, or leave student.initial out"
        )
    scale = (began.alpha / began.rank) / (student.alpha / student.rank)
    with torch.no_grad():
        for of, weight in own.items():
            factor = scale if of.endswith(_B) else 1
            # The rest is as in a new student, whose second matrices are zeros.
            weight[tuple(map(slice, weights[of].shape))] = factor * weights[of]
    return sha256_of_file(path)


def _shape(name: str, weight: Tensor, rank: int) -> tuple[int, ...]:
    """Of a student's weight if its adapters had another rank."""
    shape = list(weight.shape)
    for suffix, side in _RANK.items():
        if name.endswith(suffix):
            shape[side] = rank
    return tuple(shape)
