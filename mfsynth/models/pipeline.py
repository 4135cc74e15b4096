"""`ModalityForcingPipeline`: text to paired images and depth, images to depth, depth to images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLFlux2, DiffusionPipeline
from diffusers.loaders import Flux2LoraLoaderMixin
from torch import Tensor

from mfsynth.models.arguments import count_samples, find_mode, require_arguments
from mfsynth.models.depth_normalisation import DepthNormalisation
from mfsynth.models.few_steps.student import HEAD_IN_FILES
from mfsynth.models.guidance import Guidance, guided_prediction
from mfsynth.models.images import Given
from mfsynth.models.inputs import Condition, draw_noise, require_depth_steps, token_grid
from mfsynth.models.lapped_transform import LappedTransformCodec
from mfsynth.models.locations import asking_the_hub, is_released
from mfsynth.models.outputs import ModalityForcingPipelineOutput, OutputType, as_output
from mfsynth.models.released.components import released_components
from mfsynth.models.sampling import Predict, integrate
from mfsynth.models.schedules import Mode, Schedule, schedule
from mfsynth.models.text import encode_prompts, tokenize
from mfsynth.models.token_codecs import (
    DepthCodec,
    LatentCodec,
    PatchCodec,
    RGBCodec,
)
from mfsynth.models.transformer import ModalityForcingTransformer2DModel
from mfsynth.models.weights import require_adapters, require_components


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
        depth_normalisation: What depth is divided by before; see `DepthCodec`.
        height: Native height in pixels.
        width: Native width in pixels.
        rgb_bands: Without a VAE, the frequencies of luma and of chroma that RGB tokens hold of a
            lapped transform; None where they are plain pixel patches.
        mixes_without_depth: Whether RGB sees depth's noise level, 1, in steps whose depth tokens
            are left out: in the release's training depth was always there, in ours images alone
            are without its tokens and its level.
        depth_median_radius: Of the windows of the weighted median that brings edges of depth to
            those of the image; 0 for depth as the transformer has it.
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
        depth_normalisation: DepthNormalisation = "mean",
        height: int = 512,
        width: int = 512,
        rgb_bands: tuple[int, int] | list[int] | None = None,
        mixes_without_depth: bool = False,
        depth_median_radius: int = 0,
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
            depth_normalisation=depth_normalisation,
            height=height,
            width=width,
            rgb_bands=rgb_bands,
            mixes_without_depth=mixes_without_depth,
            depth_median_radius=depth_median_radius,
        )
        self._null: tuple[Any, Tensor] | None = None

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, **kwargs: Any
    ) -> ModalityForcingPipeline:
        """Open a diffusers folder or hub repository, or a checkpoint in the released layout.

        Keyword arguments are those of diffusers, or for the released layout those of
        `mfsynth.models.released.components.released_components`. A `dtype` for all is not for the
        autoencoder: as in the release, it is in float32.

        Raises:
            MfsynthError: There is no such model, or a component's weights are not those of its
                class: some are missing, too many, or of another shape or type.
        """
        name = pretrained_model_name_or_path
        if is_released(name, kwargs.get("revision"), kwargs.get("local_files_only", False)):
            return cls(**released_components(name, **kwargs))
        folder = Path(name).expanduser()
        if not folder.is_dir():
            with asking_the_hub(str(name), kwargs.get("local_files_only", False)):
                folder = Path(cls.download(str(name), **kwargs))
        require_components(folder, kwargs)
        return super().from_pretrained(folder, **_with_float32_autoencoder(kwargs))

    @classmethod
    def load_lora_into_transformer(
        cls, state_dict: dict[str, Tensor], transformer: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Take adapters in, once it is seen that they fit; arguments are those of diffusers.

        Raises:
            MfsynthError: They don't.
        """
        require_adapters(state_dict, transformer, ignored=[HEAD_IN_FILES])
        super().load_lora_into_transformer(state_dict, transformer, *args, **kwargs)

    @property
    def _execution_device(self) -> torch.device:
        # The text encoder may be kept in main memory, and must not pass for where the model runs.
        device = super()._execution_device
        return self.transformer.device if device.type == "cpu" else device

    @property
    def depth_codec(self) -> DepthCodec:
        """Between depth maps and the transformer's depth tokens."""
        patch = round(self.transformer.config.depth_channels**0.5)
        of = self.config
        return DepthCodec(patch, of.depth_mean, of.depth_std, of.depth_normalisation)

    @property
    def rgb_codec(self) -> RGBCodec:
        """Between images and the transformer's RGB tokens."""
        if self.vae is not None:
            return LatentCodec(self.vae)
        if self.config.rgb_bands is not None:
            luma, chroma = self.config.rgb_bands
            return LappedTransformCodec(self.depth_codec.patch, (luma, chroma))
        return PatchCodec(round((self.transformer.config.in_channels / 3) ** 0.5))

    def encode_prompts(self, prompts: Sequence[str], batch_size: int = 16) -> Tensor:
        """Encode N prompts, `batch_size` at a time, to (N, L, C) in the transformer's dtype.

        They stay where the text encoder is kept; see `mfsynth.models.text.encode_prompts`.
        """
        tokens = tokenize(self.tokenizer, prompts, self.config.max_text_length)
        placed = {"device": self._execution_device, "dtype": self.transformer.dtype}
        layers = self.config.text_encoder_layers
        return encode_prompts(self.text_encoder, tokens, layers, batch_size, **placed)

    @torch.inference_mode()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        seeds: Sequence[int],
        prompt_embeds: Tensor | None = None,
        mode: Mode | str = Mode.JOINT,
        image: Given | None = None,
        depth: Given | None = None,
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
            image: B images of any one size, given in `i2d`: PIL, arrays (B, H, W, 3) or tensors
                (B, 3, H, W); see `mfsynth.models.images.read_images`.
            depth: B maps of z-depth of any one size and in any unit, given in `d2i`; see
                `mfsynth.models.images.read_depth`. Holes are filled with their nearest depth.
            num_inference_steps: Euler steps.
            guidance_scale: Classifier-free guidance on every generated stream; 1 is off and saves
                half of the work. A guidance-distilled model takes it as an input instead.
            depth_guidance_scale: Guidance on depth, where it differs.
            guidance_interval: Noise levels inside of which guidance acts.
            log2_alpha: In `joint`, how much longer depth stays noisy than RGB. Other modes refuse
                this and all that follow to `refine_start`.
            depth_step_share: How far the steps are spaced for depth, in [0, 1].
            depth_start: Depth tokens are left out of the steps in which depth's level is above
                this; 0 leaves depth to a second pass from noise.
            refine_steps: Steps of a second pass over depth: `i2d`, unguided, on the generated RGB
                tokens.
            refine_start: The level that the second pass begins at: 1 starts from noise, less keeps
                the first depth's coarse shape.
            height: Pixels that the model sees; its native height by default. What is given in
                another size is letterboxed to it, not squeezed, and the pair brought back.
            width: Pixels, likewise.
            output_type: See `ModalityForcingPipelineOutput`.
            callback_on_step_end: Called as in diffusers with (pipeline, step, noise levels of RGB
                and depth after the step, {"rgb": tokens, "depth": tokens}); what it returns
                replaces the tokens.

        Raises:
            MfsynthError: Arguments of another type, out of range, or that don't fit the mode, the
                model or each other. Nothing was computed then.
        """
        mode = find_mode(mode)
        require_arguments(
            mode,
            image=image,
            depth=depth,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            depth_guidance_scale=depth_guidance_scale,
            guidance_interval=guidance_interval,
            log2_alpha=log2_alpha,
            depth_step_share=depth_step_share,
            depth_start=depth_start,
            refine_steps=refine_steps,
            refine_start=refine_start,
            height=height,
            width=width,
            output_type=output_type,
            callback_on_step_end=callback_on_step_end,
        )
        require_depth_steps(mode, depth_start, refine_steps, refine_start)
        text_channels = self.transformer.config.joint_attention_dim
        text_shape = (self.config.max_text_length, text_channels)
        batch = count_samples(prompt, prompt_embeds, seeds, text_shape)
        frame = (height or self.config.height, width or self.config.width)
        given = Condition.of(mode, batch, image, depth, frame)
        codecs = self.rgb_codec, self.depth_codec
        grid = token_grid(*frame, self.depth_codec.patch)
        rgb_noise, depth_noise, refine_noise = self._noise(seeds, grid[0] * grid[1])
        text = self._text(prompt, prompt_embeds)
        guidance = Guidance(
            guidance_scale,
            guidance_scale if depth_guidance_scale is None else depth_guidance_scale,
            guidance_interval,
        )

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

        rgb_tokens, depth_tokens = given.tokens(rgb_noise, depth_noise, *codecs)
        with self.progress_bar(total=num_inference_steps + refine_steps) as bar:
            rgb_tokens, depth_tokens = self._roll(
                self._predict(text, guidance, mode, grid),
                rgb_tokens,
                depth_tokens,
                nodes(mode, num_inference_steps, depth_start),
                bar.update,
                callback_on_step_end,
            )
            if refine_steps:
                noisy = (1 - refine_start) * depth_tokens + refine_start * refine_noise
                _, depth_tokens = self._roll(
                    self._predict(text, Guidance(), Mode.IMAGE_TO_DEPTH, grid),
                    rgb_tokens,
                    noisy,
                    nodes(Mode.IMAGE_TO_DEPTH, refine_steps, refine_start),
                    bar.update,
                    callback_on_step_end,
                )
        if output_type == "latent":
            return ModalityForcingPipelineOutput(rgb=rgb_tokens, depth=depth_tokens)
        median_radius = self.config.depth_median_radius
        images, maps = given.pair(rgb_tokens, depth_tokens, *codecs, grid, median_radius)
        return as_output(images, maps, output_type, seeds)

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

        return integrate(
            predict,
            rgb,
            depth,
            nodes,
            rgb_is_velocity=self.transformer.config.rgb_prediction == "velocity",
            on_step=on_step,
        )

    def _text(self, prompt: str | Sequence[str] | None, embeds: Tensor | None) -> Tensor:
        if embeds is None:
            prompts = [prompt] if isinstance(prompt, str) else prompt or []
            embeds = self.encode_prompts(prompts, len(prompts))
        return embeds.to(self._execution_device, self.transformer.dtype)

    def _noise(self, seeds: Sequence[int], tokens: int) -> list[Tensor]:
        """Noise of RGB, of depth, and of depth's second pass, (B, N, channels) each."""
        config = self.transformer.config
        channels = (config.in_channels, config.depth_channels, config.depth_channels)
        return [noise.to(self._execution_device) for noise in draw_noise(seeds, tokens, channels)]

    def _predict(
        self, text: Tensor, guidance: Guidance, mode: Mode, grid: tuple[int, int]
    ) -> Predict:
        is_distilled = self.transformer.config.guidance_embeds
        null_text = self._null_embeds() if guidance.is_on and not is_distilled else None
        mixes = self.config.mixes_without_depth
        return guided_prediction(self.transformer, text, null_text, guidance, mode, grid, mixes)

    def forget_empty_prompt(self) -> None:
        """Encode the empty prompt anew: the text encoder has other weights than before."""
        self._null = None

    def _null_embeds(self) -> Tensor:
        """The empty prompt's (1, L, C), encoded once for as long as the text encoder stays."""
        if self._null is None or self._null[0] is not self.text_encoder:
            self._null = (self.text_encoder, self.encode_prompts([""]))
        return self._null[1]


def _with_float32_autoencoder(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `from_pretrained` in which a type for all is not for the autoencoder."""
    types = {
        key: {"default": arguments[key], "vae": torch.float32}
        for key in ("dtype", "torch_dtype")
        if isinstance(arguments.get(key), torch.dtype)
    }
    return {**arguments, **types}
