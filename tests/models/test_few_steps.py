"""Few-step weights: written, found, refused, and sampled by a pipeline."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_students import digest_of, write_student
from training_files import one_line_error

from mfsynth.config import ModelConfig
from mfsynth.models import load_pipeline, model_info
from mfsynth.models.few_steps.files import WEIGHTS, read_few_steps
from mfsynth.models.few_steps.pipeline import FewStepPipeline
from mfsynth.models.few_steps.student import add_student, weights_digest
from mfsynth.models.pipeline import ModalityForcingPipeline

PROMPTS = ["a red cube", "a blue ball on a table"]


@pytest.fixture(scope="module")
def student(tiny_model_dir, tmp_path_factory):
    """Few-step weights that differ from the teacher's."""
    folder = tmp_path_factory.mktemp("student")
    write_student(folder, tiny_model_dir, spread=0.05)
    return folder


def opened(model, few_steps=None, **changes):
    name = None if few_steps is None else str(few_steps)
    return load_pipeline(ModelConfig(id=str(model), few_steps=name, **changes), "cpu")


def test_a_student_that_has_learnt_nothing_makes_the_teachers_unguided_images(
    tiny_model_dir, tmp_path
):
    # Not by way of the file, which rounds to bfloat16.
    student = FewStepPipeline.around(opened(tiny_model_dir))
    few_steps = write_student(tmp_path, tiny_model_dir)
    add_student(student.transformer, few_steps.rank, few_steps.alpha, few_steps.points)
    student.use(few_steps)
    few = student(PROMPTS, seeds=[0, 1], output_type="latent")
    teacher = opened(tiny_model_dir)
    plain = teacher(
        PROMPTS,
        seeds=[0, 1],
        num_inference_steps=3,
        guidance_scale=1.0,
        depth_start=0.0,
        refine_steps=1,
        output_type="latent",
    )
    torch.testing.assert_close(few.rgb, plain.rgb, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(few.depth, plain.depth, rtol=1e-3, atol=1e-4)


def test_an_image_takes_as_many_forwards_as_the_student_has_steps_and_depth_one_more(
    tiny_model_dir, student
):
    pipeline = opened(tiny_model_dir, student)
    calls = []
    pipeline.transformer.register_forward_pre_hook(
        lambda _, args, inputs: calls.append((inputs["depth"] is not None, len(inputs["rgb"]))),
        with_kwargs=True,
    )
    assert pipeline(PROMPTS, seeds=[0, 1]).rgb.shape == (2, 32, 32, 3)
    assert calls == [(False, 2)] * 3 + [(True, 2)]


def test_a_sample_is_the_same_in_any_batch(tiny_model_dir, student):
    pipeline = opened(tiny_model_dir, student)
    both = pipeline(PROMPTS, seeds=[0, 1], output_type="latent")
    alone = pipeline(PROMPTS[1:], seeds=[1], output_type="latent")
    torch.testing.assert_close(both.rgb[1:], alone.rgb, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["i2d", "d2i"])
def test_other_modes_are_the_teachers_before_and_after_images_were_made(
    tiny_model_dir, student, mode
):
    rng = np.random.default_rng(0)
    given = {
        "i2d": {"image": rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)},
        "d2i": {"depth": rng.uniform(1, 2, (2, 32, 32)).astype(np.float32)},
    }[mode]
    given |= {"mode": mode, "num_inference_steps": 2, "guidance_scale": 1.5}
    wanted = opened(tiny_model_dir)(PROMPTS, seeds=[0, 1], output_type="latent", **given)
    pipeline = opened(tiny_model_dir, student)
    for _ in range(2):
        made = pipeline(PROMPTS, seeds=[0, 1], output_type="latent", **given)
        assert torch.equal(made.rgb, wanted.rgb)
        assert torch.equal(made.depth, wanted.depth)
        pipeline(PROMPTS, seeds=[0, 1])


