"""The configurations that come with mfsynth."""

from __future__ import annotations

from pathlib import Path

import pytest

from mfsynth.errors import MfsynthError
from mfsynth.training.config import load_train_config
from mfsynth.training.estimator import describes_estimator, load_estimator_config

ALL = sorted(path.stem for path in (Path(__file__).parents[2] / "configs" / "train").glob("*.yaml"))
ESTIMATORS = [name for name in ALL if describes_estimator(name)]
CONFIGS = sorted({*ALL} - {*ESTIMATORS})


def test_all_are_there():
    ladder = {f"ladder-{size}" for size in ("0.4b", "0.7b", "1.3b", "2b", "3.4b")}
    assert {"embedded", "klein-4b", "klein-4b-lora", "klein-9b"} | ladder <= set(CONFIGS)


@pytest.mark.parametrize("name", CONFIGS)
def test_each_is_valid_and_named_as_its_file(name):
    config = load_train_config(name)
    assert config.name == name
    assert config.output.name == name
    assert sum(config.transformer.rope_axes) == config.transformer.head_dim
    if config.pretrained is not None:
        # What makes the recipe: 30 % of images alone, and images kept near the base's.
        assert config.optimiser.image_only_share >= 0.3
        assert config.optimiser.distillation is not None
        assert config.optimiser.precision == "bfloat16"


@pytest.mark.parametrize("name", ESTIMATORS)
def test_each_estimators_is_valid_and_named_as_its_file(name):
    config = load_estimator_config(name)
    assert config.name == name
    assert config.output.name == name


@pytest.mark.parametrize(
    ("name", "override", "said"),
    [
        ("ladder-2b", "optimiser.muon_learning_rate=1e-3", "Muon needs whole matrices"),
        ("embedded", "optimiser.sharding=fsdp", "optimiser.*whole matrices"),
        ("klein-4b-lora", "optimiser.sharding=fsdp", "lora trains few weights"),
        ("klein-4b", "optimiser.invalid_depth=noise", "needs a depth mask"),
        ("klein-4b", "optimiser.image_steps=3", "set optimiser.image_steps to 0"),
        ("embedded", "optimiser.depth_learning_rate=1e-3", "one of AdamW alone"),
        ("klein-4b", "pretrained.text_states=[9]", "text_layers is 3, but .* names 1"),
        (
            "embedded",
            "optimiser={image_steps: 0, joint_steps: 1, image_only_share: 0, batch_size: 1, "
            "adamw_learning_rate: 1.0e-3, warmup_steps: 0, decay_share: 0, weight_decay: 0, "
            "ema: 0, edge_weight: 0, text_dropout: 0, checkpoint_every: 1, "
            "distillation: {noisy_depth: 1, clean_depth: 0}}",
            "distillation needs a base model",
        ),
    ],
)
def test_what_does_not_go_together_is_one_line(name, override, said):
    with pytest.raises(MfsynthError, match=said) as caught:
        load_train_config(name, [override])
    assert "\n" not in str(caught.value)


def test_sharding_is_for_models_with_a_frozen_text_encoder():
    with pytest.raises(MfsynthError, match="sharding fsdp is for large models"):
        load_train_config(
            "embedded", ["optimiser.sharding=fsdp", "optimiser.muon_learning_rate=null"]
        )
