"""From prompts and a tiny teacher to few-step weights that sample."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_students import distill_config
from tiny_training import Scalars, record_losses, snapshot, stop_before
from training_files import one_line_error

from mfsynth.config import ModelConfig
from mfsynth.config.resources import resource_names
from mfsynth.models import load_pipeline
from mfsynth.models.few_steps.files import WEIGHTS, read_few_steps, write_few_steps
from mfsynth.models.few_steps.student import acting_as, student_weights
from mfsynth.models.locations import find_model
from mfsynth.models.sampling import MIN_T
from mfsynth.prompts import open_prompts
from mfsynth.training.checkpoints import latest_checkpoint
from mfsynth.training.distillation.config import load_distill_config
from mfsynth.training.distillation.distiller import Distiller, StudentSampler
from mfsynth.training.distillation.run import distill, student_of
from mfsynth.training.processes import join_processes


@pytest.fixture
def config(tiny_model_dir, tmp_path):
    return distill_config(tmp_path, tiny_model_dir)


def make_distiller(config):
    torch.manual_seed(config.seed)
    pipeline = load_pipeline(ModelConfig(id=config.teacher.id), "cpu")
    few_steps = student_of(pipeline, config)
    digest = prompts_of(config).digest
    distiller = Distiller(pipeline, config, few_steps, digest, join_processes())
    sampler = StudentSampler(pipeline, config, few_steps, prompts_of(config))
    return distiller, sampler


def prompts_of(config):
    return open_prompts(config.prompts, config.seed)


def prepared(distiller, config, size=4):
    numbers = range(size)
    texts = [prompts_of(config).prompt(number).text for number in numbers]
    return distiller._objective.prepare(texts, numbers)


def test_the_loss_is_the_mean_square_between_the_students_velocity_and_the_guided_teachers(config):
    """By hand, for a student that has learnt nothing, whose policy is one x̂."""
    distiller, _ = make_distiller(config)
    batch = replace(
        prepared(distiller, config),
        segment=torch.zeros(4, dtype=torch.int64),
        places=torch.full((1, 4), 0.5),
    )
    transformer = distiller.model.transformer
    start, end = distiller._levels[:2]
    t = start + 0.5 * (end - start)

    def velocity(noisy, level, text):
        return transformer(
            rgb=noisy,
            depth=None,
            text=text,
            rgb_timestep=torch.full((4,), level),
            depth_timestep=None,
            grid=(4, 4),
        ).rgb

    null = distiller._objective._null.expand(4, -1, -1)
    with torch.no_grad(), acting_as(transformer, student=False):
        first = velocity(batch.noise, start, batch.text)
        noisy = batch.noise + (t - start) * first
        seen, unseen = velocity(noisy, t, batch.text), velocity(noisy, t, null)
    guided = unseen + 2.0 * (seen - unseen)
    student_clean = batch.noise - start * first
    wanted = (student_clean - (noisy - t * guided)).square().mean(dim=(1, 2)) / max(t, MIN_T) ** 2
    found = distiller._objective.losses(distiller.model, batch)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6)


def test_a_sample_is_drawn_by_its_number_alone(config):
    distiller, _ = make_distiller(config)
    four, one = prepared(distiller, config), prepared(distiller, config, size=1)
    assert torch.equal(four.noise[:1], one.noise)
    assert torch.equal(four.places[:, :1], one.places)
    assert four.segment[0] == one.segment[0]
    # Samples of a batch are at different segments of their ways.
    alone = replace(
        four,
        **{name: getattr(four, name)[2:3] for name in ("noise", "text", "segment")},
        places=four.places[:, 2:3],
    )
    losses = distiller._objective.losses(distiller.model, four)
    torch.testing.assert_close(
        distiller._objective.losses(distiller.model, alone), losses[2:3], rtol=1e-4, atol=1e-6
    )


def test_training_lowers_the_loss_and_leaves_the_teacher_as_it_was(tiny_model_dir, tmp_path):
    config = distill_config(
        tmp_path,
        tiny_model_dir,
        optimiser={"steps": 15, "adamw_learning_rate": 3e-2, "checkpoint_every": 15},
    )
    distiller, _ = make_distiller(config)
    # At random, teacher and student hardly differ: lead the student astray.
    with torch.no_grad():
        head = student_weights(distiller.model.transformer)["lora_policy_head.weight"]
        head += 0.2 * torch.randn(head.shape, generator=torch.Generator().manual_seed(0))
    losses = record_losses(distiller)
    before = snapshot(distiller)
    # The same samples before and after: what differs is learning, not luck.
    batch = prepared(distiller, config, size=16)
    with torch.no_grad():
        at_first = distiller._objective.losses(distiller.model, batch).mean()
    distiller.run(prompts_of(config), config.output, lambda _: None)
    with torch.no_grad():
        in_the_end = distiller._objective.losses(distiller.model, batch).mean()
    assert len(losses) == 15
    assert in_the_end < 0.5 * at_first
    changed = {
        name for name, value in snapshot(distiller).items() if not torch.equal(value, before[name])
    }
    assert changed == set(distiller.state.trained)


def test_a_distillation_killed_and_resumed_equals_one_that_was_not(config):
    whole, sampler = make_distiller(config)
    whole.run(prompts_of(config), config.output / "whole", lambda _: None, Scalars(), sampler)

    killed, _ = make_distiller(config)
    stop_before(killed, 5)
    with pytest.raises(KeyboardInterrupt):
        killed.run(prompts_of(config), config.output / "parts", lambda _: None)
    resumed, _ = make_distiller(config)
    assert resumed.resume(config.output / "parts")
    assert resumed.state.step == 3
    resumed.run(prompts_of(config), config.output / "parts", lambda _: None)
    for name, value in snapshot(whole).items():
        assert torch.equal(value, snapshot(resumed)[name]), name
    for name, value in whole.state.average.items():
        assert torch.equal(value, resumed.state.average[name]), name


def test_two_accumulated_batches_are_one_of_twice_the_size(tiny_model_dir, tmp_path):
    ends = []
    for size, accumulate in ((4, 1), (2, 2)):
        config = distill_config(
            tmp_path, tiny_model_dir, optimiser={"batch_size": size, "accumulate": accumulate}
        )
        distiller, _ = make_distiller(config)
        distiller.run(prompts_of(config), tmp_path / str(size), lambda _: None)
        ends.append(snapshot(distiller))
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-3, atol=1e-4)


def test_the_board_shows_errors_by_segment_and_student_beside_teacher(config):
    distiller, sampler = make_distiller(config)
    board = Scalars()
    distiller.run(prompts_of(config), config.output, lambda _: None, board, sampler)
    assert {"loss/policy", "error/segment_1", "error/segment_3", "gradient_norm"} <= {
        *board.by_step[6]
    }
    grids = sampler.grids(1)
    assert set(grids) == {"student", "teacher"}
    assert grids["student"].shape == grids["teacher"].shape


def test_a_distillation_ends_with_weights_that_make_pairs_and_is_not_repeated(
    config, tiny_model_dir
):
    said = []
    folder = distill(config, said.append)
    assert folder == config.output / "few_steps"
    few_steps = read_few_steps(folder / WEIGHTS)
    assert (few_steps.steps, few_steps.iterations) == (3, 6)
    assert few_steps.guidance_interval == (0.3, 0.95)
    card = (folder / "README.md").read_text()
    assert "license: apache-2.0\n" in card
    # Neither the teacher's folder nor the prompts' is anyone's business.
    written = card + few_steps.model_dump_json()
    assert str(tiny_model_dir.parent) not in written
    assert str(config.output.parent) not in written
    pipeline = load_pipeline(ModelConfig(id=config.teacher.id, few_steps=str(folder)), "cpu")
    assert pipeline("a red cube", seeds=[0]).rgb.shape == (1, 32, 32, 3)

    before = load_file(folder / WEIGHTS)
    said.clear()
    distill(config, said.append)
    assert any(line.startswith("resumed at step 6") for line in said)
    assert not any(line.startswith("step ") for line in said)
    after = load_file(folder / WEIGHTS)
    assert all(torch.equal(value, before[name]) for name, value in after.items())


def test_a_distillation_of_other_settings_is_refused_and_they_are_listed(config, tiny_model_dir):
    distill(config, lambda _: None)
    other = config.model_copy(update={"student": config.student.model_copy(update={"rank": 4})})
    with one_line_error(r"checkpoint-00000006 is of other settings .student\.rank: 2 -> 4.; set"):
        distill(other, lambda _: None)
    prompts = Path(config.prompts.file)
    before = prompts.read_text()
    prompts.write_text(before + "a mug\n")
    with one_line_error(r"of other settings .prompts\.digest: "):
        distill(config, lambda _: None)
    # Prompts and teacher may move.
    moved = prompts.rename(prompts.with_name("moved.txt"))
    moved.write_text(before)
    teacher = shutil.copytree(tiny_model_dir, prompts.with_name("teacher"))
    here = {
        "prompts": config.prompts.model_copy(update={"file": str(moved)}),
        "teacher": config.teacher.model_copy(update={"id": str(teacher)}),
    }
    said = []
    distill(config.model_copy(update=here), said.append)
    assert any(line.startswith("resumed at step 6") for line in said)
    spoil(teacher / "transformer" / "diffusion_pytorch_model.safetensors")
    with one_line_error(r"of other settings .teacher\.digest: "):
        distill(config.model_copy(update=here), said.append)


def going_on_from(config, folder, output, **student):
    student = config.student.model_copy(update={"initial": str(folder), **student})
    return config.model_copy(update={"student": student, "output": output})


def test_a_distillation_goes_on_from_few_step_weights_of_this_teacher_or_another(
    config, tiny_model_dir, tmp_path
):
    first = distill(config, lambda _: None)
    began = load_file(first / WEIGHTS)
    teacher = shutil.copytree(tiny_model_dir, tmp_path / "teacher")
    spoil(teacher / "transformer" / "diffusion_pytorch_model.safetensors")
    other = {"teacher": config.teacher.model_copy(update={"id": str(teacher)})}
    for number, changes in enumerate(({}, other)):
        further = going_on_from(config, first, tmp_path / str(number)).model_copy(update=changes)
        distiller, _ = make_distiller(further)
        weights = student_weights(distiller.model.transformer)
        for name, value in began.items():
            assert torch.equal(weights[name], value.float()), name
    # It may move, but must not change.
    card = (distill(further, lambda _: None) / "README.md").read_text()
    assert "seed 0, from few-step weights that were there (few_steps)." in card
    moved = shutil.copytree(first, tmp_path / "moved")
    said = []
    distill(going_on_from(further, moved, further.output), said.append)
    assert any(line.startswith("resumed at step 6") for line in said)
    file = moved / WEIGHTS
    few_steps = read_few_steps(file)
    write_few_steps(moved, few_steps, {name: value + 1 for name, value in began.items()})
    with one_line_error(r"of other settings .student\.initial: "):
        distill(going_on_from(further, moved, further.output), lambda _: None)


def test_a_student_of_higher_rank_and_other_steps_begins_as_the_one_that_it_goes_on_from(
    config, monkeypatch, tmp_path
):
    first = distill(config, lambda _: None)
    same = going_on_from(config, first, tmp_path / "same")
    wider = going_on_from(config, first, tmp_path / "wider", rank=5, alpha=2, steps=2)
    narrow, wide = (make_distiller(of)[0] for of in (same, wider))
    sizes, generator = narrow.model.transformer.config, torch.Generator().manual_seed(0)
    given = {
        "rgb": torch.randn(2, 4, sizes.in_channels, generator=generator),
        "t_rgb": torch.tensor([0.9, 0.5]),
        "text": torch.randn(2, 3, sizes.joint_attention_dim, generator=generator),
        "grid": (2, 2),
    }
    with torch.no_grad():
        expected, found = (distiller.model(**given).rgb for distiller in (narrow, wide))
        torch.testing.assert_close(found, expected)
        for name, weight in student_weights(wide.model.transformer).items():
            if name.endswith(".lora_B.weight"):
                assert not weight[:, config.student.rank :].any(), name
    assert read_few_steps(distill(wider, lambda _: None) / WEIGHTS).rank == 5
    # Elsewhere, what the wider one has more is drawn otherwise.
    monkeypatch.setattr(torch, "manual_seed", lambda seed: None)
    said = []
    distill(wider, said.append)
    assert any(line.startswith("resumed at step 6") for line in said)


def test_few_step_weights_that_are_no_beginning_are_refused(config, tiny_model_dir, tmp_path):
    first = distill(config, lambda _: None)
    out = tmp_path / "other"
    refusals = {
        r"student\.initial: .* is no beginning for .*: rank 2, more than 1; give": {"rank": 1},
        r"student\.initial: .*: points 4, not 5; give": {"points": 5},
    }
    for refusal, sizes in refusals.items():
        with one_line_error(refusal):
            distill(going_on_from(config, first, out, **sizes), lambda _: None)
    with one_line_error(r"student\.initial: there is no .* in nowhere, .* or leave it out"):
        distill(going_on_from(config, "nowhere", out), lambda _: None)
    file = first / WEIGHTS
    file.write_bytes(file.read_bytes()[:-10])
    with one_line_error(r"student\.initial: .* is damaged"):
        distill(going_on_from(config, first, out), lambda _: None)


def spoil(file):
    """Change one weight."""
    weights = load_file(file)
    name = min(weights)
    weights[name] = weights[name] + 1
    save_file(weights, file, {"format": "pt"})


def test_a_damaged_checkpoint_is_refused(config):
    distill(config, lambda _: None)
    file = latest_checkpoint(config.output).path / "average.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with one_line_error(r"checkpoint-00000006/average\.safetensors has \d+ bytes, not"):
        distill(config, lambda _: None)


def test_a_teacher_that_cannot_be_had_or_distilled_is_refused(config):
    gone = config.teacher.model_copy(update={"id": "gone/nowhere"})
    with one_line_error("'gone/nowhere': no such folder"):
        distill(config.model_copy(update={"teacher": gone}), lambda _: None)
    pipeline = load_pipeline(ModelConfig(id=config.teacher.id), "cpu")
    pipeline.transformer.register_to_config(guidance_embeds=True)
    with one_line_error("guidance-distilled already; distil its base model"):
        student_of(pipeline, config)
    pipeline.register_to_config(mixes_without_depth=True)
    with one_line_error("never trained without depth tokens"):
        student_of(pipeline, config)


def test_the_embedded_models_few_step_weights_are_small_and_of_these_weights():
    folder = find_model("embedded").path
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    assert sum(size for path, size in sizes.items() if path.parent.name == "few_steps") < 3e6
    assert sum(sizes.values()) < 25e6
    pipeline = load_pipeline(ModelConfig(few_steps="few_steps"), "cpu")
    assert pipeline.few_steps.steps == load_distill_config("embedded").student.steps


def test_a_student_of_as_many_steps_as_the_teacher_is_refused():
    with one_line_error("student.steps is 20, not less than the 20 of teacher.steps"):
        load_distill_config("embedded", ["student.steps=20"])


@pytest.mark.parametrize("name", resource_names("configs/distill"))
def test_a_shipped_configuration_is_whole(name):
    config = load_distill_config(name)
    assert config.student.steps == 4
    assert config.optimiser.total_steps == config.optimiser.steps
