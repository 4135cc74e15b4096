"""The autoencoder of the released weights: in float32, and what memory that takes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLFlux2
from live_bytes import LiveBytes

from mfsynth.config import ModelConfig
from mfsynth.models import load_pipeline
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.models.token_codecs import LatentCodec, in_parts


def test_the_autoencoder_is_in_float32_whatever_the_model_is_in(
    reference, text_encoder, converted, tiny_model_dir
):
    exact = ModalityForcingPipeline.from_pretrained(converted).vae.state_dict()
    low = {"dtype": torch.bfloat16}
    opened = [
        ModalityForcingPipeline.from_pretrained(converted, **low),
        ModalityForcingPipeline.from_pretrained(converted, torch_dtype=torch.bfloat16),
        ModalityForcingPipeline.from_pretrained(reference, text_encoder=text_encoder, **low),
    ]
    for pipeline in opened:
        assert pipeline.transformer.dtype is torch.bfloat16
        assert pipeline.text_encoder.dtype is torch.bfloat16
        for name, value in pipeline.vae.state_dict().items():
            assert torch.equal(value, exact[name]), name
    pipeline = load_pipeline(ModelConfig(id=str(tiny_model_dir), dtype="bfloat16"), "cpu")
    assert pipeline.vae.dtype is torch.float32
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    for given in ({}, {"mode": "i2d", "image": image}):
        pairs = pipeline(["a ball"], seeds=[1], num_inference_steps=2, output_type="pt", **given)
        assert pairs.rgb.dtype is torch.float32
        assert torch.isfinite(pairs.depth).all()


def test_an_image_of_the_released_size_takes_what_the_docs_say_to_decode():
    """docs/reference/sampling.md has these figures: weights, and what lives beside each image."""
    with torch.device("meta"):
        vae = AutoencoderKLFlux2()
        tokens = torch.zeros(4, 32 * 32, 128)
    weights = sum(value.nbytes for value in vae.state_dict().values())
    assert 0.33e9 < weights < 0.34e9
    for slicing, images_at_once in ((False, 4), (True, 1)):
        vae.use_slicing = slicing
        with torch.inference_mode(), LiveBytes() as live:
            images = LatentCodec(vae).decode(tokens, (32, 32))
        assert images.shape == (4, 3, 512, 512)
        assert 0.76e9 < live.peak / images_at_once < 0.84e9


def test_a_batch_is_decoded_in_halves_only_where_memory_asks_for_it():
    tried = []

    def in_memory_of(rows):
        def function(part):
            tried.append(len(part))
            if len(part) > rows:
                raise torch.OutOfMemoryError("out of memory")
            return part + 1

        return function

    batch = torch.arange(6.0)
    assert torch.equal(in_parts(in_memory_of(6), batch), batch + 1)
    assert tried == [6]
    tried.clear()
    assert torch.equal(in_parts(in_memory_of(2), batch), batch + 1)
    assert tried == [6, 3, 2, 2, 2]
    with pytest.raises(torch.OutOfMemoryError):
        in_parts(in_memory_of(0), batch)
