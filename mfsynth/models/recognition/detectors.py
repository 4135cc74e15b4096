"""Things found in an image by their names: OWL-ViT, OWLv2 and Grounding DINO, by transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import PIL.Image
import torch
import transformers
from torch import Tensor

from mfsynth.geometry.rgbd import RgbImage
from mfsynth.models.recognition.catalogue import RecogniserFolder
from mfsynth.models.recognition.processors import load_processor
from mfsynth.models.weights import load_whole


class ThingFinder(Protocol):
    """What says of things whether they are in an image."""

    def confidences(self, rgb: RgbImage, things: Sequence[str]) -> list[float]:
        """How sure it is that each thing is somewhere in the image.

        Args:
            rgb: uint8 (H, W, 3).
            things: Their names, such as `red cube`.

        Returns:
            One in [0, 1] each; nan of a thing that it can't know.
        """


@dataclass(frozen=True, slots=True)
class Detector:
    """An open-vocabulary detector; the surest of its boxes counts.

    Attributes:
        model: The network.
        processor: Brings names and image to it.
        takes_lists: Whether several names can be asked for at a time without blending.
    """

    model: Any
    processor: Any
    takes_lists: bool

    @classmethod
    def load(cls, folder: RecogniserFolder, device: str) -> Detector:
        """Load a model of `mfsynth.models.recognition.catalogue.DETECTORS`, but the judge.

        Raises:
            MfsynthError: Its files are not what they should be.
        """
        model = load_whole(getattr(transformers, folder.kind), folder.path, torch.float32).to(
            device
        )
        takes_lists = folder.kind != "GroundingDinoForObjectDetection"
        return cls(model, load_processor(folder.path), takes_lists)

    @torch.inference_mode()
    def confidences(self, rgb: RgbImage, things: Sequence[str]) -> list[float]:
        """See `ThingFinder`."""
        image = PIL.Image.fromarray(rgb)
        if self.takes_lists:
            boxes = self._logits(image, [[f"a photo of a {thing}" for thing in things]])
            return [float(best) for best in boxes.amax(dim=1)[0].sigmoid()]
        # Of each box and each token of the name; tokens that aren't there are at -inf.
        logits = (self._logits(image, f"{thing.lower()}.") for thing in things)
        return [float(one.max().sigmoid()) for one in logits]

    def _logits(self, image: PIL.Image.Image, text: Any) -> Tensor:
        given = self.processor(
            images=image,
            text=text,
            padding="max_length",
            truncation=True,
            max_length=self._most_tokens,
            return_tensors="pt",
        )
        logits: Tensor = self.model(**given.to(self.model.device)).logits
        return logits.float()

    @property
    def _most_tokens(self) -> int:
        config = self.model.config
        # Grounding DINO has a limit of its own.
        return int(getattr(config, "max_text_len", config.text_config.max_position_embeddings))