def test_a_callback_sees_every_step_and_may_change_tokens(tiny_model_dir, student):
    pipeline = opened(tiny_model_dir, student)
    levels = []

    def blank(_, step, at, tokens):
        levels.append(at)
        return {"rgb": torch.zeros_like(tokens["rgb"])} if step == 2 else {}

    made = pipeline(PROMPTS, seeds=[0, 1], callback_on_step_end=blank, output_type="latent")
    assert [round(rgb, 3) for rgb, _ in levels] == [0.857, 0.6, 0.0, 0.0]
    assert [depth for _, depth in levels] == [1.0, 1.0, 1.0, 0.0]
    assert (made.rgb == 0).all()


def test_compiled_blocks_are_student_and_teacher_without_being_compiled_again(
    tiny_model_dir, student
):
    pipeline = opened(tiny_model_dir, student)
    plain = pipeline(PROMPTS, seeds=[0, 1], output_type="latent")
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    for module in pipeline.transformer.modules():
        if type(module).__name__ in pipeline.transformer._repeated_blocks:
            module.forward = torch.compile(module.forward, fullgraph=True, backend=count)
    compiled = pipeline(PROMPTS, seeds=[0, 1], output_type="latent")
    torch.testing.assert_close(compiled.rgb, plain.rgb)
    torch.testing.assert_close(compiled.depth, plain.depth)
    # Two kinds of blocks, each as the student's without depth and the teacher's with it, and the
    # depth decoder's.
    assert len(graphs) == 5
    pipeline(PROMPTS, seeds=[2, 3])
    assert len(graphs) == 5


def test_bfloat16_samples_too(tiny_model_dir, student):
    pipeline = opened(tiny_model_dir, student, dtype="bfloat16")
    assert pipeline.transformer.depth_proj_out.weight.dtype == torch.float32
    assert np.isfinite(pipeline(PROMPTS, seeds=[0, 1]).depth).all()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"num_inference_steps": 4}, r"^sampler\.steps: .* distilled to 3, .* set it to 3"),
        ({"guidance_scale": 2.0}, r"^sampler\.guidance: .* guidance of 2 in them"),
        ({"depth_guidance_scale": 2.0}, r"^sampler\.guidance: "),
        ({"refine_steps": 0}, r"^sampler\.refine_steps: .* set it and refine_start"),
        ({"refine_start": 0.5}, r"^sampler\.refine_steps: "),
        ({"depth_start": "x"}, "^`depth_start` is 'x'; give a number"),
        ({"num_inference_steps": "3"}, "^`num_inference_steps` is '3'; give an integer"),
        ({"depth_step_share": 0.4}, r"^sampler\.depth_step_share: 0\.4, .* leave it at 0"),
        ({"guidance_interval": (0.5, 0.6)}, r"^sampler\.guidance_interval: "),
    ],
)
def test_sampling_that_the_weights_are_not_for_is_refused(
    tiny_model_dir, student, changes, problem
):
    with one_line_error(problem):
        opened(tiny_model_dir, student)(PROMPTS, seeds=[0, 1], **changes)


def test_a_teacher_of_other_weights_is_refused(tiny_model_dir, student, tmp_path):
    other = opened(tiny_model_dir)
    other.transformer.proj_out.weight.data += 0.1
    other.save_pretrained(tmp_path / "other")
    with one_line_error("distilled from other weights"):
        opened(tmp_path / "other", student)


