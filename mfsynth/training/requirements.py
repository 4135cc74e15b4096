"""What a training would need, from its configuration alone: nothing is loaded or fetched.

Memory per GPU, of P trained parameters over N GPUs:

- weights: 4 P in float32; in bfloat16 autocast's copies besides, 2 P. Frozen ones in the precision
  of the forward, but for the autoencoder, which is in float32.
- gradients 4 P; AdamW's moments 8 P, Muon's 4 P; the average 4 P; the base of distillation 4 for
  every text-to-image parameter, where it isn't the model without its adapters.
- FSDP divides all of these by N, but for what is frozen; it has no copies, but gathers what is in
  use: two blocks and a block's gradients in the precision of the forward, and weights and
  gradients of what is outside of blocks in float32.
- activations: for every sample, block, token that the block sees, and channel, 66 bytes in bfloat16
  (117 in float32): what autograd saves, counted (`tests/training/test_requirements.py`). With
  checkpointing, the inputs of all blocks, 2 (4) bytes, and the 66 of one.

Workspaces, fragmentation, and the forwards of frozen models come on top: leave a tenth free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLFlux2
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen3Config, Qwen3Model

from mfsynth.errors import MfsynthError
from mfsynth.models.text import encode_tokens
from mfsynth.training.build import choose_trained, new_transformer, rgb_channels
from mfsynth.training.config import TrainConfig
from mfsynth.training.joint_model import JointModel, Prediction
from mfsynth.training.optimisers import is_block_matrix, is_depth
from mfsynth.training.small_text_encoder import build_text_encoder, text_encoder_layers

SAVED_BYTES = {"bfloat16": 66, "float32": 117}
_BYTES = {"bfloat16": 2, "float32": 4}

# Text encoders of FLUX.2 [klein] 4B and 9B by their channels: Qwen3 4B and 8B. They share the rest.
_QWEN3 = {
    2560: {"hidden_size": 2560, "intermediate_size": 9728},
    4096: {"hidden_size": 4096, "intermediate_size": 12288},
}
_QWEN3_COMMON = {
    "vocab_size": 151936,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
}
# What a transformer has several of.
_BLOCKS = ("layers", "single_layers", "depth_decoder_layers")
# A small text encoder knows the words of its captions; some hundred is what they have.
_SMALL_VOCABULARY = 128


@dataclass(frozen=True, slots=True)
class Parameters:
    """Numbers of parameters.

    Attributes:
        image: Of the transformer without depth: a text-to-image model.
        depth: Of what Modality Forcing adds.
        adapters: Of LoRA.
        text: Of the text encoder.
        autoencoder: Of the autoencoder, 0 where RGB tokens are a fixed transform.
        trained: Of all these.
        frozen: Of all these.
        matrices: Trained, inside of blocks; what Muon would move.
        image_trained: Trained, neither for depth nor of adapters.
        block: Of the largest block.
        outside: Of the transformer outside of blocks.
    """

    image: int
    depth: int
    adapters: int
    text: int
    autoencoder: int
    trained: int
    frozen: int
    matrices: int
    image_trained: int
    block: int
    outside: int


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on a GPU, by what takes them."""

    weights: float
    frozen: float
    gradients: float
    optimiser: float
    average: float
    base: float
    activations: float

    @property
    def total(self) -> float:
        """All of them."""
        held = self.weights + self.frozen + self.gradients + self.optimiser
        return held + self.average + self.base + self.activations


@dataclass(frozen=True, slots=True)
class Flops:
    """Floating-point operations for one sample; a multiplication and its addition are two.

    Attributes:
        forward: Of the joint transformer, RGB and depth.
        step: Of a step with depth: forward, backward, recomputation, and all frozen forwards.
        image_step: Of a step without depth, likewise.
    """

    forward: float
    step: float
    image_step: float


