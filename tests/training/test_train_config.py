"""The configurations that come with mfsynth."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from mfsynth.cli.train import train
from mfsynth.errors import MfsynthError
from mfsynth.sources.simulated import CachedScenesSettings
from mfsynth.training.config import load_train_config
from mfsynth.training.estimator_config import load_estimator_config
from mfsynth.training.kinds import describes_estimator

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
        # What Modality Forcing asks for: 30 % of images alone, and images kept near the base's.
        assert config.optimiser.image_only_share >= 0.3
        assert config.optimiser.distillation is not None
        assert config.optimiser.precision == "bfloat16"
    if any(part.sparsity for part in config.data):
        # Else none of it would ever be a condition.
        assert config.optimiser.complete_depth


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("estimator.widths=[50, 100]", r"estimator\.widths\.0: "),
        ("size=132", r"size 132 is no multiple of 8, which 3 levels \(estimator\.widths\) halve"),
    ],
)
def test_sizes_that_make_no_estimator_are_told(override, said):
    with pytest.raises(MfsynthError, match=said):
        load_estimator_config("estimator", [override])


def test_gpus_are_counted_by_a_dry_run_alone():
    done = CliRunner().invoke(train, ["embedded", "--gpus", "3"])
    assert done.exit_code == 1
    assert str(done.exception).startswith("--gpus is for --dry-run;")


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
        ("embedded", "noise={i2d_share: 0.7, d2i_share: 0.7}", "d2i_share come to 1.4; give 1"),
        ("klein-4b", "optimiser.image_steps=3", "set optimiser.image_steps to 0"),
        ("embedded", "optimiser.depth_learning_rate=1e-3", "one of AdamW alone"),
        ("klein-4b", "pretrained.text_states=[9]", "text_layers is 3, but .* names 1"),
        ("embedded", "transformer.head_dim=64", "64 is not that of"),
        ("embedded", "transformer.rope_axes=[9, 21, 22, 8]", "which are even numbers"),
        ("embedded", "transformer.depth_decoder_layers=6", "6 blocks can't start as the last of 5"),
        ("embedded", "transformer.text_channels=8", "8 is no multiple of 16"),
        ("embedded", "transformer.rgb_bands=[16, 0]", "each must be at least 1"),
        ("embedded", "transformer.patch=7", "windows that overlap by half a patch"),
        (
            "embedded",
            "transformer={depth_head: windows, patch: 7, layers: 1, single_layers: 1, "
            "depth_decoder_layers: 1, heads: 1, head_dim: 8, rope_axes: [2, 2, 2, 2], "
            "rope_theta: 2, text_length: 1, text_layers: 1, text_channels: 1}",
            "use an even one",
        ),
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


@pytest.mark.parametrize(
    ("name", "override", "said"),
    [
        ("embedded", "optimiser.adamw_learning_rate=.inf", "a finite number, not inf"),
        ("embedded", "noise.rgb_mu=.nan", "a finite number, not nan"),
        ("embedded", "optimiser.text_dropout='0.1'", "a number, not '0.1'"),
        ("embedded", "seed='7'", "an integer, not '7'"),
        ("embedded", "seed=-1", "at least 0, not -1"),
        ("embedded", "optimiser.batch_size=true", "an integer, not True"),
        ("embedded", "optimiser.joint_steps=2.0", "an integer, not 2.0"),
        ("embedded", "optimiser.complete_depth=1", "true or false, not 1"),
        ("embedded", "noise.i2d_share=1.5", "at most 1, not 1.5"),
        ("klein-4b", "pretrained.text_states=[-1, 9, 18]", "at least 0, not -1"),
        ("estimator", "learning_rate=.inf", "a finite number, not inf"),
        ("estimator", "weight_decay='0'", "a number, not '0'"),
        ("estimator", "seed='7'", "an integer, not '7'"),
        ("estimator", "size=true", "an integer, not True"),
        ("estimator", "estimator.widths=[0]", "at least 8, not 0"),
    ],
)
def test_a_value_of_another_type_or_range_is_refused_in_one_line(name, override, said):
    with pytest.raises(MfsynthError) as caught:
        CliRunner().invoke(train, [name, "--set", override], catch_exceptions=False)
    key, _, _ = override.partition("=")
    assert key in str(caught.value)
    assert f"must be {said}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_setting_reaches_into_the_parts_of_the_data() -> None:
    before = load_train_config("embedded-128")
    first, second = load_train_config("embedded-128", ["data.1.render.scenes=7"]).data
    assert first == before.data[0]
    assert isinstance(second.source, CachedScenesSettings)
    assert second.source.render is not None
    assert second.source.render.scenes == 7
    assert second.weight == before.data[1].weight


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.2.weight=3", "--set data.2.weight: 2 is no item of a list of 2; they are numbered"),
        ("data.first.weight=3", "--set data.first.weight: first is no item of a list of 2"),
        ("data.0.weight=-3", "--set: data.0.weight: must be above 0"),
    ],
)
def test_an_item_that_is_not_there_is_named(override: str, message: str) -> None:
    with pytest.raises(MfsynthError, match=re.escape(message)):
        load_train_config("embedded-128", [override])
