"""A text-to-image pipeline and an estimator in the place of a joint model."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tiny_estimators
import tiny_pipelines
import torch
from diffusers.pipelines.deepfloyd_if import IFPipelineOutput
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput
from training_files import one_line_error

from mfsynth.config import ModelConfig, RuntimeConfig
from mfsynth.config.cameras import CameraConfig
from mfsynth.config.estimators import DepthEstimatorConfig
from mfsynth.errors import MfsynthError
from mfsynth.geometry import DepthEstimate, DepthKind, EstimateKind
from mfsynth.models import model_info
from mfsynth.models.estimators.opening import open_estimator
from mfsynth.models.two_models import TwoModels, generator_of, load_two_models

EMBEDDED = DepthEstimatorConfig(id="embedded")
SAMPLING = {
    "num_inference_steps": 2,
    "guidance_scale": 1.0,
    "height": tiny_pipelines.SIZE,
    "width": tiny_pipelines.SIZE,
}


@pytest.fixture(scope="session")
def klein(text_encoder, tmp_path_factory):
    return tiny_pipelines.klein(tmp_path_factory.mktemp("klein") / "model", text_encoder)


@pytest.fixture(scope="module")
def pipeline(klein):
    return load(klein)


def settings(folder) -> ModelConfig:
    return ModelConfig.model_validate({"kind": "two_models", "image": str(folder)})


def load(folder, estimator=EMBEDDED, **runtime):
    given = RuntimeConfig(**runtime)
    return load_two_models(settings(folder), estimator, "cpu", given)


def test_image_names_what_id_names_of_other_models(klein):
    assert settings(klein).id == str(klein)
    again = ModelConfig.model_validate(settings(klein).model_dump())
    assert again == settings(klein)
    info = model_info(settings(klein))
    assert (info.id, len(info.revision), info.licence) == (str(klein), 64, "unknown")


def test_an_image_is_of_its_prompt_and_seed_whatever_stands_beside_it(pipeline):
    prompts = pipeline.encode_prompts(["a red cube", "a blue ball"], 2)
    both = pipeline(prompt_embeds=prompts, seeds=[1, 2], mode="joint", **SAMPLING)
    assert both.rgb.shape == (2, tiny_pipelines.SIZE, tiny_pipelines.SIZE, 3)
    assert both.rgb.dtype == np.uint8
    alone = pipeline(prompt_embeds=prompts[1:], seeds=[2], mode="joint", **SAMPLING)
    # Sums of another order may round to the next of 256 values.
    assert np.abs(both.rgb[1].astype(int) - alone.rgb[0]).max() <= 1
    other = pipeline(prompt_embeds=prompts[1:], seeds=[3], mode="joint", **SAMPLING)
    assert np.abs(other.rgb[0].astype(int) - alone.rgb[0]).mean() > 1
    assert both.depth.shape == both.rgb.shape[:3]
    assert both.depth_kinds == [DepthKind.SCALE_INVARIANT_Z] * 2


def test_an_image_of_no_numbers_is_refused_by_its_seed_before_it_is_a_black_one(
    pipeline, monkeypatch
):
    """As of a decoder that overflows in half precision."""
    decode = pipeline._image.vae.decode

    def overflowing(latents, **settings):
        decoded = decode(latents, **settings)
        decoded[0][1] = torch.nan
        return decoded

    monkeypatch.setattr(pipeline._image.vae, "decode", overflowing)
    with one_line_error("1 of 2 images have values that are not finite, the first of seed 8;"):
        pipeline(prompt_embeds=["a cube"] * 2, seeds=[7, 8], mode="joint", **SAMPLING)


def test_an_image_that_the_pipeline_made_black_is_refused_by_its_seed(pipeline, monkeypatch):
    """As pipelines with a safety checker do, and say so beside the images."""
    decoded = np.zeros((2, tiny_pipelines.SIZE, tiny_pipelines.SIZE, 3), np.float32)

    def made(output):
        monkeypatch.setattr(pipeline, "_image", lambda **_: output)
        return pipeline(prompt_embeds=["a cube"] * 2, seeds=[7, 8], **SAMPLING)

    for flags in ([False, False], None):
        assert not made(StableDiffusionPipelineOutput(decoded, flags)).rgb.any()
    for output in (
        StableDiffusionPipelineOutput(decoded, [False, True]),
        IFPipelineOutput(decoded, [False, True], None),
    ):
        with one_line_error("safety checker made 1 of 2 images black, the first of seed 8;"):
            made(output)


def test_noise_that_no_seed_decides_is_refused(pipeline, text_encoder, tmp_path):
    folder = tiny_pipelines.klein(tmp_path / "model", text_encoder, stochastic=True)
    with one_line_error("FlowMatchEulerDiscreteScheduler draws noise that no seed decides"):
        load(folder).require_own_noise(tiny_pipelines.SIZE, tiny_pipelines.SIZE)
    pipeline.require_own_noise(tiny_pipelines.SIZE, tiny_pipelines.SIZE)


def test_all_bits_of_a_seed_decide():
    def noise(seed: int) -> torch.Tensor:
        return torch.randn(64, generator=generator_of(seed))

    assert torch.equal(noise(7), noise(7))
    for other in (7 + 2**32, 7 + 2**62, 7 + 2**63, 8):
        assert not torch.equal(noise(7), noise(other))
    many = torch.randn(20000, generator=generator_of(3))
    assert abs(many.mean()) < 0.03
    assert abs(many.std() - 1) < 0.03


def with_estimator(pipeline, folder, camera=None) -> TwoModels:
    settings = DepthEstimatorConfig(id=str(folder))
    return TwoModels(pipeline._image, open_estimator(settings, "cpu"), camera)


def test_depth_is_what_the_estimator_says_and_metres_only_if_it_says_metres(pipeline, tmp_path):
    folder = tiny_estimators.depth_anything(
        tmp_path / "metric", depth_estimation_type="metric", max_depth=20
    )
    metric = with_estimator(pipeline, folder)
    made = metric(prompt_embeds=["a cube"], seeds=[1], mode="joint", **SAMPLING)
    assert made.depth_kinds == [DepthKind.ESTIMATED_METRIC_Z]
    [estimate] = made.estimates
    assert np.array_equal(made.depth[0], np.where(estimate.valid, estimate.values, 0))


@pytest.mark.parametrize("first", [EstimateKind.METRIC_Z, EstimateKind.SCALE_INVARIANT_Z])
def test_depth_of_an_image_is_what_its_own_estimate_is_whatever_stands_beside_it(pipeline, first):
    """As of Depth Pro, which gives no metres where the angle that it sees is none."""
    kinds = [first, *{EstimateKind.METRIC_Z, EstimateKind.SCALE_INVARIANT_Z} - {first}]

    def estimator(rgb, cameras):
        ones = np.ones(rgb.shape[1:3], np.float32)
        return [DepthEstimate(ones, ones > 0, kind) for kind in kinds]

    both = TwoModels(pipeline._image, estimator)
    made = both(prompt_embeds=["a cube"] * 2, seeds=[1, 2], mode="joint", **SAMPLING)
    names = {
        EstimateKind.METRIC_Z: DepthKind.ESTIMATED_METRIC_Z,
        EstimateKind.SCALE_INVARIANT_Z: DepthKind.SCALE_INVARIANT_Z,
    }
    assert made.depth_kinds == [names[kind] for kind in kinds]


def test_images_of_another_size_than_was_asked_for_are_refused(pipeline):
    """What a pipeline rounds: the camera would be of another image."""
    asked = {**SAMPLING, "height": 38, "width": 38}
    with pytest.raises(MfsynthError, match=r"made 32x32 pixels of 38x38; set sampler\.height=32"):
        pipeline(prompt_embeds=["a cube"], seeds=[1], mode="joint", **asked)


def test_an_estimator_that_needs_the_camera_is_told_it(pipeline, tmp_path):
    folder = tiny_estimators.depth_pro(tmp_path / "pro", use_fov_model=False)
    knowing = with_estimator(pipeline, folder, CameraConfig(fov=60.0))
    made = knowing(prompt_embeds=["a cube"], seeds=[1], mode="joint", **SAMPLING)
    assert made.depth_kinds == [DepthKind.ESTIMATED_METRIC_Z]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "two_models"}, "set image to its folder or hub id"),
        ({"kind": "two_models", "image": "x", "few_steps": "y"}, "are for joint models"),
    ],
)
def test_a_model_that_is_half_of_one_kind_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig.model_validate(given)


def test_a_joint_model_is_no_half_of_two(tiny_model_dir):
    with one_line_error(r"model\.image: .* makes images and depth by itself; leave model\.kind"):
        model_info(settings(tiny_model_dir))


def test_what_the_runtime_has_for_joint_models_is_refused(klein):
    with one_line_error(r"runtime\.offload: is for joint models; leave it out"):
        load(klein, offload="group")


def changed(folder, tmp_path, **index):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    path = copy / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **index}))
    return copy


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"_class_name": ["pipeline", "Mine"]}, "names a program of its own"),
        ({"_class_name": "NoSuchPipeline"}, "diffusers .* lacks"),
        ({"_class_name": "FluxFillPipeline"}, "makes no FluxFillPipeline"),
        ({"transformer": ["mine", "Model"]}, "transformer is of mine, not of"),
    ],
)
def test_a_pipeline_that_is_not_one_of_diffusers_is_one_line(klein, tmp_path, index, message):
    with pytest.raises(MfsynthError, match=message) as caught:
        load(changed(klein, tmp_path, **index))
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_whole_are_told_before_any_image(klein, tmp_path):
    copy = changed(klein, tmp_path)
    (copy / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with one_line_error(r"model\.image: .*no weights"):
        load(copy)
