"""Training from a FLUX.2 text-to-image model: whole, and with adapters."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from tiny_training import (
    SIZES,
    flux2_config,
    flux2_mixture,
    make_flux2_trainer,
    record_losses,
    save_flux2,
    snapshot,
    stop_before,
)

from mfsynth.errors import MfsynthError
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.training.build import build_components
from mfsynth.training.checkpoints import latest_checkpoint
from mfsynth.training.run import export

LORA = {"rank": 2, "alpha": 2}


@pytest.fixture(scope="module")
def flux2(tmp_path_factory):
    return save_flux2(tmp_path_factory.mktemp("flux2"))


def test_the_first_losses_are_those_of_the_base(flux2, tmp_path):
    """Nothing has moved yet: no distillation loss without depth tokens, and a velocity loss."""
    trainer, components = make_flux2_trainer(flux2_config(flux2, tmp_path))
    assert components.model.transformer.config.rgb_prediction == "velocity"
    objective, batch = trainer._objective, next(trainer._stream(flux2_mixture(), print))
    prepared = objective.prepare(batch[1], batch[0])
    losses = objective.losses(trainer._forward, prepared, trainer.state.average, trainer._base)
    assert set(losses.sums) == {"rgb", "depth", "distillation"}
    image_only = objective.prepare(batch[1], batch[0], image_only=True)
    torch.testing.assert_close(
        objective.predict(image_only).rgb, _base_velocity(trainer, image_only)
    )


def _base_velocity(trainer, batch):
    return trainer._objective._base_velocity(batch, trainer._base)


@pytest.mark.parametrize("lora", [None, LORA])
def test_training_moves_what_it_should_and_nothing_else(flux2, tmp_path, lora):
    trainer, components = make_flux2_trainer(flux2_config(flux2, tmp_path, lora=lora))
    before = snapshot(trainer)
    frozen = {name: value.clone() for name, value in components.text_encoder.state_dict().items()}
    losses = record_losses(trainer)
    trainer.run(flux2_mixture(), tmp_path, lambda _: None)
    moved = {
        name for name, value in snapshot(trainer).items() if not torch.equal(value, before[name])
    }
    assert "transformer.depth_proj_out.weight" in moved
    assert moved <= set(trainer.state.average)
    query = "transformer.transformer_blocks.0.attn.to_q."
    assert (query + ("lora_B.default.weight" if lora else "weight")) in moved
    assert all(torch.equal(v, frozen[n]) for n, v in components.text_encoder.state_dict().items())
    assert any("distillation" in step for step in losses)
    checkpoint = latest_checkpoint(tmp_path).path
    with safe_open(checkpoint / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert names == set(trainer.state.average)
    assert not any("base_layer" in name or "text_encoder" in name for name in names)
    assert (checkpoint / "base.safetensors").exists() is False


def test_the_base_of_distillation_stays_while_the_model_moves(flux2, tmp_path):
    """With adapters off, and with the first weights put back: the same velocity as before."""
    for lora in (None, LORA):
        config = flux2_config(flux2, tmp_path / str(lora), lora=lora)
        trainer, _ = make_flux2_trainer(config)
        numbers, batch = next(trainer._stream(flux2_mixture(), print))
        prepared = trainer._objective.prepare(batch, numbers)
        before = _base_velocity(trainer, prepared)
        trainer.run(flux2_mixture(), config.output, lambda _: None)
        weights = snapshot(trainer)
        assert torch.equal(_base_velocity(trainer, prepared), before)
        # What was put aside is back again.
        assert all(torch.equal(value, weights[name]) for name, value in snapshot(trainer).items())


@pytest.mark.parametrize("lora", [None, LORA])
def test_a_killed_run_resumes_exactly(flux2, tmp_path, lora):
    config = flux2_config(flux2, tmp_path, lora=lora)
    whole, _ = make_flux2_trainer(config)
    whole.run(flux2_mixture(), tmp_path / "whole", lambda _: None)
    killed, _ = make_flux2_trainer(config)
    stop_before(killed, 3)
    with pytest.raises(KeyboardInterrupt):
        killed.run(flux2_mixture(), tmp_path / "parts", lambda _: None)
    resumed, _ = make_flux2_trainer(config)
    assert resumed.resume(tmp_path / "parts")
    resumed.run(flux2_mixture(), tmp_path / "parts", lambda _: None)
    ours = snapshot(resumed)
    assert all(torch.equal(value, ours[name]) for name, value in snapshot(whole).items())
    assert all(torch.equal(v, resumed.state.average[n]) for n, v in whole.state.average.items())


def test_adapters_are_merged_into_the_model_that_comes_out(flux2, tmp_path):
    config = flux2_config(flux2, tmp_path, lora=LORA)
    trainer, _ = make_flux2_trainer(config)
    trainer.run(flux2_mixture(), tmp_path, lambda _: None)
    export(config, flux2_mixture(), tmp_path / "model")
    pipeline = ModalityForcingPipeline.from_pretrained(tmp_path / "model")
    pipeline.set_progress_bar_config(disable=True)
    assert not any("lora" in name for name in pipeline.transformer.state_dict())
    base = build_components(config, []).model.transformer.state_dict()
    name = "transformer_blocks.0.attn.to_q."
    merged = pipeline.transformer.state_dict()[name + "weight"]
    assert not torch.equal(merged.float(), base[name + "base_layer.weight"].bfloat16().float())
    pairs = pipeline(["a red cube"], seeds=[0], num_inference_steps=2)
    assert pairs.rgb.shape == (1, 32, 32, 3)


def test_bfloat16_leaves_what_is_trained_in_float32(flux2, tmp_path):
    config = flux2_config(flux2, tmp_path, lora=LORA)
    config = config.model_copy(
        update={"optimiser": config.optimiser.model_copy(update={"precision": "bfloat16"})}
    )
    trainer, components = make_flux2_trainer(config)
    losses = record_losses(trainer)
    trainer.run(flux2_mixture(), tmp_path, lambda _: None)
    assert components.text_encoder.dtype == torch.bfloat16
    # As the pipeline decodes by it.
    assert components.vae.dtype == torch.float32
    for parameter in trainer.model.parameters():
        assert parameter.requires_grad == (parameter.dtype == torch.float32)
    assert all(0 < value < 100 for step in losses for value in step.values())


def test_other_sizes_than_the_bases_are_named(flux2, tmp_path):
    sizes = SIZES.model_dump(exclude={"rgb_bands"}) | {"latent_channels": 8, "text_layers": 2}
    config = flux2_config(flux2, tmp_path, transformer=sizes | {"single_layers": 2})
    with pytest.raises(MfsynthError, match="num_single_layers is 1, not the 2") as caught:
        build_components(config, [])
    assert "\n" not in str(caught.value)


def test_a_model_that_cannot_be_had_is_one_line(tmp_path):
    with pytest.raises(MfsynthError, match=r"pretrained\.id: 'nobody/nothing'") as caught:
        build_components(flux2_config("nobody/nothing", tmp_path), [])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pretrained": None}, "give either transformer.rgb_bands"),
        ({"size": 30}, "size 30 is no multiple"),
        ({"lora": LORA, "pretrained": {"id": "x", "text_states": [1, 2]}}, "lora adapts"),
    ],
)
def test_settings_that_do_not_fit_are_told(tmp_path, changes, said):
    with pytest.raises(ValueError, match=said):
        flux2_config("x", tmp_path, **changes)
