"""No reader of ours is required: what plain webdataset and pyarrow make of a run."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pytest
import webdataset
from tiny_run import RUN_ID, make_sample

from mfsynth.shards.codecs import decode_depth, decode_jpeg
from mfsynth.shards.commits import read_commits
from mfsynth.shards.quantisation import DepthEncoding, DepthScale


def paths(store, kind):
    return [str(store.local_root / r.objects[kind].key) for r in read_commits(store).values()]


def decode(sample):
    about = json.loads(sample["json"])
    depth = about["depth"]
    encoding = DepthEncoding(
        DepthScale(depth["encoding"]), depth["unit_per_code"], depth["near"], depth["far"]
    )
    return about, decode_jpeg(sample["rgb.jpg"]), decode_depth(sample["depth.png"], encoding)


def test_webdataset_reads_the_committed_tars(run_store):
    # The last shard has no sample: its tar is empty, and a reader must pass over it.
    tars = paths(run_store, "tar")
    found = list(webdataset.WebDataset(tars, shardshuffle=False, empty_check=False).map(decode))
    assert [about["candidate"] for about, _, _ in found] == [0, 1, 2, 3, 6, 7, 8, 9]
    for about, rgb, depth in found:
        sample = make_sample(about["candidate"])
        assert about["sample_id"] == sample.ref.sample_id
        assert np.abs(rgb.astype(int) - sample.rgb).max() < 12
        np.testing.assert_allclose(depth, sample.depth, rtol=5e-4)


@pytest.mark.parametrize("decoder", ["pil", "rgb8"])
def test_webdatasets_own_decoders_ruin_depth_which_is_why_the_card_warns(run_store, decoder):
    tars = paths(run_store, "tar")[:1]
    sample = next(iter(webdataset.WebDataset(tars, shardshuffle=False).decode(decoder)))
    depth = np.asarray(sample["depth.png"])
    true = make_sample(0).depth
    assert depth.ndim == 3  # colour
    grey = depth[..., 0].astype(np.float64)
    assert len(np.unique(grey)) <= 256
    assert len(np.unique(grey)) < len(np.unique(true)) / 2
    scale = np.median(true[true > 0] / np.maximum(grey[true > 0], 1))
    assert not np.allclose(grey * scale, true, rtol=0.02)


def test_pillow_itself_keeps_the_16_bits(run_store):
    from PIL import Image

    tars = paths(run_store, "tar")[:1]
    sample = next(iter(webdataset.WebDataset(tars, shardshuffle=False)))
    codes = np.asarray(Image.open(io.BytesIO(sample["depth.png"])))
    unit = json.loads(sample["json"])["depth"]["unit_per_code"]
    np.testing.assert_allclose(codes * unit, make_sample(0).depth, rtol=5e-4)


def test_pyarrow_reads_index_and_rejects_as_one_table_each(run_store):
    index = pa.dataset.dataset(paths(run_store, "index")).to_table()
    assert index["candidate"].to_pylist() == [0, 1, 2, 3, 6, 7, 8, 9]
    assert index.schema.field("check_registration").type == pa.float64()
    good = pa.dataset.dataset(paths(run_store, "index")).to_table(
        filter=pa.dataset.field("check_registration") > 5, columns=["sample_id"]
    )
    assert good["sample_id"].to_pylist() == [f"{RUN_ID}-{c:09d}" for c in (6, 7, 8, 9)]
    rejects = pa.dataset.dataset(paths(run_store, "rejects")).to_table()
    assert rejects["outcome"].to_pylist().count("quarantined") == 2
    assert rejects["reasons"].type == pa.list_(pa.string())
