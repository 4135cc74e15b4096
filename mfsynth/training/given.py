"""What a training is given: data, and the weights of others that it starts from or uses."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from mfsynth.models.few_steps.student import weights_digest
from mfsynth.training.build import ModelComponents
from mfsynth.training.config import TrainConfig
from mfsynth.training.data import Mixture
from mfsynth.training.identity import items_of, settings_of
from mfsynth.training.optimisers import is_depth


def given_to(config: TrainConfig, mixture: Mixture, components: ModelComponents) -> dict[str, Any]:
    """What decides the weights of a model beside its seed, rates and noise.

    Models that it starts from, or uses frozen, may move but must not change: what counts is their
    weights, as they were read.

    Args:
        config: Of the training.
        mixture: Its data, opened.
        components: Its models, before any training.
    """
    settings = settings_of(config, but={"seed", "noise", "optimiser", "initial", "pretrained"})
    settings["items"] = items_of(mixture)
    if config.pretrained is not None:
        settings["pretrained"] = settings_of(config.pretrained, but={"id", "revision"})
    elif config.initial is None:
        # The words of all captions are those that the tokenizer knows.
        settings["captions"] = {"digest": _digest(mixture.captions())}
    settings["weights"] = dict(_weights(config, components))
    return settings


def _weights(
    config: TrainConfig, components: ModelComponents
) -> Iterator[tuple[str, dict[str, str]]]:
    transformer = components.model.transformer
    if config.initial is not None:
        yield "transformer", {"digest": weights_digest(transformer, but=_is_adapter)}
    elif config.from_image_model:
        # The depth modules are not its own.
        yield (
            "transformer",
            {"digest": weights_digest(transformer, but=lambda n: _is_adapter(n) or is_depth(n))},
        )
    if config.initial is not None or config.pretrained is not None:
        yield "text_encoder", {"digest": weights_digest(components.text_encoder)}
    if components.vae is not None:
        yield "vae", {"digest": weights_digest(components.vae)}


def _digest(texts: Iterable[str]) -> str:
    sha = hashlib.sha256()
    for text in texts:
        encoded = text.encode()
        # With its length, so that two texts never read as one.
        sha.update(b"%d:%s" % (len(encoded), encoded))
    return sha.hexdigest()


def _is_adapter(name: str) -> bool:
    return "lora_" in name