def test_weights_of_other_sizes_than_they_say_are_refused(tiny_model_dir, tmp_path):
    weights = written(tiny_model_dir, tmp_path)
    with safe_open(tmp_path / WEIGHTS, "np") as file:
        metadata = file.metadata()
    small = {name: value[:1] if "lora_A" in name else value for name, value in weights.items()}
    save_file(small, tmp_path / WEIGHTS, metadata)
    with one_line_error(r"doesn't fit this model: \d+ of another shape \(.*lora_A.weight is 1×"):
        opened(tiny_model_dir, tmp_path)
    save_file({"lora": torch.ones(1)}, tmp_path / WEIGHTS, metadata)
    with one_line_error(r"doesn't fit this model: \d+ missing .*; 1 extra .lora.; fetch"):
        opened(tiny_model_dir, tmp_path)
    endless = {name: value / 0 for name, value in weights.items()}
    save_file(endless, tmp_path / WEIGHTS, metadata)
    with one_line_error("is damaged .*not finite"):
        opened(tiny_model_dir, tmp_path)


def written(model, folder):
    write_student(folder, model)
    return load_file(folder / WEIGHTS)


def test_a_file_that_is_not_whole_or_not_ours_is_refused(tiny_model_dir, tmp_path):
    weights = written(tiny_model_dir, tmp_path)
    path = tmp_path / WEIGHTS
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with one_line_error("is damaged"):
        model_info(ModelConfig(id=str(tiny_model_dir), few_steps=str(tmp_path)))
    path.write_bytes(whole.replace(b'\\"steps\\":3', b'\\"steps\\":x'))
    with one_line_error("is damaged"):
        opened(tiny_model_dir, tmp_path)
    save_file(weights, path)
    with one_line_error("none that `mfsynth distill` wrote"):
        opened(tiny_model_dir, tmp_path)
    path.unlink()
    with one_line_error("name the folder that `mfsynth distill` wrote"):
        opened(tiny_model_dir, tmp_path)


def test_weights_beside_the_models_are_found_by_their_folders_name(tiny_model_dir, tmp_path):
    model = tmp_path / "model"
    opened(tiny_model_dir).save_pretrained(model)
    (model / "four").mkdir()
    write_student(model / "four", tiny_model_dir)
    assert opened(model, "four").few_steps.steps == 3


def test_the_model_of_a_run_is_told_apart_by_its_few_step_weights(tiny_model_dir, tmp_path):
    plain = model_info(ModelConfig(id=str(tiny_model_dir)))
    write_student(tmp_path, tiny_model_dir)
    config = ModelConfig(id=str(tiny_model_dir), few_steps=str(tmp_path))
    info = model_info(config)
    assert info.few_steps == read_few_steps(tmp_path / WEIGHTS)
    assert info.revision.startswith(f"{plain.revision}+")
    write_student(tmp_path, tiny_model_dir, spread=0.1)
    assert model_info(config).revision != info.revision


def test_a_teachers_digest_knows_its_values_whatever_their_precision(tiny_model_dir, tmp_path):
    digest = digest_of(tiny_model_dir)
    assert weights_digest(opened(tiny_model_dir, dtype="bfloat16").transformer) == digest
    other = opened(tiny_model_dir)
    other.transformer.transformer_blocks[0].attn.to_q.weight.data.mul_(1.1)
    assert weights_digest(other.transformer) != digest


def test_diffusers_opens_the_adapters(tiny_model_dir, student):
    """Without the head they are no few-step model, but anyone's tools read them."""
    pipeline = ModalityForcingPipeline.from_pretrained(tiny_model_dir)
    pipeline.load_lora_weights(student)
    [config] = pipeline.transformer.peft_config.values()
    assert (config.r, config.lora_alpha) == (2, 2)
    ours = dict(opened(tiny_model_dir, student).transformer.named_parameters())
    theirs = [name for name, _ in pipeline.transformer.named_parameters() if "lora_" in name]
    assert theirs
    for name, value in pipeline.transformer.named_parameters():
        if "lora_" in name:
            torch.testing.assert_close(value, ours[name.replace("default_0", "few_steps")])
    with safe_open(student / WEIGHTS, "pt") as file:
        assert json.loads(file.metadata()["mfsynth_few_steps"])["licence"] == "apache-2.0"
        assert all("lora" in name for name in file.keys())  # noqa: SIM118
