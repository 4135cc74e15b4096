"""How well a text fits an image: CLIP and SigLIP, by transformers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import PIL.Image
import torch
import transformers
from torch.nn import functional

from mfsynth.geometry.rgbd import RgbImage
from mfsynth.models.recognition.catalogue import RecogniserFolder
from mfsynth.models.recognition.processors import load_processor
from mfsynth.models.weights import load_whole


@dataclass(frozen=True, slots=True)
class TextImageModel:
    """A model that puts texts and images into one space.

    Attributes:
        model: The network.
        processor: Brings text and image to it.
    """

    model: Any
    processor: Any

    @classmethod
    def load(cls, folder: RecogniserFolder, device: str) -> TextImageModel:
        """Load a model of `mfsynth.models.recognition.catalogue.TEXT_IMAGE`.

        Raises:
            MfsynthError: Its files are not what they should be.
        """
        model = load_whole(getattr(transformers, folder.kind), folder.path, torch.float32).to(
            device
        )
        return cls(model, load_processor(folder.path))

    @torch.inference_mode()
    def similarity(self, rgb: RgbImage, text: str) -> float:
        """Cosine between image and text, in [-1, 1].

        Args:
            rgb: uint8 (H, W, 3).
            text: In lower case to the network, as all of these were trained; what is longer than it
                reads (77 or 64 tokens) is cut.
        """
        given = self.processor(
            images=PIL.Image.fromarray(rgb),
            text=[text.lower()],
            # SigLIP was trained on padded texts, and reads them no other way.
            padding="max_length",
            truncation=True,
            max_length=self.model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(self.model.device)
        said = self.model(**given)
        return float(functional.cosine_similarity(said.image_embeds, said.text_embeds)[0])
