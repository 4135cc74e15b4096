"""What the dry run says, against the figures of the paper and against what autograd keeps."""

from __future__ import annotations

import pytest
import torch
from click.testing import CliRunner
from tiny_training import SIZES, flux2_config

from mfsynth.cli import cli
from mfsynth.errors import MfsynthError
from mfsynth.training.build import build_transformer
from mfsynth.training.config import load_train_config
from mfsynth.training.requirements import activation_bytes, estimate_requirements

# Billions of parameters, without depth and with it (MODEL: arXiv 2606.13676 and its release).
LADDER = {
    "ladder-0.4b": (0.38, 0.51),
    "ladder-0.7b": (0.72, 0.95),
    "ladder-1.3b": (1.31, 1.71),
    "ladder-2b": (2.05, 2.70),
    "ladder-3.4b": (3.37, 4.47),
    "klein-4b": (3.89, None),
    "klein-9b": (9.10, 11.92),
}


@pytest.fixture(scope="module")
def klein():
    return estimate_requirements(load_train_config("klein-9b"), gpus=8)


@pytest.mark.parametrize("name", LADDER)
def test_parameters_are_those_of_the_published_table(name):
    with torch.device("meta"):
        transformer = build_transformer(load_train_config(name).transformer)
    sizes = {key: value.numel() for key, value in transformer.named_parameters()}
    image, joint = LADDER[name]
    assert sum(v for k, v in sizes.items() if "depth" not in k) / 1e9 == pytest.approx(
        image, rel=0.02
    )
    if joint is not None:
        assert sum(sizes.values()) / 1e9 == pytest.approx(joint, rel=0.02)


def test_flops_of_the_12_b_model_are_those_of_its_products(klein):
    """Tokens meet their own stream's weights: fewer than 2 · parameters · tokens, 61 TFLOP."""
    dim, text, cells = 4096, 512, 1024
    every = text + 2 * cells
    block = 13 * dim**2
    products = 2 * block * (every * (8 + 24) + cells * 4)
    attention = 4 * dim * (every**2 * (8 + 24) + cells**2 * 4)
    outside = 2 * dim * (text * 12288 + 2 * cells * (128 + 256))
    flops = klein.flops
    assert flops.forward == pytest.approx(products + attention + outside, rel=0.01)
    every_weight = 2 * (klein.parameters.image + klein.parameters.depth) * every
    assert every_weight == pytest.approx(61e12, rel=0.01)
    # Forward, twice that backward, and the forward again for checkpointing; then the frozen ones.
    assert 4 * flops.forward < flops.step < 5.5 * flops.forward


def test_parts_of_the_memory_add_up(klein):
    alone, sharded = klein.memory("none", False), klein.memory("fsdp", False)
    trained = klein.parameters.trained
    assert alone.optimiser == 8 * trained
    assert sharded.optimiser == trained
    assert alone.frozen == sharded.frozen > 2 * 7.5e9
    assert alone.total > 2 * sharded.total
    assert klein.memory("fsdp", True).activations < 0.1 * sharded.activations


def saved_bytes(transformer, inputs, precision) -> int:
    """What autograd keeps for the backward pass, but for the weights and their cast copies."""
    kept, weights = {}, set()
    for parameter in transformer.parameters():
        weights.add(parameter.untyped_storage().data_ptr())

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    bfloat16 = precision == "bfloat16"
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=bfloat16),
    ):
        transformer(**inputs)
    copies = 2 * sum(p.numel() for p in transformer.parameters() if p.ndim == 2) if bfloat16 else 0
    return sum(size for size, _ in kept.values()) - copies


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_activations_are_what_autograd_keeps(tmp_path, precision):
    sizes = SIZES.model_dump(exclude={"rgb_bands"}) | {
        "layers": 3,
        "single_layers": 6,
        "depth_decoder_layers": 2,
        "heads": 4,
        "head_dim": 32,
        "rope_axes": (8, 8, 8, 8),
        "latent_channels": 8,
        "text_length": 16,
        "text_layers": 2,
    }
    config = flux2_config("x", tmp_path, transformer=sizes, size=64)
    config = config.model_copy(
        update={"optimiser": config.optimiser.model_copy(update={"precision": precision})}
    )
    torch.manual_seed(0)
    batch, cells = 8, 64
    inputs = {
        "rgb": torch.randn(batch, cells, 8),
        "depth": torch.randn(batch, cells, 64),
        "text": torch.randn(batch, 16, 32),
        "rgb_timestep": torch.rand(batch),
        "depth_timestep": torch.rand(batch),
        "grid": (8, 8),
    }
    transformer = build_transformer(config.transformer)
    kept = saved_bytes(transformer, inputs, precision)
    assert batch * activation_bytes(config, False) == pytest.approx(kept, rel=0.15)
    transformer.enable_gradient_checkpointing()
    kept = saved_bytes(transformer, inputs, "float32")
    # The formula has besides what one block keeps while its backward pass runs.
    block = activation_bytes(config, False) * 144 / (144 * 9 + 64 * 2)
    assert batch * (activation_bytes(config, True) - block) < kept
    assert kept < batch * activation_bytes(config, True)


def test_the_command_prints_a_table_and_loads_nothing(tmp_path):
    # A few blocks, because each takes a second to count.
    blocks = {"layers": 1, "single_layers": 2, "depth_decoder_layers": 1}
    settings = {f"transformer.{kind}": count for kind, count in blocks.items()}
    changes = [
        f"--set={key}={value}" for key, value in (settings | {"output": tmp_path / "x"}).items()
    ]
    done = CliRunner().invoke(cli, ["train", "klein-4b-lora", "--dry-run", "--gpus", "2", *changes])
    assert done.exit_code == 0, done.output
    assert "1.10 B: 0.69 B text-to-image, 0.41 B for depth" in done.output
    assert "of them adapters" in done.output
    assert "16 samples (2 × 4 × 2), 40,960 tokens" in done.output
    for part in ("trained weights", "gradients", "optimiser", "moving average", "activations"):
        assert part in done.output
    assert not (tmp_path / "x").exists()


def test_a_text_encoder_that_is_not_known_is_told():
    with pytest.raises(MfsynthError, match="no text encoder of 1234 channels"):
        estimate_requirements(load_train_config("klein-4b", ["transformer.text_channels=1234"]), 1)
