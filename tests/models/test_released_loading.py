"""The released layout, opened as it is: straight to a pipeline, from folders and the hub."""

from __future__ import annotations

import numpy as np
import torch
from released_checkpoints import PROMPTS, assert_forward_matches, in_hub_cache

from mfsynth.config import ModelConfig
from mfsynth.models import load_pipeline, model_info
from mfsynth.models.conversion import convert
from mfsynth.models.locations import is_released
from mfsynth.models.pipeline import ModalityForcingPipeline


def test_from_pretrained_opens_the_released_layout_too(reference, text_encoder):
    pipeline = ModalityForcingPipeline.from_pretrained(reference, text_encoder=text_encoder)
    assert_forward_matches(pipeline.transformer, reference)


def test_a_released_checkpoint_is_what_its_conversion_is(reference, text_encoder, converted):
    direct = ModalityForcingPipeline.from_pretrained(reference, text_encoder=text_encoder)
    assert_forward_matches(direct.transformer, reference)
    theirs = ModalityForcingPipeline.from_pretrained(converted)
    assert dict(direct.config) | {"_name_or_path": None} == dict(theirs.config) | {
        "_name_or_path": None
    }
    arguments = {"seeds": [1, 2], "num_inference_steps": 2, "height": 32, "width": 32}
    ours, theirs = direct(PROMPTS, **arguments), theirs(PROMPTS, **arguments)
    assert np.array_equal(ours.rgb, theirs.rgb)
    assert np.array_equal(ours.depth, theirs.depth)


def test_opened_in_bfloat16_depth_head_and_autoencoder_are_float32(reference, text_encoder):
    pipeline = ModalityForcingPipeline.from_pretrained(
        reference, text_encoder=text_encoder, dtype=torch.bfloat16
    )
    assert pipeline.transformer.depth_proj_out.weight.dtype is torch.float32
    assert pipeline.vae.bn.num_batches_tracked.dtype is torch.int64
    assert pipeline.vae.quant_conv.weight.dtype is torch.float32
    others = (pipeline.transformer.proj_out, pipeline.text_encoder)
    assert {next(module.parameters()).dtype for module in others} == {torch.bfloat16}


def test_a_run_can_name_a_released_checkpoint(checkpoint, text_encoder, hub):
    in_hub_cache(hub, "Qwen/Qwen3-8B", text_encoder)
    for name in (checkpoint, checkpoint / "model.safetensors"):
        info = model_info(ModelConfig(id=str(name)))
        assert (info.height, info.width, info.licence) == (512, 512, "unknown")
        assert info.needs_depth_tokens
    (checkpoint / "notes.txt").write_text("not of the model")
    assert model_info(ModelConfig(id=str(checkpoint))).revision == info.revision
    pipeline = load_pipeline(ModelConfig(id=str(checkpoint)), "cpu")
    pairs = pipeline(PROMPTS, seeds=[1, 2], num_inference_steps=1, height=32, width=32)
    assert np.isfinite(pairs.depth).all()


def test_hub_ids_name_source_and_text_encoder(checkpoint, text_encoder, hub, tmp_path):
    commit = in_hub_cache(hub, "someone/modality-forcing", checkpoint)
    in_hub_cache(hub, "Qwen/Qwen3-8B", text_encoder)
    assert is_released("someone/modality-forcing")
    assert not is_released("someone/else")
    convert("someone/modality-forcing", tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"`someone/modality-forcing`, commit `{commit}`" in card
    assert "`Qwen/Qwen3-8B`" in card
    assert model_info(ModelConfig(id="someone/modality-forcing")).revision == commit
    pipeline = load_pipeline(ModelConfig(id="someone/modality-forcing"), "cpu")
    assert pipeline.transformer.config.num_layers == 2
