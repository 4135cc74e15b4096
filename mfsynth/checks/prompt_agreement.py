"""Agreement of image and prompt, as a network for texts and images sees it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mfsynth.checks.base import Check, CheckedPair, NetworkInfo, Score
from mfsynth.config.base import NonEmpty, Unset
from mfsynth.models.recognition.catalogue import TEXT_IMAGE, find_recogniser
from mfsynth.models.recognition.opening import open_text_image


class PromptAgreement(Check):
    """Limit on how well an image fits its prompt.

    One pair at a time goes through the network, on the worker's GPU if it has one. It reads the
    beginning of a long prompt (CLIP 77 tokens, SigLIP 64), and hardly counts or places things.

    Attributes:
        model: CLIP or SigLIP of transformers: a folder, or a hub id.
        revision: Of a hub id; its newest if unset.
        min: Least cosine. What is usual depends on the network (about .3 for CLIP, .1 for SigLIP),
            so there is no limit unless one is given.
    """

    model: NonEmpty
    revision: Unset[NonEmpty] = None
    min: Unset[Annotated[float, Field(ge=-1, le=1)]] = None

    inputs = ("rgb", "text")
    scores = (
        Score(
            name="prompt_agreement",
            label="prompt agreement",
            direction="higher",
            note="cosine between image and prompt",
            limit="min",
        ),
    )

    def measure(self, pair: CheckedPair) -> dict[str, float]:
        """The cosine; nan of an empty text."""
        assert pair.text is not None  # it is one of the inputs
        if not pair.text.strip():
            return {"prompt_agreement": float("nan")}
        network = open_text_image(self.model, self.revision)
        return {"prompt_agreement": network.similarity(pair.rgb, pair.text)}

    def network(self) -> NetworkInfo:
        """Of the setting `model`."""
        found = find_recogniser(self.model, self.revision, TEXT_IMAGE, weights=False)
        return NetworkInfo(self.model, found.revision, found.licence)

    def load(self) -> None:
        """The network, for the whole process."""
        open_text_image(self.model, self.revision)
