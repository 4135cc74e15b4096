"""Few-step weights of the tiny model: a random student, written as a distillation would."""

from __future__ import annotations

from pathlib import Path

import torch

from mfsynth.config import ModelConfig
from mfsynth.models import load_pipeline
from mfsynth.models.few_steps.files import FewSteps, write_few_steps
from mfsynth.models.few_steps.student import add_student, student_weights, weights_digest
from mfsynth.training.distillation.config import DistillConfig
from mfsynth.training.distillation.run import student_of

PROMPTS = "a red cube\na blue ball\na red ball on a table\na blue cube on a table\n"


def distill_config(folder: Path, model: Path, **changes) -> DistillConfig:
    prompts = folder / "prompts.txt"
    folder.mkdir(parents=True, exist_ok=True)
    prompts.write_text(PROMPTS)
    optimiser = {
        "steps": 6,
        "batch_size": 4,
        "adamw_learning_rate": 1e-3,
        "warmup_steps": 2,
        "decay_share": 0.5,
        "weight_decay": 0.0,
        "ema": 0.9,
        "checkpoint_every": 3,
    }
    settings = {
        "name": "tiny",
        "seed": 0,
        "teacher": {
            "id": str(model),
            "steps": 8,
            "guidance": 2.0,
            "guidance_interval": [0.3, 0.95],
        },
        "prompts": {"file": str(prompts)},
        "student": {"steps": 3, "points": 4, "rank": 2, "alpha": 2},
        "optimiser": optimiser | changes.pop("optimiser", {}),
        "samples": {"prompts": 2},
        "output": folder / "out",
    }
    return DistillConfig.model_validate(settings | changes)


def write_student(folder: Path, model: Path, *, spread: float = 0.0, **changes) -> FewSteps:
    """Write a student whose weights are off the teacher's by noise of this spread."""
    pipeline = load_pipeline(ModelConfig(id=str(model)), "cpu")
    few_steps = student_of(pipeline, distill_config(folder, model))
    few_steps = few_steps.model_copy(update=changes)
    add_student(pipeline.transformer, few_steps.rank, few_steps.alpha, few_steps.points)
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: value + spread * torch.randn(value.shape, generator=generator)
        for name, value in student_weights(pipeline.transformer).items()
    }
    write_few_steps(folder, few_steps, weights)
    return few_steps


def digest_of(model: Path) -> str:
    return weights_digest(load_pipeline(ModelConfig(id=str(model)), "cpu").transformer)
