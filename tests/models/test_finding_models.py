"""Where a model is looked for, and what is said when it isn't there."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from huggingface_hub import constants, errors
from safetensors.torch import load_file, save_file

from mfsynth.config import ModelConfig
from mfsynth.errors import MfsynthError
from mfsynth.models import load_pipeline, model_info
from mfsynth.models.estimators.embedded import load_estimator
from mfsynth.models.inspection import summarise
from mfsynth.models.locations import CHECKPOINT, INDEX_SUFFIX, asking_the_hub, find_model
from mfsynth.models.pipeline import ModalityForcingPipeline


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("/no/such/model", ""),
        ("./nowhere", " in FOLDER"),
        ("a/b/c", " in FOLDER"),
        ("~/nowhere at all", ""),
    ],
)
def test_a_folder_that_is_not_there_is_called_one(name, where, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sought = where.replace("FOLDER", str(tmp_path))
    for find in (find_model, ModalityForcingPipeline.from_pretrained):
        with pytest.raises(MfsynthError) as caught:
            find(name)
        assert str(caught.value).startswith(f"'{name}': no such folder{sought}; name one that ex")


def test_a_folder_without_a_name_is_a_folder(tiny_model_dir, monkeypatch):
    monkeypatch.chdir(tiny_model_dir)
    assert model_info(ModelConfig(id=".")) == replace(
        model_info(ModelConfig(id=str(tiny_model_dir))), id="."
    )
    with pytest.raises(MfsynthError, match=r"^/ is no model folder: it holds "):
        find_model("/")


@pytest.mark.parametrize("name", ["someone/model", "nowhere"])
def test_where_the_hub_is_not_asked_the_reason_and_the_way_round_it_are_told(name, hub):
    with pytest.raises(MfsynthError, match=r"HF_HUB_OFFLINE is set.*`mfsynth model convert`"):
        find_model(name)


def test_a_misspelt_embedded_is_told_its_right_name(hub):
    with pytest.raises(MfsynthError, match="did you mean embedded"):
        find_model("embeded")


class Answer:
    """As much of a response as the hub's errors look at."""

    request = None
    headers: dict[str, str] = {}  # noqa: RUF012


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (errors.GatedRepoError, "accept its terms on the hub, and log in"),
        (errors.RepositoryNotFoundError, "no repository on the hub that you may see"),
        (errors.RevisionNotFoundError, "no such revision"),
    ],
)
def test_what_the_hub_answers_is_told_in_one_line(error, told):
    with pytest.raises(MfsynthError, match=f"^'a/b': .*{told}"), asking_the_hub("a/b"):
        raise error("no", response=Answer())


def test_a_hub_that_cannot_be_reached_is_told_with_its_error(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with (
        pytest.raises(MfsynthError, match=r"the hub can't be reached \(ConnectionResetError\)"),
        asking_the_hub("a/b"),
    ):
        raise ConnectionResetError


def test_what_a_training_wrote_points_to_its_model(tiny_model_dir, tmp_path):
    shutil.copytree(tiny_model_dir, tmp_path / "model")
    with pytest.raises(MfsynthError, match=rf"its model is in it: name {tmp_path}/model$"):
        model_info(ModelConfig(id=str(tmp_path)))
    shutil.rmtree(tmp_path / "model")
    (tmp_path / "checkpoint-00000500").mkdir()
    with pytest.raises(MfsynthError, match="of a training that hasn't ended; run it to its end"):
        model_info(ModelConfig(id=str(tmp_path)))


def test_what_an_estimators_training_wrote_points_to_its_estimator(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(MfsynthError, match=rf"its estimator is in it: name {tmp_path}/model$"):
        load_estimator(str(tmp_path))


def test_a_released_checkpoint_in_parts_is_the_one_in_one_file(
    checkpoint, reference, text_encoder, hub, tmp_path
):
    whole = load_file(checkpoint / CHECKPOINT)
    (checkpoint / CHECKPOINT).unlink()
    parts = {f"model-0000{n}-of-00002.safetensors": list(whole)[n - 1 :: 2] for n in (1, 2)}
    for file, keys in parts.items():
        save_file({key: whole[key] for key in keys}, checkpoint / file)
    places = {key: file for file, keys in parts.items() for key in keys}
    index = checkpoint / f"{CHECKPOINT}{INDEX_SUFFIX}"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))

    for name in (checkpoint, checkpoint / CHECKPOINT, index):
        found, single = (summarise(str(each)).components for each in (name, reference))
        assert found == single
    loaded, single = (
        ModalityForcingPipeline.from_pretrained(folder, text_encoder=text_encoder).transformer
        for folder in (checkpoint, reference)
    )
    for key, value in single.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)

    revision = model_info(ModelConfig(id=str(checkpoint))).revision
    save_file({"other": torch.zeros(1)}, checkpoint / max(parts))
    assert model_info(ModelConfig(id=str(checkpoint))).revision != revision
    with pytest.raises(MfsynthError, match=r"not a whole checkpoint.* missing"):
        load_pipeline(ModelConfig(id=str(checkpoint)), "cpu")
    (checkpoint / max(parts)).unlink()
    with pytest.raises(MfsynthError, match=f"{max(parts)}: no such file"):
        load_pipeline(ModelConfig(id=str(checkpoint)), "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told_before_weights_are_read(tiny_model_dir):
    with pytest.raises(MfsynthError, match=r"^device: cuda, but torch .* sees no GPU here; set it"):
        load_pipeline(ModelConfig(id=str(tiny_model_dir)), "cuda")
