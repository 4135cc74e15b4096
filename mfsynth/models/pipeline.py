"""`ModalityForcingPipeline`: text to paired images and depth, images to depth, depth to images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL.Image
import torch
from diffusers import AutoencoderKLFlux2, DiffusionPipeline
from diffusers.loaders import Flux2LoraLoaderMixin
from diffusers.utils import BaseOutput
from numpy.typing import NDArray
from torch import Tensor

from mfsynth.errors import MfsynthError
from mfsynth.geometry.filling import fill_nearest
from mfsynth.models.acceleration.offloading import on_device
from mfsynth.models.codecs import DepthCodec, LatentCodec, PatchCodec, RGBCodec
from mfsynth.models.lapped_transform import LappedTransformCodec
from mfsynth.models.locations import is_released
from mfsynth.models.sampling import OnStep, Predict, integrate
from mfsynth.models.schedules import Mode, Schedule, schedule
from mfsynth.models.text import encode_tokens, tokenize
from mfsynth.models.transformer import ModalityForcingTransformer2DModel

OutputType = Literal["np", "pil", "pt", "latent"]

# A condition with less is not the dense depth that the model was trained on.
MIN_GIVEN_DEPTH = 0.5


@dataclass
class ModalityForcingPipelineOutput(BaseOutput):
    """A batch of pairs, in the type that `output_type` names.

    Attributes:
        rgb: "np": (B, H, W, 3) uint8; "pil": images; "pt": (B, 3, H, W) float32 in [0, 1];
            "latent": (B, N, C) RGB tokens.
        depth: Scale-invariant z-depth, 0 where a pixel has none. "np": (B, H, W) float32; "pil":
            images of mode F; "pt": (B, H, W) float32; "latent": (B, N, P) depth tokens.
    """

    rgb: Any
    depth: Any


@dataclass(frozen=True, slots=True)
class Guidance:
    """Classifier-free guidance.

    Attributes:
        rgb: Scale on RGB; 1 is none.
        depth: Scale on depth.
        interval: Noise levels (low, high) inside of which guidance acts; outside of it the
            unconditional half of the forward is saved. Of RGB's level, or of depth's in `i2d`.
    """

    rgb: float
    depth: float
    interval: tuple[float, float] = (0.0, 1.0)

    def acts(self, t: float) -> bool:
        """Whether a step at noise level t is guided."""
        low, high = self.interval
        return (self.rgb != 1 or self.depth != 1) and low <= t <= high


class ModalityForcingPipeline(Flux2LoraLoaderMixin, DiffusionPipeline):
    """Sample a Modality Forcing transformer in any of its three modes.

    Args:
        transformer: The joint transformer.
        text_encoder: A causal language model whose hidden states condition the transformer.
        tokenizer: Its tokenizer, with a chat template.
        vae: The FLUX.2 autoencoder, or None where RGB tokens come from pixels by a fixed transform.
        text_encoder_layers: Hidden states to concatenate.
        max_text_length: Text tokens, padding included.
        rgb_shift_mu: Time shift of RGB.
        depth_shift_mu: Time shift of depth.
        depth_mean: Standardisation of the contracted depth.
        depth_std: Standardisation of the contracted depth.
        height: Native height in pixels.
        width: Native width in pixels.
        rgb_bands: Without a VAE, the frequencies of luma and of chroma that RGB tokens hold of a
            lapped transform; None where they are plain pixel patches.
    """

    _optional_components = ["vae"]  # noqa: RUF012 (diffusers' interface)
    model_cpu_offload_seq = "text_encoder->transformer->vae"

    def __init__(
        self,
        transformer: ModalityForcingTransformer2DModel,
        text_encoder: Any,
        tokenizer: Any,
        vae: AutoencoderKLFlux2 | None = None,
        text_encoder_layers: tuple[int, ...] | list[int] = (9, 18, 27),
        max_text_length: int = 512,
        rgb_shift_mu: float = 1.1,
        depth_shift_mu: float = 1.1,
        depth_mean: float = 0.0,
        depth_std: float = 1.0,
        height: int = 512,
        width: int = 512,
        rgb_bands: tuple[int, int] | list[int] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            transformer=transformer, text_encoder=text_encoder, tokenizer=tokenizer, vae=vae
        )
        self.register_to_config(
            text_encoder_layers=tuple(text_encoder_layers),
            max_text_length=max_text_length,
            rgb_shift_mu=rgb_shift_mu,
            depth_shift_mu=depth_shift_mu,
            depth_mean=depth_mean,
            depth_std=depth_std,
            height=height,
            width=width,
            rgb_bands=rgb_bands,
        )
        self._null: tuple[Any, Tensor] | None = None

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, **kwargs: Any
    ) -> ModalityForcingPipeline:
        """Open a diffusers folder or hub repository, or a checkpoint in the released layout.

        For the latter, keyword arguments are those of
        `mfsynth.models.released.conversion.load_released`.
        """
        name = pretrained_model_name_or_path
        if is_released(name, kwargs.get("revision"), kwargs.get("local_files_only", False)):
            # Imported here: the conversion builds this pipeline.
            from mfsynth.models.released.conversion import load_released

            return load_released(name, **kwargs)
        return super().from_pretrained(name, **kwargs)

    @property
    def _execution_device(self) -> torch.device:
        # The text encoder may be kept in main memory, and must not pass for where the model runs.
        device = super()._execution_device
        return self.transformer.device if device.type == "cpu" else device

    @property
    def depth_codec(self) -> DepthCodec:
        """Between depth maps and the transformer's depth tokens."""
        patch = round(self.transformer.config.depth_channels**0.5)
        return DepthCodec(patch, self.config.depth_mean, self.config.depth_std)

    @property
    def rgb_codec(self) -> RGBCodec:
        """Between images and the transformer's RGB tokens."""
        if self.vae is not None:
            return LatentCodec(self.vae)
        if self.config.rgb_bands is not None:
            luma, chroma = self.config.rgb_bands
            return LappedTransformCodec(self.depth_codec.patch, (luma, chroma))
        return PatchCodec(round((self.transformer.config.in_channels / 3) ** 0.5))

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Encode B prompts to (B, L, C) hidden states in the transformer's dtype.

        A text encoder that is kept elsewhere is on the device for that long.
        """
        tokens = tokenize(self.tokenizer, prompts, self.config.max_text_length)
        device = self._execution_device
        with on_device(self.text_encoder, device):
            tokens = {name: value.to(device) for name, value in tokens.items()}
            states = encode_tokens(self.text_encoder, tokens, self.config.text_encoder_layers)
        return states.to(self.transformer.dtype)

    @torch.inference_mode()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        seeds: Sequence[int],
        prompt_embeds: Tensor | None = None,
        mode: Mode | str = Mode.JOINT,
        image: NDArray[np.uint8] | None = None,
        depth: NDArray[np.float32] | None = None,
        num_inference_steps: int = 50,
        guidance_scale: float = 4.0,
        depth_guidance_scale: float | None = None,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        log2_alpha: float = 5.0,
        depth_step_share: float = 0.0,
        depth_start: float = 1.0,
        refine_steps: int = 0,
        refine_start: float = 1.0,
        height: int | None = None,
        width: int | None = None,
        output_type: OutputType = "np",
        callback_on_step_end: Callable[
            [DiffusionPipeline, int, tuple[float, float], dict[str, Tensor]], dict[str, Tensor]
        ]
        | None = None,
    ) -> ModalityForcingPipelineOutput:
        """Sample a batch. A sample depends on its own prompt and seed, not on its batch.

        Args:
            prompt: B prompts.
            seeds: B seeds, one for each sample.
            prompt_embeds: (B, L, C) from `encode_prompts`, in place of prompts.
            mode: `joint`, `i2d` (depth of `image`) or `d2i` (an image for `depth`).
            image: (B, H, W, 3) uint8, given in `i2d`.
            depth: (B, H, W) float32 z-depth in any unit, given in `d2i`; 0 marks holes, which the
                model sees filled with their nearest depth.
            num_inference_steps: Euler steps.
            guidance_scale: Classifier-free guidance on every generated stream; 1 is off and saves
                half of the work. A guidance-distilled model takes it as an input instead.
            depth_guidance_scale: Guidance on depth, where it differs.
            guidance_interval: Noise levels inside of which guidance acts.
            log2_alpha: In `joint`, how much longer depth stays noisy than RGB.
            depth_step_share: In `joint`, how far the steps are spaced for depth, in [0, 1].
            depth_start: In `joint`, depth tokens are left out of the steps in which depth's level
                is above this.
            refine_steps: In `joint`, steps of a second pass over depth: `i2d`, unguided, on the
                generated RGB tokens.
            refine_start: The level that the second pass begins at: 1 starts from noise, less keeps
                the first depth's coarse shape.
            height: Pixels, where nothing is given; the model's native height by default.
            width: Pixels, likewise.
            output_type: See `ModalityForcingPipelineOutput`.
            callback_on_step_end: Called as in diffusers with (pipeline, step, noise levels of RGB
                and depth after the step, {"rgb": tokens, "depth": tokens}); what it returns
                replaces the tokens.

        Raises:
            MfsynthError: Sizes or inputs that do not fit the mode or the model.
        """
        mode = Mode(mode)
        guidance = Guidance(
            guidance_scale,
            guidance_scale if depth_guidance_scale is None else depth_guidance_scale,
            guidance_interval,
        )
        text = self._text(prompt, prompt_embeds, seeds)
        height, width = self._size(mode, len(text), image, depth, height, width)
        depth_codec, rgb_codec = self.depth_codec, self.rgb_codec
        grid = (height // depth_codec.patch, width // depth_codec.patch)

        def nodes(of: Mode, steps: int, start: float) -> Schedule:
            return schedule(
                of,
                steps,
                rgb_mu=self.config.rgb_shift_mu,
                depth_mu=self.config.depth_shift_mu,
                log2_alpha=log2_alpha,
                depth_step_share=depth_step_share,
                depth_start=start,
            )

        rgb_tokens, depth_tokens, refine_noise = self._noise(seeds, grid[0] * grid[1])
        if mode is Mode.IMAGE_TO_DEPTH:
            clean = torch.tensor(image, device=self._execution_device).permute(0, 3, 1, 2)
            rgb_tokens = rgb_codec.encode(clean.to(rgb_tokens.dtype) / 127.5 - 1)
        if mode is Mode.DEPTH_TO_IMAGE and depth is not None:
            filled = np.stack([fill_nearest(one, one > 0) for one in np.asarray(depth, np.float32)])
            depth_tokens = depth_codec.encode(torch.tensor(filled, device=self._execution_device))

        refine_steps = refine_steps if mode is Mode.JOINT else 0
        with self.progress_bar(total=num_inference_steps + refine_steps) as bar:
            rgb_tokens, depth_tokens = self._roll(
                self._predict(text, guidance, mode, grid),
                rgb_tokens,
                depth_tokens,
                nodes(mode, num_inference_steps, depth_start if mode is Mode.JOINT else 1.0),
                bar.update,
                callback_on_step_end,
            )
            if refine_steps:
                noisy = (1 - refine_start) * depth_tokens + refine_start * refine_noise
                _, depth_tokens = self._roll(
                    self._predict(text, Guidance(1.0, 1.0), Mode.IMAGE_TO_DEPTH, grid),
                    rgb_tokens,
                    noisy,
                    nodes(Mode.IMAGE_TO_DEPTH, refine_steps, refine_start),
                    bar.update,
                    callback_on_step_end,
                )
        if output_type == "latent":
            return ModalityForcingPipelineOutput(rgb=rgb_tokens, depth=depth_tokens)
        if mode is Mode.IMAGE_TO_DEPTH:
            images = torch.tensor(image).permute(0, 3, 1, 2) / 255
        else:
            images = (rgb_codec.decode(rgb_tokens, grid).float().clamp(-1, 1) + 1) / 2
        if mode is Mode.DEPTH_TO_IMAGE:
            maps = torch.tensor(depth)
        else:
            maps = depth_codec.decode(depth_tokens, grid)
        return _output(images, maps, output_type)

    def _roll(
        self,
        predict: Predict,
        rgb: Tensor,
        depth: Tensor,
        nodes: Schedule,
        advance: Callable[[], Any],
        callback: Callable[..., dict[str, Tensor]] | None,
    ) -> tuple[Tensor, Tensor]:
        def on_step(done: int, rgb: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
            advance()
            if callback is None:
                return rgb, depth
            levels = (nodes.rgb[done].item(), nodes.depth[done].item())
            changed = callback(self, done - 1, levels, {"rgb": rgb, "depth": depth})
            return changed.get("rgb", rgb), changed.get("depth", depth)

        handler: OnStep = on_step
        return integrate(
            predict,
            rgb,
            depth,
            nodes,
            rgb_is_velocity=self.transformer.config.rgb_prediction == "velocity",
            on_step=handler,
        )

    def _text(
        self, prompt: str | Sequence[str] | None, embeds: Tensor | None, seeds: Sequence[int]
    ) -> Tensor:
        if (prompt is None) == (embeds is None):
            raise MfsynthError("give either `prompt` or `prompt_embeds`")
        prompts = [prompt] if isinstance(prompt, str) else prompt
        batch = len(prompts) if prompts is not None else len(embeds) if embeds is not None else 0
        if batch != len(seeds):
            raise MfsynthError(f"{batch} prompts but {len(seeds)} seeds; give one seed each")
        if embeds is None:
            embeds = self.encode_prompts(prompts or [])
        return embeds.to(self._execution_device, self.transformer.dtype)

    def _size(
        self,
        mode: Mode,
        batch: int,
        image: NDArray[np.uint8] | None,
        depth: NDArray[np.float32] | None,
        height: int | None,
        width: int | None,
    ) -> tuple[int, int]:
        given = {Mode.JOINT: None, Mode.IMAGE_TO_DEPTH: image, Mode.DEPTH_TO_IMAGE: depth}[mode]
        if mode is not Mode.JOINT:
            name = "image" if mode is Mode.IMAGE_TO_DEPTH else "depth"
            if given is None:
                raise MfsynthError(f"mode {mode} needs `{name}`")
            if len(given) != batch:
                raise MfsynthError(f"{batch} prompts but `{name}` holds {len(given)} maps")
            if not np.isfinite(given).all():
                raise MfsynthError(f"`{name}` holds values that are not finite; 0 marks no depth")
            if mode is Mode.DEPTH_TO_IMAGE:
                share = np.greater(given, 0).mean(axis=(1, 2)).min()
                if share < MIN_GIVEN_DEPTH:
                    raise MfsynthError(
                        f"`depth` is valid in {share:.0%} of a map's pixels; mode d2i needs dense "
                        f"depth, at least {MIN_GIVEN_DEPTH:.0%}"
                    )
            height, width = given.shape[1:3]
        height, width = height or self.config.height, width or self.config.width
        patch = self.depth_codec.patch
        if height % patch or width % patch:
            raise MfsynthError(
                f"size {width}x{height} does not divide into {patch}x{patch} patches; "
                f"use multiples of {patch}"
            )
        return height, width

    def _noise(self, seeds: Sequence[int], tokens: int) -> tuple[Tensor, Tensor, Tensor]:
        """Noise of RGB, of depth, and of depth's second pass, (B, N, channels) each."""
        config = self.transformer.config
        rows = []
        for seed in seeds:
            # Drawn on the CPU: a seed then means the same noise on every device.
            generator = torch.Generator("cpu").manual_seed(seed)
            rows.append(
                [
                    torch.randn(tokens, channels, generator=generator)
                    for channels in (
                        config.in_channels,
                        config.depth_channels,
                        config.depth_channels,
                    )
                ]
            )
        device = self._execution_device
        rgb, depth, refine = (torch.stack(part).to(device) for part in zip(*rows, strict=True))
        return rgb, depth, refine

    def _null_embeds(self) -> Tensor:
        """The empty prompt's (1, L, C), encoded once for as long as the text encoder stays."""
        if self._null is None or self._null[0] is not self.text_encoder:
            self._null = (self.text_encoder, self.encode_prompts([""]))
        return self._null[1]

    def _predict(
        self, text: Tensor, guidance: Guidance, mode: Mode, grid: tuple[int, int]
    ) -> Predict:
        batch, device = len(text), text.device
        distilled = None
        if self.transformer.config.guidance_embeds:
            distilled = torch.full((batch,), guidance.rgb, device=device)
        both = text
        if distilled is None and (guidance.rgb != 1 or guidance.depth != 1):
            null = self._null_embeds().to(device, text.dtype)
            both = torch.cat([text, null.expand(batch, -1, -1)])

        def forward(
            rgb: Tensor, depth: Tensor | None, text: Tensor, t_rgb: float, t_depth: float
        ) -> tuple[Tensor, Tensor | None]:
            copies = len(text) // batch

            def rows(tokens: Tensor) -> Tensor:
                return tokens.to(text.dtype).repeat(copies, 1, 1)

            output = self.transformer(
                rgb=rows(rgb),
                depth=None if depth is None else rows(depth),
                text=text,
                rgb_timestep=torch.full((len(text),), t_rgb, device=device),
                depth_timestep=(
                    None if depth is None else torch.full((len(text),), t_depth, device=device)
                ),
                grid=grid,
                guidance=distilled,
            )
            return output.rgb.float(), output.depth

        def predict(
            rgb: Tensor, depth: Tensor | None, t_rgb: float, t_depth: float
        ) -> tuple[Tensor, Tensor | None]:
            level = t_depth if mode is Mode.IMAGE_TO_DEPTH else t_rgb
            if distilled is not None or not guidance.acts(level):
                return forward(rgb, depth, text, t_rgb, t_depth)
            # One batched forward of both halves.
            rgb_out, depth_out = forward(rgb, depth, both, t_rgb, t_depth)
            return (
                _extrapolate(rgb_out, guidance.rgb),
                None if depth_out is None else _extrapolate(depth_out, guidance.depth),
            )

        return predict


def _extrapolate(halves: Tensor, scale: float) -> Tensor:
    conditional, unconditional = halves.chunk(2)
    return unconditional + scale * (conditional - unconditional)


def _output(images: Tensor, maps: Tensor, output_type: OutputType) -> ModalityForcingPipelineOutput:
    """Turn (B, 3, H, W) images in [0, 1] and (B, H, W) depth into what the caller asked for."""
    if output_type == "pt":
        return ModalityForcingPipelineOutput(rgb=images, depth=maps)
    rgb = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    depth = maps.cpu().numpy()
    if output_type == "np":
        return ModalityForcingPipelineOutput(rgb=rgb, depth=depth)
    return ModalityForcingPipelineOutput(
        rgb=[PIL.Image.fromarray(one) for one in rgb],
        depth=[PIL.Image.fromarray(one) for one in depth],
    )