@dataclass(frozen=True, slots=True, eq=False)
class Requirements:
    """What a training needs.

    Attributes:
        config: Of the training.
        gpus: That train together.
        parameters: Of its models.
        flops: For one sample.
    """

    config: TrainConfig
    gpus: int
    parameters: Parameters
    flops: Flops

    @property
    def samples(self) -> int:
        """Of a step."""
        return self.gpus * self.config.optimiser.batch_size * self.config.optimiser.accumulate

    @property
    def tokens(self) -> int:
        """Of a sample: text, RGB and depth."""
        return sum(_tokens(self.config))

    def memory(self, sharding: str, checkpointing: bool) -> Memory:
        """Of a GPU; see the formulas above.

        Args:
            sharding: "none" or "fsdp".
            checkpointing: Of gradients.
        """
        of, optimiser = self.parameters, self.config.optimiser
        size = _BYTES[optimiser.precision]
        muon = of.matrices if optimiser.muon_learning_rate is not None else 0
        base = 0
        if optimiser.distillation is not None and self.config.lora is None:
            base = of.image_trained
        if sharding == "fsdp":
            share = 1 / self.gpus
            in_use, in_use_gradients = 2 * size * of.block + 4 * of.outside, size * of.block
            in_use_gradients += 4 * of.outside
        else:
            share, in_use_gradients = 1.0, 0
            in_use = 2 * of.trained if optimiser.precision == "bfloat16" else 0
        return Memory(
            weights=4 * of.trained * share + in_use,
            frozen=size * (of.frozen - of.autoencoder) + 4 * of.autoencoder,
            gradients=4 * of.trained * share + in_use_gradients,
            optimiser=(8 * (of.trained - muon) + 4 * muon) * share,
            average=4 * of.trained * share,
            base=4 * base * share,
            activations=optimiser.batch_size * activation_bytes(self.config, checkpointing),
        )


def activation_bytes(config: TrainConfig, checkpointing: bool) -> float:
    """What autograd keeps of one sample with depth."""
    sizes, precision = config.transformer, config.optimiser.precision
    dim, (_, depth, _) = sizes.heads * sizes.head_dim, _tokens(config)
    every = sum(_tokens(config))
    seen = every * (sizes.layers + sizes.single_layers) + depth * sizes.depth_decoder_layers
    if checkpointing:
        return dim * (_BYTES[precision] * seen + SAVED_BYTES[precision] * every)
    return dim * SAVED_BYTES[precision] * seen


def estimate_requirements(config: TrainConfig, gpus: int) -> Requirements:
    """Build the configuration's models without memory, and count.

    Args:
        config: Of the training.
        gpus: That train together.

    Raises:
        MfsynthError: Its text encoder is none whose architecture is known.
    """
    # What the codec keeps of its table must not be made on the meta device.
    rgb_channels(config.transformer)
    with torch.device("meta"):
        model, text_encoder, vae = _build(config)
    parameters = _count(model, text_encoder, vae)
    return Requirements(config, gpus, parameters, _flops(config, text_encoder, vae))


def _build(config: TrainConfig) -> tuple[JointModel, Any, Any]:
    sizes = config.transformer
    transformer = new_transformer(config)
    if config.optimiser.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    if config.pretrained is None:
        small = build_text_encoder(sizes, _SMALL_VOCABULARY)
        return JointModel(transformer, small, text_encoder_layers(sizes)), small, None
    choose_trained(transformer, config.lora)
    if sizes.text_channels not in _QWEN3:
        raise MfsynthError(
            f"transformer.text_channels: no text encoder of {sizes.text_channels} channels is "
            f"known to the dry run; those of FLUX.2 [klein] have {', '.join(map(str, _QWEN3))}"
        )
    text_encoder = Qwen3Model(Qwen3Config(**_QWEN3_COMMON, **_QWEN3[sizes.text_channels]))
    vae = AutoencoderKLFlux2()
    for part in (text_encoder, vae):
        part.requires_grad_(False)
    return JointModel(transformer), text_encoder, vae


def _tokens(config: TrainConfig) -> tuple[int, int, int]:
    side = config.size // config.transformer.patch
    return config.transformer.text_length, side**2, side**2


