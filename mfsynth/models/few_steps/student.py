"""A transformer that is teacher and student: adapters and a head of its own, on or off."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mfsynth.models.transformer import ModalityForcingTransformer2DModel

ADAPTER = "few_steps"

_BLOCKS = ("transformer_blocks.", "single_transformer_blocks.")
_HEAD = "proj_out.student.weight"
# diffusers opens files of low-rank adapters that have "lora" in all of their names, and leaves
# alone what isn't of the transformer.
HEAD_IN_FILES = "lora_policy_head.weight"
_PREFIX = "transformer."
_SAMPLED = 64


class PolicyHead(nn.Module):
    """The head of RGB: the teacher's, or the student's with an output for each point of a policy.

    Args:
        teacher: (D → C), frozen.
        points: K; the student's (D → K · C) begins as so many copies of the teacher's.

    Attributes:
        is_student: Which of the two it is.
    """

    def __init__(self, teacher: nn.Linear, points: int) -> None:
        super().__init__()
        self.teacher = teacher
        weight = teacher.weight
        self.student = nn.Linear(
            teacher.in_features,
            points * teacher.out_features,
            bias=False,
            device=weight.device,
            dtype=weight.dtype,
        )
        self.student.weight.data.copy_(weight.data.repeat(points, 1))
        self.is_student = True

    def forward(self, states: Tensor) -> Tensor:
        """(B, N, D) to (B, N, C) or (B, N, K · C)."""
        predicted: Tensor = (self.student if self.is_student else self.teacher)(states)
        return predicted


def image_layers(transformer: ModalityForcingTransformer2DModel) -> list[str]:
    """Names of the linear layers of text and RGB in blocks: those that adapters are put on.

    With the adapters off, and depth tokens left out, the model is the one that it came from.
    """
    return [
        name
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(_BLOCKS) and "depth" not in name
    ]


def add_student(
    transformer: ModalityForcingTransformer2DModel, rank: int, alpha: int, points: int
) -> None:
    """Add a student to a transformer, in place; until it has learnt, it is the teacher.

    Its weights are the only ones with gradients. It is on.

    Args:
        transformer: The teacher.
        rank: Of the adapters.
        alpha: Their scale is alpha / rank.
        points: Of its policy.
    """
    import peft

    transformer.requires_grad_(False)
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=image_layers(transformer))
    transformer.add_adapter(config, adapter_name=ADAPTER)
    head = transformer.proj_out
    assert isinstance(head, nn.Linear)
    transformer.proj_out = PolicyHead(head, points)


def student_weights(transformer: ModalityForcingTransformer2DModel) -> dict[str, nn.Parameter]:
    """The student's weights, by their names in files."""
    found: dict[str, nn.Parameter] = {}
    for name, parameter in transformer.named_parameters():
        if name == _HEAD:
            found[HEAD_IN_FILES] = parameter
        elif f".{ADAPTER}." in name:
            found[_PREFIX + name.replace(f".{ADAPTER}.", ".")] = parameter
    return found


def load_student(
    transformer: ModalityForcingTransformer2DModel, values: Mapping[str, Tensor]
) -> None:
    """Give the student of a transformer other weights, of the same names and shapes."""
    with torch.no_grad():
        for name, parameter in student_weights(transformer).items():
            parameter.copy_(values[name])


def switch(transformer: ModalityForcingTransformer2DModel, *, is_student: bool) -> None:
    """Have a transformer be its student, or the teacher that it was."""
    if is_student:
        transformer.enable_adapters()
    else:
        transformer.disable_adapters()
    _head(transformer).is_student = is_student


@contextmanager
def acting_as(transformer: ModalityForcingTransformer2DModel, *, student: bool) -> Iterator[None]:
    """Have a transformer be its student or the teacher for a while."""
    before = _head(transformer).is_student
    switch(transformer, is_student=student)
    try:
        yield
    finally:
        switch(transformer, is_student=before)


def _head(transformer: ModalityForcingTransformer2DModel) -> PolicyHead:
    head = transformer.proj_out
    assert isinstance(head, PolicyHead)
    return head


@torch.no_grad()
def weights_digest(model: nn.Module, but: Callable[[str], bool] = lambda _: False) -> str:
    """SHA-256 (hexadecimal) that tells a model's weights from others.

    Over names, sizes and some values of all weights, rounded to bfloat16: the same in whatever
    precision, layout and files they come, and quick for large models. To be taken before a student
    is added.

    Args:
        model: Any one.
        but: Says by its name of a weight that it doesn't count.
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if but(name):
            continue
        values = parameter.detach().flatten()
        some = values[:: max(1, len(values) // _SAMPLED)][:_SAMPLED].float().bfloat16().cpu()
        digest.update(f"{name} {tuple(parameter.shape)}\0".encode())
        digest.update(some.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
