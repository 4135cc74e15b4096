"""The card and the licence of a model that came out of a training."""

from __future__ import annotations

import pytest
from tiny_training import flux2_config, save_flux2

from mfsynth.config import ModelConfig
from mfsynth.errors import MfsynthError
from mfsynth.models import model_info
from mfsynth.training.cards import licence_fields, write_card
from mfsynth.training.config import load_train_config

KLEIN_CARD = "---\nlicense: other\nlicense_name: flux-non-commercial\n---\n# FLUX\n"


@pytest.fixture(scope="module")
def klein(tmp_path_factory):
    folder = save_flux2(tmp_path_factory.mktemp("secret") / "klein")
    (folder / "README.md").write_text(KLEIN_CARD)
    return folder


def test_a_model_from_nothing_has_the_licence_of_its_configuration(tmp_path):
    write_card(load_train_config("embedded"), tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "license: apache-2.0\n" in card
    assert "Started from: random weights." in card
    write_card(load_train_config("embedded", ["licence=null"]), tmp_path)
    assert "license: unknown\n" in (tmp_path / "README.md").read_text()


def test_a_model_from_another_has_that_ones_licence_and_no_path_of_this_machine(klein, tmp_path):
    write_card(flux2_config(klein, tmp_path), tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "license: other\n" in card
    assert "license_name: flux-non-commercial\n" in card
    assert "Started from: klein." in card
    assert str(klein.parent) not in card


def test_a_licence_that_the_start_does_not_have_is_refused(klein, tmp_path):
    with pytest.raises(MfsynthError, match=r"licence mit: the card of klein says other"):
        licence_fields(flux2_config(klein, tmp_path, licence="mit"))


def test_going_on_from_the_embedded_model_keeps_its_licence(tmp_path):
    embedded = ["initial=embedded", "optimiser.image_steps=0", "licence=null"]
    write_card(load_train_config("embedded", embedded), tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert f"license: {model_info(ModelConfig(id='embedded')).licence}\n" in card
    assert "Started from: embedded." in card