def _count(model: JointModel, text_encoder: nn.Module, vae: nn.Module | None) -> Parameters:
    names = dict(model.transformer.named_parameters())
    text, autoencoder = _size(text_encoder), 0 if vae is None else _size(vae)
    trained = model.trained()
    adapters = sum(p.numel() for name, p in names.items() if "lora_" in name)
    depth = sum(p.numel() for name, p in names.items() if is_depth(name))
    whole = sum(p.numel() for p in names.values())
    trained_size = sum(p.numel() for p in trained.values())
    blocks = [
        _size(block)
        for name in ("transformer_blocks", "single_transformer_blocks", "depth_decoder_blocks")
        for block in getattr(model.transformer, name)
    ]
    return Parameters(
        image=whole - depth - adapters,
        depth=depth,
        adapters=adapters,
        text=text,
        autoencoder=autoencoder,
        trained=trained_size,
        frozen=whole + text + autoencoder - trained_size,
        matrices=sum(p.numel() for name, p in trained.items() if is_block_matrix(name, p)),
        image_trained=sum(
            p.numel() for name, p in trained.items() if not is_depth(name) and "lora_" not in name
        ),
        block=max(blocks),
        outside=whole - sum(blocks),
    )


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _flops(config: TrainConfig, text_encoder: nn.Module, vae: nn.Module | None) -> Flops:
    forward, image_forward, step, image_step = _transformer_flops(config).tolist()
    if config.optimiser.distillation is not None:
        step += image_forward
    if config.optimiser.invalid_depth == "prediction":
        step += forward
    if config.optimiser.complete_depth:
        step += config.noise.d2i_share * forward
    encoding = 0.0 if vae is None else _encoding_flops(config, text_encoder, vae)
    return Flops(forward, step + encoding, image_step + encoding)


def _transformer_flops(config: TrainConfig) -> NDArray[np.float64]:
    """Of the forward with depth, without it, and of both with their backward passes.

    Counted for few blocks, as each takes a second: of a kind of more than two, the second one's
    operations are those of all that follow. The first may take less, where nothing before it is
    trained.
    """
    counts = {kind: getattr(config.transformer, kind) for kind in _BLOCKS}
    fewest = {kind: 1 if count > 2 else count for kind, count in counts.items()}
    base = _flops_of(config, fewest)
    further = [
        (count - 1) * (_flops_of(config, fewest | {kind: 2}) - base)
        for kind, count in counts.items()
        if count > 2
    ]
    return np.sum([base, *further], axis=0)


def _flops_of(config: TrainConfig, blocks: Mapping[str, int]) -> NDArray[np.float64]:
    sizes = config.transformer.model_copy(update=blocks)
    with torch.device("meta"):
        model, _, _ = _build(config.model_copy(update={"transformer": sizes}))
    length, cells, _ = _tokens(config)
    side = config.size // sizes.patch
    with FakeTensorMode():
        _fake(model)
        text: Any = torch.zeros(1, length, sizes.text_layers * sizes.text_channels)
        if model.text_encoder is not None:
            text = _text_tokens(length)
        image = {
            "rgb": torch.zeros(1, cells, model.transformer.config.in_channels),
            "t_rgb": torch.ones(1),
            "text": text,
            "grid": (side, side),
        }
        both = image | {"depth": torch.zeros(1, cells, sizes.patch**2), "t_depth": torch.ones(1)}

        forward, backward = _forward_and_backward(lambda: model(**both))
        image_forward, image_backward = _forward_and_backward(lambda: model(**image))
    return np.array([forward, image_forward, forward + backward, image_forward + image_backward])


def _forward_and_backward(forward: Callable[[], Prediction]) -> tuple[float, float]:
    losses: list[Tensor] = []

    def lose() -> None:
        output = forward()
        losses.append(output.rgb.sum())
        if output.depth is not None:
            losses.append(output.depth.sum())

    return _counted(lose), _counted(lambda: torch.stack(losses).sum().backward())


def _encoding_flops(config: TrainConfig, text_encoder: nn.Module, vae: Any) -> float:
    assert config.pretrained is not None
    states = config.pretrained.text_states
    with FakeTensorMode(), torch.no_grad():
        for part in (text_encoder, vae):
            _fake(part)
        tokens = _text_tokens(config.transformer.text_length)
        image = torch.zeros(1, 3, config.size, config.size)
        text = _counted(lambda: encode_tokens(text_encoder, tokens, states))
        return text + _counted(lambda: vae.encode(image))


def _text_tokens(length: int) -> dict[str, Tensor]:
    ids = torch.zeros(1, length, dtype=torch.int64)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _fake(module: nn.Module) -> None:
    """Give a module of the meta device fake weights.

    Autocast knows no meta device; fake tensors have no memory either, and say that they are on the
    CPU.
    """
    for part in module.modules():
        for name, weight in part.named_parameters(recurse=False):
            empty = torch.empty(weight.shape, dtype=weight.dtype)
            setattr(part, name, nn.Parameter(empty, weight.requires_grad))
        for name, buffer in part.named_buffers(recurse=False):
            setattr(part, name, torch.empty(buffer.shape, dtype=buffer.dtype))


def _counted(work: Callable[[], object]) -> float:
    # Attention is counted where it is made of products.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())
