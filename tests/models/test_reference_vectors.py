"""The released architecture, schedules, codecs and samplings against an independent program.

`tests/data/reference/README.md` says what each vector is. The bar is 1e-4 relative.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mfsynth.errors import MfsynthError
from mfsynth.models.guidance import Guidance, guided_prediction
from mfsynth.models.locations import find_model
from mfsynth.models.released.checkpoint import Checkpoint, open_checkpoint
from mfsynth.models.released.names import convert_tensor
from mfsynth.models.sampling import integrate
from mfsynth.models.schedules import Mode, schedule
from mfsynth.models.token_codecs import DepthCodec, LatentCodec, patchify
from mfsynth.models.transformer import ModalityForcingTransformer2DModel

GRID = (3, 4)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm()).item()


@pytest.fixture(scope="module")
def vectors(reference: Path) -> dict[str, Tensor]:
    return load_file(reference / "vectors.safetensors")


@pytest.fixture(scope="module")
def released(reference: Path) -> Checkpoint:
    return open_checkpoint(find_model(str(reference)))


@pytest.fixture(scope="module")
def transformer(released: Checkpoint) -> ModalityForcingTransformer2DModel:
    return released.transformer.load(torch.float32).requires_grad_(False)


def test_a_forward_with_a_noise_level_per_modality_and_sample_matches(transformer, vectors):
    output = transformer(
        vectors["fwd.rgb"],
        vectors["fwd.depth"],
        vectors["fwd.ctx"],
        vectors["fwd.t_rgb"],
        vectors["fwd.t_depth"],
        GRID,
    )
    assert relative_error(output.rgb, vectors["fwd.out_rgb"]) < 1e-4
    assert relative_error(output.depth, vectors["fwd.out_depth"]) < 1e-4


@pytest.mark.parametrize(
    ("case", "mode", "log2_alpha"),
    [
        ("joint_diag", Mode.JOINT, 0),
        ("joint_alpha5", Mode.JOINT, 5),
        ("joint_alpham2", Mode.JOINT, -2),
        ("i2d", Mode.IMAGE_TO_DEPTH, 5),
        ("d2i", Mode.DEPTH_TO_IMAGE, 5),
    ],
)
def test_schedules_match(vectors, case, mode, log2_alpha):
    ours = schedule(mode, 10, rgb_mu=1.1, depth_mu=1.1, log2_alpha=log2_alpha)
    torch.testing.assert_close(ours.rgb, vectors[f"sched.{case}.t_rgb"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.depth, vectors[f"sched.{case}.t_depth"], rtol=1e-5, atol=1e-6)


def test_the_depth_codec_matches_and_normalises_each_sample_alone(vectors):
    codec, maps = DepthCodec(16), vectors["depth.metric_map"][..., 0]
    tokens = codec.encode(maps)
    assert relative_error(tokens, vectors["depth.tokens"]) < 1e-4
    assert torch.equal(codec.encode(maps[1:]), tokens[1:])
    decoded = codec.decode(vectors["depth.tokens"], GRID)
    assert relative_error(decoded, vectors["depth.decoded"][..., 0]) < 1e-4
    random = codec.decode(vectors["depth.decode_random_tokens"].flatten(1, 2), GRID)
    assert relative_error(random, vectors["depth.decode_random_map"][..., 0]) < 1e-4


@pytest.mark.parametrize(
    ("case", "mode", "guidance", "log2_alpha"),
    [
        ("joint", Mode.JOINT, 4.0, 5),
        ("joint_nocfg", Mode.JOINT, 1.0, 0),
        ("i2d", Mode.IMAGE_TO_DEPTH, 1.0, 0),
        ("d2i", Mode.DEPTH_TO_IMAGE, 4.0, 0),
    ],
)
def test_samplings_match(transformer, vectors, case, mode, guidance, log2_alpha):
    given_rgb = mode is Mode.IMAGE_TO_DEPTH
    given_depth = mode is Mode.DEPTH_TO_IMAGE
    scales = Guidance(guidance, guidance)
    null = vectors["sample.null"] if scales.is_on else None
    rgb, depth = integrate(
        guided_prediction(transformer, vectors["sample.ctx"], null, scales, mode, GRID),
        vectors["sample.clean_rgb" if given_rgb else "sample.noise_rgb"],
        vectors["depth.tokens" if given_depth else "sample.noise_depth"],
        schedule(mode, 6, rgb_mu=1.1, depth_mu=1.1, log2_alpha=log2_alpha),
        rgb_is_velocity=True,
    )
    assert relative_error(rgb, vectors[f"sample.{case}.rgb"]) < 1e-4
    assert relative_error(depth, vectors[f"sample.{case}.depth"]) < 1e-4


def test_the_autoencoder_matches(released, reference):
    codec = LatentCodec(released.vae.load(torch.float32))
    vectors = load_file(reference / "ae_vectors.safetensors")
    assert codec.patch == 16
    latents = vectors["ae.latents"]
    with torch.no_grad():
        tokens = codec.encode(vectors["ae.image"])
        images = codec.decode(patchify(latents, 1), GRID)
    assert relative_error(tokens, patchify(latents, 1)) < 1e-4
    assert relative_error(images, vectors["ae.decoded"]) < 1e-4


def test_a_key_that_is_not_of_the_released_layout_is_named():
    with pytest.raises(MfsynthError, match=r"dit\.double_blocks\.0\.audio_attn\.qkv\.weight"):
        list(convert_tensor("dit.double_blocks.0.audio_attn.qkv.weight", torch.zeros(3, 1)))
