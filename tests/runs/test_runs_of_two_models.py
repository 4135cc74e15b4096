"""A run whose images and depth come from two models: the same run, with other makers."""

from __future__ import annotations

import pytest
import tiny_estimators
import tiny_pipelines
from started import plan_of, start
from training_files import one_line_error

from mfsynth.datasets import RGBDDataset
from mfsynth.geometry import DepthKind
from mfsynth.runs.estimator import run_estimator
from mfsynth.runs.pool import open_shard_worker
from mfsynth.runs.protocol import Assignment, Made
from mfsynth.shards.commits import commit
from mfsynth.shards.documents.card import first_card
from mfsynth.shards.run_manifest import read_run
from mfsynth.shards.verify import verify_run
from mfsynth.training.config import TransformerConfig
from mfsynth.training.small_text_encoder import build_text_encoder, build_tokenizer

SAMPLER = {"steps": 2, "guidance": 1.0, "height": 32, "width": 32}


@pytest.fixture(scope="module")
def klein(tmp_path_factory):
    from transformers import Qwen3ForCausalLM

    folder = tmp_path_factory.mktemp("klein")
    tokenizer = build_tokenizer(["a red cube", "a blue ball"])
    sizes = TransformerConfig(
        patch=8,
        rgb_bands=(4, 2),
        layers=1,
        single_layers=1,
        depth_decoder_layers=1,
        heads=2,
        head_dim=16,
        rope_axes=(4, 4, 4, 4),
        rope_theta=100,
        text_length=512,
        text_layers=28,
        text_channels=16,
    )
    config = build_text_encoder(sizes, len(tokenizer)).config
    Qwen3ForCausalLM(config).save_pretrained(folder / "text")
    tokenizer.save_pretrained(folder / "text")
    return tiny_pipelines.klein(folder / "model", folder / "text")


@pytest.fixture
def two_models(run_folder, klein):
    run_folder.values |= {
        "model": {"kind": "two_models", "image": str(klein)},
        "estimator": {"id": "embedded"},
        "sampler": SAMPLER,
    }
    return run_folder


def test_a_run_of_two_models_is_a_run_as_any_other(two_models):
    config = two_models.config(checks={})
    store = start(config)
    worker = open_shard_worker(config, "cpu")
    *_, made = worker.make_shard(Assignment(0, "a", 4), plan_of(config).shard(0))
    assert isinstance(made, Made)
    assert commit(store, made.receipt)
    assert not verify_run(store).problems
    samples = [*RGBDDataset(config.output)]
    assert len(samples) == 8
    assert {sample.depth_kind for sample in samples} == {DepthKind.SCALE_INVARIANT_Z}
    assert {sample.model_id for sample in samples} == {config.model.id}
    run = read_run(store)
    assert run.model["id"] == config.model.id
    assert run.estimator["id"] == "embedded"
    assert run.settings["model"]["kind"] == "two_models"
    card = first_card(run)
    assert "by a generative model, not by a camera; their depth was estimated from them" in card
    # The depth is the estimator's, so that its licence counts, too.
    assert {sample.licence for sample in samples} == {"unknown AND apache-2.0"}
    assert "licence: unknown AND apache-2.0" in card


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"estimator": None}, "two_models takes depth from an estimator; set estimator"),
        ({"sampler": {"steps": 2}}, r"set sampler\.height and sampler\.width"),
        ({"metres_per_unit": "estimator"}, "the depth of two_models is the estimator's already"),
        (
            {"checks": {"self_agreement": {}}},
            r"checks\.self_agreement: looks at joint_depth, .* its depth is the estimator's",
        ),
    ],
)
def test_what_two_models_do_not_have_is_one_line(two_models, changes, message):
    with one_line_error(message):
        two_models.config(**changes)


def test_disparity_is_not_called_depth_and_metres_are_not_scaled_again(two_models, tmp_path):
    disparity = tiny_estimators.dpt(tmp_path / "dpt")
    with one_line_error("gives disparity up to a shift, of which no depth can be made"):
        run_estimator(two_models.config(estimator={"id": str(disparity)}))
    metric = tiny_estimators.depth_anything(
        tmp_path / "metric", depth_estimation_type="metric", max_depth=20
    )
    with one_line_error("gives metres already; leave metres_per_unit out"):
        run_estimator(two_models.config(estimator={"id": str(metric)}, metres_per_unit=2.0))
    relative = two_models.config(metres_per_unit=2.0)
    assert run_estimator(relative) is not None
