"""From a configuration to a folder of few-step weights, resumed where it was interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCardData

from mfsynth.config import ModelConfig
from mfsynth.errors import MfsynthError
from mfsynth.models import load_pipeline
from mfsynth.models.few_steps.files import FewSteps, write_few_steps
from mfsynth.models.few_steps.student import student_weights, weights_digest
from mfsynth.models.locations import CARD, card_licence, find_model, model_licence
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.models.schedules import shift_time
from mfsynth.prompts import open_prompts
from mfsynth.storage.atomic import staged_folder
from mfsynth.training.checkpoints import AVERAGE, latest_checkpoint
from mfsynth.training.distillation.config import DistillConfig
from mfsynth.training.distillation.distiller import Distiller, StudentSampler
from mfsynth.training.noise import torch_seed
from mfsynth.training.processes import join_processes
from mfsynth.training.progress import Log, quiet
from mfsynth.training.tensorboard import Board, is_installed

FOLDER = "few_steps"
"""Of the finished weights, in the output."""

_TEXT = """---
{front_matter}
---

# {name}

Few-step weights of {teacher}: adapters of rank {rank} and a policy head, by which it makes an image
in {steps} forwards, without depth tokens and with guidance of {guidance:g} in them; depth is then
one forward of the model itself, with the adapters off. Distilled by `mfsynth distill`, as in
pi-Flow (arXiv 2510.14974), from prompts alone: {prompts}.

- Sample: `model: {{few_steps: FOLDER}}` and `sampler: {{preset: distilled, steps: {steps}}}`; other
  numbers of steps are refused. diffusers opens the adapters, but not the head.
- Training: {iterations:,} steps of {batch} samples in every process, seed {seed}{began}.
- Licence of the weights: {licence}, the teacher's. The data that they make must carry it.
"""


def distill(config: DistillConfig, log: Log) -> Path:
    """Distil, export.

    Run again after an interruption, it goes on where it was. Started in several processes by
    `accelerate launch` or `torchrun`, they train together.

    Args:
        config: What to distil.
        log: Takes lines about the progress; those of the main process.

    Returns:
        The folder of the few-step weights, `<output>/few_steps`.

    Raises:
        MfsynthError: The teacher can't be had or can't be distilled, or the output holds something
            else.
    """
    processes = join_processes()
    if not processes.is_main_process:
        log = quiet
    torch.manual_seed(torch_seed(config.seed))
    prompts = open_prompts(config.prompts, config.seed)
    model = ModelConfig(
        id=config.teacher.id, revision=config.teacher.revision, dtype=config.optimiser.precision
    )
    with processes.local_main_process_first():
        try:
            pipeline = load_pipeline(model, str(processes.device))
        except MfsynthError as error:
            raise MfsynthError(f"teacher.id: {str(error).removeprefix('model.id: ')}") from error
    few_steps = student_of(pipeline, config)
    distiller = Distiller(pipeline, config, few_steps, prompts.digest, processes)
    if distiller.resume(config.output):
        log(f"resumed at step {distiller.state.step} from {config.output}")
    size = distiller.state.size
    log(f"{size / 1e6:.2f} M parameters to train, processes: {processes.num_processes}")
    board, sampler = None, None
    if is_installed(log):
        sampler = StudentSampler(pipeline, config, few_steps, prompts)
        if processes.is_main_process:
            board = Board(config.output / "tensorboard", distiller.state.step)
    distiller.run(prompts, config.output, log, board, sampler)
    if board is not None:
        board.close()

    folder = config.output / FOLDER
    if processes.is_main_process:
        export(distiller, config, few_steps, folder)
        log(f"few-step weights: {folder}")
    processes.wait_for_everyone()
    processes.end_training()
    return folder


def student_of(pipeline: ModalityForcingPipeline, config: DistillConfig) -> FewSteps:
    """What the student of a teacher will be, before any training.

    Raises:
        MfsynthError: The teacher takes guidance as an input, so that there is none to distil; or
            it was never without depth tokens, as its student is.
    """
    if pipeline.config.mixes_without_depth:
        raise MfsynthError(
            f"teacher.id: {config.teacher.id} was never trained without depth tokens, which the "
            "student leaves out; distil a model that was trained on images alone as well"
        )
    if pipeline.transformer.config.guidance_embeds:
        raise MfsynthError(
            f"teacher.id: {config.teacher.id} is guidance-distilled already; distil its base model"
        )
    student, teacher, prompts = config.student, config.teacher, config.prompts

    def levels(steps: int) -> list[float]:
        t = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
        return shift_time(t, pipeline.config.rgb_shift_mu).tolist()[:-1]

    return FewSteps(
        steps=student.steps,
        levels=(*levels(student.steps), levels(teacher.steps)[-1]),
        points=student.points,
        rank=student.rank,
        alpha=student.alpha,
        guidance=teacher.guidance,
        guidance_interval=teacher.guidance_interval,
        teacher=_shown(teacher.id),
        teacher_digest=weights_digest(pipeline.transformer),
        iterations=0,
        prompts=_shown(prompts.library or prompts.file or ""),
        licence=model_licence(find_model(teacher.id, teacher.revision)),
    )


def export(distiller: Distiller, config: DistillConfig, few_steps: FewSteps, folder: Path) -> None:
    """Write the averaged weights of the last checkpoint, with their card."""
    checkpoint = latest_checkpoint(config.output, AVERAGE)
    if checkpoint is None:
        raise MfsynthError(f"{config.output} has no checkpoint to export; distil again")
    trained = distiller.model.trained()
    with torch.no_grad():
        for name, value in checkpoint.read(AVERAGE):
            trained[name].copy_(value)
    few_steps = few_steps.model_copy(update={"iterations": checkpoint.step})
    with staged_folder(folder, over=True) as staged:
        write_few_steps(staged, few_steps, student_weights(distiller.model.transformer))
        _write_card(config, few_steps, staged)


def _write_card(config: DistillConfig, few_steps: FewSteps, folder: Path) -> None:
    teacher = find_model(config.teacher.id, config.teacher.revision)
    fields: dict[str, Any] = {**card_licence(teacher.path)}
    front_matter = ModelCardData(
        **(fields or {"license": few_steps.licence}),
        base_model=few_steps.teacher,
        library_name="diffusers",
        pipeline_tag="text-to-image",
        tags=["lora", "few-step", "rgb-d", "modality-forcing"],
    ).to_yaml()
    optimiser, initial = config.optimiser, config.student.initial
    text = _TEXT.format(
        front_matter=front_matter,
        name=config.name,
        batch=optimiser.batch_size * optimiser.accumulate,
        seed=config.seed,
        began=""
        if initial is None
        else f", from few-step weights that were there ({_shown(initial)})",
        **few_steps.model_dump(),
    )
    (folder / CARD).write_text(text, encoding="utf-8")


def _shown(name: str) -> str:
    """Where a folder or file was on one machine is nobody else's business."""
    return Path(name).name if Path(name).exists() else name
