"""Going on from a Modality Forcing model that was trained before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_training import (
    CAPTIONS,
    SIZE,
    SIZES,
    flux2_config,
    flux2_mixture,
    make_flux2_trainer,
    optimiser,
    random_mixture,
    save_flux2,
)

from mfsynth.errors import MfsynthError
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.training.build import build_components
from mfsynth.training.checkpoints import AVERAGE, latest_checkpoint
from mfsynth.training.config import TrainConfig
from mfsynth.training.data import collate
from mfsynth.training.processes import join_processes
from mfsynth.training.run import export, tell_of_captions
from mfsynth.training.trainer import Trainer

MEAN = {"depth_normalisation": "mean"}
RELEASED = Path(__file__).parents[1] / "data" / "reference"


def config(output: Path, **changes) -> TrainConfig:
    settings = {
        "name": "tiny",
        "seed": 0,
        "size": SIZE,
        "data": [{"kind": "mfsynth", "url": "unused"}],
        "transformer": SIZES.model_dump(),
        "noise": {},
        "optimiser": optimiser().model_dump(),
        "output": output,
    }
    return TrainConfig.model_validate(settings | changes)


def further(output: Path, initial: object, **changes) -> TrainConfig:
    settings = {"initial": str(initial), "optimiser": optimiser(image_steps=0).model_dump()}
    return config(output, **(settings | changes))


def run(settings: TrainConfig) -> Trainer:
    components = build_components(settings, CAPTIONS)
    trainer = Trainer(components, settings.optimiser, settings.noise, 0, join_processes())
    trainer.run(random_mixture(), settings.output, lambda _: None)
    return trainer


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The folder of a trained model, and of its last checkpoint."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("first")
    settings = config(folder)
    run(settings)
    export(settings, random_mixture(), folder / "model")
    return folder / "model", latest_checkpoint(folder)


def test_it_starts_from_the_weights_that_came_out(first, tmp_path):
    model, checkpoint = first
    components = build_components(further(tmp_path, model), ["other words"])
    ours = dict(components.model.named_parameters())
    for name, value in checkpoint.read(AVERAGE):
        kept = value if "depth_proj_out" in name or "depth_norm_out" in name else value.bfloat16()
        torch.testing.assert_close(ours[name], kept.float(), rtol=0, atol=0)
    assert all(parameter.dtype == torch.float32 for parameter in ours.values())
    tokenizer = components.tokenizer
    assert tokenizer(CAPTIONS[0]).input_ids == tokenizer("A RED CUBE").input_ids
    assert tokenizer.unk_token_id not in tokenizer(CAPTIONS[0]).input_ids


def test_training_goes_on_and_what_comes_out_can_be_gone_on_from(first, tmp_path):
    settings = further(tmp_path / "a", first[0])
    before = build_components(settings, []).model.state_dict()
    trainer = run(settings)
    moved = [n for n, v in trainer.state.average.items() if not torch.equal(v, before[n])]
    assert "transformer.depth_proj_out.weight" in moved
    assert any("text_encoder" in name for name in moved)
    export(settings, random_mixture(), tmp_path / "model")
    build_components(further(tmp_path / "b", tmp_path / "model"), [])
    for written in (tmp_path / "model").rglob("*.json"):
        assert str(first[0]) not in written.read_text()
        assert "is_local" not in written.read_text()


def test_the_first_model_is_the_base_of_distillation(first, tmp_path):
    weights = {"noisy_depth": 1.0, "clean_depth": 0.1}
    settings = optimiser(image_steps=0, distillation=weights).model_dump()
    trainer = run(further(tmp_path, first[0], optimiser=settings))
    base = build_components(further(tmp_path, first[0]), []).model.state_dict()
    assert trainer._base
    assert all(torch.equal(value, base[name]) for name, value in trainer._base.items())


@pytest.mark.parametrize("lora", [None, {"rank": 2, "alpha": 2}])
def test_the_base_of_a_model_that_sees_depths_level_alone_stays_as_it_was(tmp_path, lora):
    flux2 = save_flux2(tmp_path / "flux2")
    settings = flux2_config(flux2, tmp_path / "first")
    components = build_components(settings, [])
    components.model.transformer.depth_to_rgb_time_embed.gate.data.fill_(0.5)
    pipeline = components.pipeline(settings)
    assert pipeline.config.mixes_without_depth
    pipeline.save_pretrained(tmp_path / "model")
    frozen = {"id": str(flux2), "text_states": [1, 2]}
    second = flux2_config(
        flux2, tmp_path / "second", initial=str(tmp_path / "model"), pretrained=frozen, lora=lora
    )
    trainer, _ = make_flux2_trainer(second)
    objective, data = trainer._objective, flux2_mixture()
    batch = objective.prepare(collate([data.sample(0, index) for index in range(4)]), range(4))
    before = objective._base_velocity(batch, trainer._base)
    trainer.run(data, second.output, lambda _: None)
    assert trainer.state.trained["transformer.depth_to_rgb_time_embed.gate"].item() != 0.5
    torch.testing.assert_close(objective._base_velocity(batch, trainer._base), before)


@pytest.mark.parametrize("lora", [None, {"rank": 2, "alpha": 2}])
def test_a_model_with_frozen_parts_goes_on_whole_or_with_adapters(tmp_path, lora):
    flux2 = save_flux2(tmp_path / "flux2")
    settings = flux2_config(flux2, tmp_path / "first")
    trainer, _ = make_flux2_trainer(settings)
    trainer.run(flux2_mixture(), settings.output, lambda _: None)
    export(settings, flux2_mixture(), tmp_path / "model")
    frozen = {"id": str(flux2), "text_states": [1, 2]}
    second = flux2_config(
        flux2, tmp_path / "second", initial=str(tmp_path / "model"), pretrained=frozen, lora=lora
    )
    components = build_components(second, [])
    states = components.model.transformer.state_dict()
    for name, value in trainer.state.average.items():
        name = name.removeprefix("transformer.")
        ours = states.get(name, states.get(name.replace(".weight", ".base_layer.weight")))
        torch.testing.assert_close(ours, value, rtol=2**-8, atol=0)
    going_on, _ = make_flux2_trainer(second)
    going_on.run(flux2_mixture(), second.output, lambda _: None)
    export(second, flux2_mixture(), tmp_path / "second-model")


def test_other_sizes_are_named(first, tmp_path):
    for changes, said in (
        ({"single_layers": 2}, "num_single_layers is 1, not the 2"),
        ({"rgb_bands": (4, 3)}, "in_channels is"),
        ({"text_length": 9}, "not the"),
        ({"depth_head": "windows"}, "depth_head is patches, not the windows"),
    ):
        sizes = SIZES.model_dump() | changes
        with pytest.raises(MfsynthError, match=said) as caught:
            build_components(further(tmp_path, first[0], transformer=sizes), [])
        assert "\n" not in str(caught.value)


def test_a_model_keeps_what_its_depth_is_divided_by(first, tmp_path):
    harmonic = optimiser(depth_normalisation="harmonic_mean").model_dump()
    settings = config(tmp_path / "a", optimiser=harmonic)
    trained = build_components(settings, CAPTIONS)
    trained.pipeline(settings).save_pretrained(tmp_path / "model")
    opened = ModalityForcingPipeline.from_pretrained(tmp_path / "model")
    assert opened.depth_codec == trained.depth_codec
    assert opened.depth_codec.normalisation == "harmonic_mean"
    on = harmonic | {"image_steps": 0}
    components = build_components(further(tmp_path, tmp_path / "model", optimiser=on), [])
    assert components.depth_codec == trained.depth_codec
    for initial, optimiser_ in ((first[0], on), (tmp_path / "model", on | MEAN)):
        with pytest.raises(MfsynthError, match=r"set optimiser\.depth_normalisation to") as caught:
            build_components(further(tmp_path, initial, optimiser=optimiser_), [])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("share", "own", "radius", "mixes"), [(0.0, None, 3, True), (0.2, 2, 2, False)]
)
def test_a_model_keeps_its_median_and_how_its_streams_mix(
    first, tmp_path, share, own, radius, mixes
):
    model = shutil.copytree(first[0], tmp_path / "other")
    index = json.loads((model / "model_index.json").read_text())
    kept = {"depth_median_radius": 3, "mixes_without_depth": True}
    (model / "model_index.json").write_text(json.dumps(index | kept))
    settings = further(
        tmp_path,
        model,
        optimiser=optimiser(image_steps=0, image_only_share=share).model_dump(),
        transformer=SIZES.model_dump() | {"depth_median_radius": own},
    )
    pipeline = build_components(settings, []).pipeline(settings)
    assert pipeline.config.depth_median_radius == radius
    # Images alone are learnt without depth's noise level.
    assert pipeline.config.mixes_without_depth is mixes


def test_what_was_no_setting_yet_when_it_was_written_has_its_default(first, tmp_path):
    model = shutil.copytree(first[0], tmp_path / "old")
    path = model / "transformer" / "config.json"
    written = json.loads(path.read_text())
    del written["depth_head"]
    path.write_text(json.dumps(written))
    components = build_components(further(tmp_path, model), [])
    assert components.model.transformer.config.depth_head == "patches"


def test_windows_go_on_as_windows(tmp_path):
    sizes = SIZES.model_dump() | {"depth_head": "windows"}
    settings = config(tmp_path / "a", transformer=sizes)
    head = run(settings).state.average["transformer.depth_proj_out.weight"]
    assert head.shape == (256, 32)
    assert (head != 0).any(dim=1).all()
    export(settings, random_mixture(), tmp_path / "model")
    transformer = build_components(
        further(tmp_path / "b", tmp_path / "model", transformer=sizes), []
    ).model.transformer
    assert torch.equal(transformer.depth_proj_out.weight, head)


def test_no_model_and_one_in_the_released_layout_are_told(tmp_path):
    with pytest.raises(MfsynthError, match="initial: "):
        build_components(further(tmp_path, tmp_path / "nothing"), [])
    with pytest.raises(MfsynthError, match=r"initial: .*mfsynth model convert"):
        build_components(further(tmp_path, RELEASED), [])


def test_it_has_no_text_to_image_phase(tmp_path):
    with pytest.raises(ValueError, match=r"set optimiser\.image_steps to 0"):
        config(tmp_path, initial="embedded")


def test_captions_in_words_that_it_does_not_know_are_told_before_it_is_trained(first, tmp_path):
    components = build_components(further(tmp_path, first[0]), CAPTIONS)
    told: list[str] = []
    tell_of_captions(components, CAPTIONS, told.append)
    assert told == []
    tell_of_captions(components, [*CAPTIONS, "a mug", "a mug"], told.append)
    assert len(told) == 1
    assert f"1 of {len(set(CAPTIONS)) + 1} prompts has words that the model doesn't know" in told[0]
    assert "mug" in told[0]
    new = build_components(config(tmp_path), CAPTIONS)
    tell_of_captions(new, ["a mug"], told.append)
    assert len(told) == 1


def test_a_model_is_gone_on_from_beside_the_frozen_models_that_it_was_trained_beside(tmp_path):
    flux2 = save_flux2(tmp_path / "flux2")
    settings = flux2_config(flux2, tmp_path / "first")
    components = build_components(settings, [])
    components.pipeline(settings).save_pretrained(tmp_path / "model")
    again = {"initial": str(tmp_path / "model"), "lora": None}

    def built(flux2: Path, states: list[int], **changes):
        frozen = {"id": str(flux2), "text_states": states}
        return build_components(
            flux2_config(flux2, tmp_path / "x", pretrained=frozen, **again, **changes), []
        )

    built(flux2, [1, 2])
    shorter = settings.transformer.model_dump() | {"text_length": 5}
    for changes in ({"states": [2, 0]}, {"states": [1, 2], "transformer": shorter}):
        with pytest.raises(MfsynthError, match=r"text_length and pretrained\.text_states"):
            built(flux2, **changes)
    vae = components.vae
    for parameter in vae.parameters():
        parameter.data += 0.1
    other = shutil.copytree(flux2, tmp_path / "other")
    vae.save_pretrained(other / "vae")
    with pytest.raises(MfsynthError, match="has another autoencoder; give the pipeline"):
        built(other, [1, 2])


@pytest.mark.parametrize(
    ("steps", "share", "mixes"), [(0, 0.0, True), (2, 0.0, False), (0, 0.2, False)]
)
def test_a_new_model_that_never_saw_an_image_alone_says_so(tmp_path, steps, share, mixes):
    changes = optimiser(image_steps=steps, image_only_share=share).model_dump()
    settings = config(tmp_path, optimiser=changes)
    pipeline = build_components(settings, CAPTIONS).pipeline(settings)
    assert pipeline.config.mixes_without_depth is mixes
