"""The autoencoder of the released weights: in float32, and what memory that takes."""

from __future__ import annotations

import weakref

import numpy as np
import torch
from diffusers import AutoencoderKLFlux2
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mfsynth.config import ModelConfig
from mfsynth.models import load_pipeline
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.models.token_codecs import LatentCodec


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


class LiveBytes(TorchDispatchMode):
    """Counts what the tensors that are made inside hold at once, at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._held = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._hold(tensor.untyped_storage())
        return made

    def _hold(self, storage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._held:
            return
        self._held.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key, size) -> None:
        self._held.discard(key)
        self.now -= size


def test_decoding_four_images_of_the_released_size_takes_a_gigabyte_and_a_bit():
    """docs/sampling.md has these figures: weights, and what lives beside them."""
    with torch.device("meta"):
        vae = AutoencoderKLFlux2()
        tokens = torch.zeros(4, 32 * 32, 128)
    weights = sum(value.nbytes for value in vae.state_dict().values())
    vae.enable_slicing()
    with torch.inference_mode(), LiveBytes() as live:
        images = LatentCodec(vae).decode(tokens, (32, 32))
    assert images.shape == (4, 3, 512, 512)
    assert 0.33e9 < weights < 0.34e9
    assert 0.78e9 < live.peak < 0.84e9
