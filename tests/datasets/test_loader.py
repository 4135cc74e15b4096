"""Batches: the same for any number of processes, resumed exactly, whatever is damaged."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from multiprocessing import get_context

import numpy as np
import psutil
import pyarrow as pa
import pytest
import tiny_run

from mfsynth.datasets import (
    HorizontalFlip,
    MixedDataset,
    RandomCrop,
    RGBDDataset,
    open_dataset,
    order,
    to_tensors,
)
from mfsynth.datasets.collating import stacked
from mfsynth.datasets.mapped import Index
from mfsynth.errors import MfsynthError
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.run_manifest import open_run
from mfsynth.storage.store import ObjectStore


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> RGBDDataset:
    """Of 28 pairs."""
    folder = tmp_path_factory.mktemp("loader")
    return RGBDDataset(tiny_run.make_run(str(folder / "run"), 8).url)


def ids(batches) -> list[str]:
    return [sample_id for batch in batches for sample_id in batch["sample_id"]]


@pytest.mark.parametrize(("world", "size"), [(1, 4), (2, 3), (3, 2), (4, 1)])
def test_all_ranks_together_have_the_order_of_one(dataset, world, size):
    settings = {"seed": 5, "block": 4, "workers": 1}
    alone = ids(dataset.loader(1, **settings))
    ranks = [dataset.loader(size, rank=r, world_size=world, **settings) for r in range(world)]
    batches = [[*rank] for rank in ranks]
    assert {len(each) for each in batches} == {len(ranks[0])} == {28 // (size * world)}
    together = [ids(step) for step in zip(*batches, strict=True)]
    flat = [sample_id for step in together for sample_id in step]
    assert flat == alone[: len(flat)]
    assert [rank.epoch for rank in ranks] == [1] * world


def test_a_padded_tail_begins_again_and_no_rank_has_fewer(dataset):
    ranks = [dataset.loader(3, rank=r, world_size=3, tail="pad", workers=0) for r in range(3)]
    batches = [[*rank] for rank in ranks]
    assert {len(each) for each in batches} == {4}
    flat = [s for step in zip(*batches, strict=True) for s in ids(step)]
    assert {*flat} == {sample.sample_id for sample in dataset}
    assert flat[28:] == flat[:8]


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("left_at", [0, 1, 3])
def test_a_training_that_is_cut_off_goes_on_exactly(dataset, workers, left_at):
    settings = {"seed": 1, "workers": workers, "augment": [RandomCrop(16, 16), HorizontalFlip()]}
    whole = [*dataset.loader(4, **settings), *islice(_at(dataset, settings, epoch=1), 2)]
    first = dataset.loader(4, **settings)
    seen = [*islice(first, left_at)]
    state = json.loads(json.dumps(first.state_dict()))
    second = dataset.loader(4, **settings)
    second.load_state_dict(state)
    seen += [*second]
    seen += [*islice(second, 2)]
    assert ids(seen) == ids(whole)
    for name in ("rgb", "depth"):
        np.testing.assert_array_equal([b[name] for b in seen], [b[name] for b in whole])


def _at(dataset, settings, epoch):
    loader = dataset.loader(4, **settings)
    loader.epoch = epoch
    return loader


def test_it_goes_on_with_another_number_of_processes_and_another_batch(dataset):
    whole = ids(dataset.loader(1, workers=0))
    first = [dataset.loader(2, rank=r, world_size=2, workers=0) for r in range(2)]
    seen = []
    for step in islice(zip(*first, strict=True), 3):
        seen += ids(step)
    states = [rank.state_dict() for rank in first]
    assert states[0] == states[1]
    second = [dataset.loader(1, rank=r, world_size=4, workers=0) for r in range(4)]
    for rank in second:
        rank.load_state_dict(states[0])
    for step in zip(*second, strict=True):
        seen += ids(step)
    assert seen == whole


@pytest.mark.parametrize("tail", ["drop", "pad"])
def test_a_state_behind_a_padded_step_of_many_is_one_of_few(dataset, tail):
    many = dataset.loader(16, world_size=4, tail="pad", workers=0)
    [_] = islice(many, 1)
    state = many.state_dict()
    few = dataset.loader(1, world_size=4, tail=tail, workers=0)
    few.load_state_dict(state)
    assert (few.epoch, few.state_dict()["position"]) == (1, 0)


def test_a_state_behind_the_last_batch_is_that_of_the_next_epoch(dataset):
    first = dataset.loader(8, workers=0)
    for batch in first:
        state = first.state_dict()
        last = batch
    assert state["position"] == 24
    second = dataset.loader(8, workers=0)
    second.load_state_dict(state)
    assert second.epoch == 1
    assert len([*second]) == 3
    # Smaller batches have some left.
    third = dataset.loader(4, workers=0)
    third.load_state_dict(state)
    assert third.epoch == 0
    assert not {*ids([last])} & {*ids(third)}


def test_an_iterator_that_is_not_asked_for_more_than_there_is_ends_the_epoch_too(dataset):
    loader, asked = dataset.loader(8, workers=0), dataset.loader(8, workers=0)
    for epoch in range(3):
        found = ids(islice(loader, len(loader)))
        assert (len(found), found) == (24, ids(asked))
        assert loader.epoch == epoch


@pytest.mark.parametrize("taken_over", ["by another iterator", "by a state"])
def test_a_loader_is_in_one_place_at_a_time(dataset, taken_over):
    whole = ids(dataset.loader(4, workers=0))
    loader = dataset.loader(4, workers=2)
    first = iter(loader)
    seen = [next(first)]
    if taken_over == "by a state":
        loader.load_state_dict(loader.state_dict())
    second = iter(loader)
    seen += [next(second), next(second)]
    with pytest.raises(MfsynthError, match="a loader is in one place at a time"):
        next(first)
    assert ids([*seen, *second]) == whole
    assert loader.epoch == 1


def test_a_filter_that_no_pair_meets_is_told(dataset):
    nothing = dataset.filter("registration > 1000")
    for tail in ("drop", "pad"):
        with pytest.raises(MfsynthError, match=r"0 pairs of 28\) has no pair: none meets the"):
            nothing.loader(4, tail=tail)


def test_a_transform_is_not_left_out_without_a_word(dataset):
    transformed = RGBDDataset(dataset._parts[0].store.url, transform=to_tensors)
    with pytest.raises(MfsynthError, match="without transform"):
        transformed.loader(4)
    with pytest.raises(MfsynthError, match="a mixture has no transform"):
        open_dataset({dataset._parts[0].store.url: 1}, transform=to_tensors)


@pytest.mark.slow
def test_a_process_that_is_killed_is_one_line(dataset):
    loader = dataset.loader(1, workers=1, kind="processes", prefetch=1)
    batches = iter(loader)
    next(batches)
    for child in psutil.Process().children(recursive=True):
        if "spawn_main" in " ".join(child.cmdline()):
            child.kill()
    said = "a process of the loader died. .*__main__.*if its index went"
    with pytest.raises(MfsynthError, match=said):
        for _ in batches:
            pass


def test_each_epoch_has_another_order_and_each_seed(dataset):
    loader = dataset.loader(7, seed=2, workers=0, block=1)
    epochs = [tuple(ids(loader)) for _ in range(3)]
    other = tuple(ids(dataset.loader(7, seed=3, workers=0, block=1)))
    assert len({*epochs, other}) == 4
    assert all(sorted(epoch) == sorted(other) for epoch in epochs)
    assert ids(dataset.loader(7, shuffle=False, workers=0)) == [s.sample_id for s in dataset]


@pytest.mark.slow
def test_processes_give_the_same_batches(dataset):
    settings = {"augment": [RandomCrop(8, 8)], "seed": 3}
    threads = [*dataset.loader(7, workers=2, **settings)]
    processes = [*dataset.loader(7, workers=2, kind="processes", **settings)]
    assert ids(processes) == ids(threads)
    np.testing.assert_array_equal([b["rgb"] for b in processes], [b["rgb"] for b in threads])


def test_a_batch_is_arrays_or_tensors(dataset):
    import torch

    settings = {"fields": ("rgb", "depth", "valid", "intrinsics", "seed", "prompt"), "workers": 0}
    arrays = next(iter(dataset.loader(2, **settings)))
    tensors = next(iter(dataset.loader(2, to="torch", **settings)))
    assert (arrays["rgb"].shape, arrays["rgb"].dtype) == ((2, 24, 32, 3), np.uint8)
    assert (arrays["depth"].shape, arrays["depth"].dtype) == ((2, 24, 32), np.float32)
    assert arrays["seed"].dtype == np.int64
    assert tensors["rgb"].shape == (2, 3, 24, 32)
    assert tensors["rgb"].dtype == torch.float32
    np.testing.assert_allclose(
        tensors["rgb"].movedim(1, -1).numpy(), arrays["rgb"] / np.float32(255), rtol=1e-6
    )
    assert tensors["depth"].shape == tensors["valid"].shape == (2, 1, 24, 32)
    assert tensors["prompt"] == arrays["prompt"]
    for row, camera in zip(arrays["seed"], arrays["intrinsics"], strict=True):
        is_known = row // 7_000_000_000_001 % 2 == 1
        assert np.isfinite(camera).all() == is_known
    # A number that one of them hasn't is no array.
    assert stacked([{"timestamp": 0.5}, {"timestamp": None}], {}) == {"timestamp": [0.5, None]}


@pytest.mark.parametrize("has_gpu", [False, True])
def test_batches_are_pinned_where_there_is_a_gpu(dataset, monkeypatch, has_gpu):
    """Of each tensor it is asked; pinned memory itself needs a driver."""
    import torch

    pinned = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda t: pinned.append(id(t)) or t)
    batch = next(iter(dataset.loader(2, to="torch", pin_memory=True, workers=0)))
    tensors = [name for name, value in batch.items() if isinstance(value, torch.Tensor)]
    assert tensors == ["rgb", "depth", "valid", "intrinsics"]
    assert pinned == [id(batch[name]) for name in tensors] * has_gpu


def test_batches_of_arrays_are_made_where_there_is_no_torch(dataset):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import mfsynth\n"
        "loader = mfsynth.open_dataset(sys.argv[1]).loader(4, workers=2)\n"
        "print(sum(len(batch['rgb']) for batch in loader))"
    )
    url = dataset._parts[0].store.url
    done = subprocess.run(
        [sys.executable, "-c", code, url], check=True, capture_output=True, text=True
    )
    assert done.stdout == "28\n"


@pytest.fixture
def damaged(tmp_path) -> RGBDDataset:
    """The tar of one shard of five is gone, and a bit of another's first image is flipped."""
    store: ObjectStore = tiny_run.make_run(str(tmp_path / "run"), 6)
    dataset = RGBDDataset(store.url)
    receipts = read_commits(store)
    store.delete(receipts[1].objects["tar"].key)
    tar = store.local_root / receipts[3].objects["tar"].key
    data = bytearray(tar.read_bytes())
    data[dataset.index.column("rgb_offset")[8].as_py() + 200] ^= 1
    tar.write_bytes(data)
    return dataset


def test_a_damaged_sample_is_named(damaged):
    with pytest.raises(MfsynthError, match=r"000001.*it is missing \(wanted for tiny-"):
        [*damaged.loader(4, workers=2, shuffle=False)]
    with pytest.raises(MfsynthError, match=r"the rgb of tiny-.* changed"):
        [*damaged.filter("shard == 3").loader(4, workers=2)]


def test_or_skipped_with_another_in_its_place_and_counted(damaged):
    loader = damaged.loader(4, workers=2, on_error="skip", seed=1)
    batches = [*loader]
    assert len(ids(batches)) == 20
    lost = {*damaged.index.column("sample_id").to_pylist()} - {*ids(batches)}
    assert len(lost) == 5
    assert loader.skipped == 5
    assert "is missing" in loader.last_skipped or "CRC-32" in loader.last_skipped
    again = damaged.loader(4, workers=0, on_error="skip", seed=1)
    assert ids(again) == ids(batches)


def test_a_pair_without_any_depth_is_named_or_skipped(tmp_path):
    store = ObjectStore.open(str(tmp_path / "run"))
    open_run(store, tiny_run.make_manifest())
    samples = [tiny_run.make_sample(i) for i in range(6)]
    samples[2] = replace(samples[2], depth=np.zeros_like(samples[2].depth))
    assert commit(store, tiny_run.upload_shard(store, 0, samples))
    dataset = RGBDDataset(store.url)
    settings = {"batch_size": 6, "workers": 0, "shuffle": False}
    with pytest.raises(MfsynthError, match=r"tiny-.*-000000002 has no valid depth"):
        [*dataset.loader(**settings)]
    loader = dataset.loader(on_error="skip", **settings)
    [batch] = loader
    assert batch["valid"].any((1, 2)).all()
    assert loader.skipped == 1
    [colours] = dataset.loader(fields=["rgb", "sample_id"], **settings)
    assert colours["sample_id"][2].endswith("000000002")
    [batch] = dataset.loader(require_depth=False, **settings)
    assert batch["valid"].any((1, 2)).tolist() == [True, True, False, True, True, True]


@pytest.mark.slow
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_relative_run_is_loaded_by_processes_that_start_elsewhere(tmp_path, monkeypatch, start):
    """With files and batches open in this one; a shard is deleted under them."""
    store = tiny_run.make_run(str(tmp_path / "run"), 6)
    monkeypatch.chdir(tmp_path)
    dataset = RGBDDataset("run")
    loader = dataset.loader(4, workers=2, shuffle=False)
    first = next(iter(loader))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    store.delete(read_commits(store)[3].objects["tar"].key)
    with get_context(start).Pool(1) as pool:
        ids_there, error = pool.apply(_read_all, (dataset,))
    assert ids_there[:4] == first["sample_id"]
    assert len(ids_there) == 8
    assert "000003" in error
    assert f"it is missing (wanted for {dataset.index['sample_id'][8].as_py()})" in error


def _read_all(dataset) -> tuple[list[str], str]:
    found = []
    try:
        for batch in dataset.loader(4, workers=2, shuffle=False):
            found += batch["sample_id"]
    except MfsynthError as error:
        return found, str(error)
    return found, ""


def test_a_substitute_comes_with_its_own_pixels(tmp_path):
    """Also of a pair whose bytes are right, and whose row makes no sense."""
    dataset = RGBDDataset(tiny_run.make_run(str(tmp_path / "run"), 6).url)
    sources = dataset.index.column("intrinsics_source").to_pylist()
    sources[5] = "nonsense"
    table = dataset.index
    at = table.column_names.index("intrinsics_source")
    dataset._rows = Index(table.set_column(at, table.field(at), pa.array(sources)))
    [*batches] = dataset.loader(5, workers=0, on_error="skip", shuffle=False)
    numbers = {sample_id: n for n, sample_id in enumerate(table["sample_id"].to_pylist())}
    found = ids(batches)
    assert found[5] != table["sample_id"][5].as_py()
    for batch in batches:
        for place, sample_id in enumerate(batch["sample_id"]):
            [sample] = dataset.load([numbers[sample_id]])
            np.testing.assert_array_equal(batch["rgb"][place], sample.rgb)
            np.testing.assert_array_equal(batch["depth"][place], sample.depth)


def test_a_data_set_that_can_not_be_read_at_all_is_not_skipped_for_ever(tmp_path):
    store = tiny_run.make_run(str(tmp_path / "run"), 2)
    dataset = RGBDDataset(store.url)
    for receipt in read_commits(store).values():
        store.delete(receipt.objects["tar"].key)
    with pytest.raises(MfsynthError, match=r"16 samples in a row can't be read; the first: .*tiny"):
        [*dataset.loader(2, on_error="skip")]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 2.5}, "batch_size is 2.5; give a whole number"),
        ({"batch_size": True}, "batch_size is True"),
        ({"prefetch": float("nan")}, "prefetch is nan"),
        ({"world_size": "2"}, "world_size is '2'"),
        ({"workers": -1}, "workers is -1"),
        ({"fields": ["rgbx"]}, "a sample has no 'rgbx'"),
        ({"fields": ["_x"]}, "a sample has no '_x'"),
        ({"batch_size": 29}, "has 28 samples, a step takes 29"),
        ({"rank": 1}, "rank is 1; give 0 to 0"),
        ({"seed": -1}, "seed is -1"),
        ({"tail": "keep"}, "tail is 'keep'; give drop or pad"),
        ({"kind": "process"}, "kind is 'process'"),
        ({"on_error": "ignore"}, "on_error"),
        ({"to": "jax"}, "to is 'jax'"),
        ({"augment": RandomCrop(8, 8)}, r"augment is RandomCrop\(.*\); give a list of changes"),
    ],
)
def test_settings_that_can_not_be_are_one_line(dataset, settings, said):
    with pytest.raises(MfsynthError, match=said):
        dataset.loader(**{"batch_size": 4} | settings)


def test_a_state_of_other_samples_or_of_nothing_is_refused(dataset):
    state = dataset.loader(4, seed=1).state_dict()
    for other in (dataset.loader(4, seed=2), dataset.filter("candidate > 3").loader(4, seed=1)):
        with pytest.raises(MfsynthError, match="of other samples, or of another order"):
            other.load_state_dict(state)
    loader = dataset.loader(4, seed=1)
    wrong = [("position", -1), ("position", 10**9), ("epoch", 1.0), ("version", 9)]
    for broken in ({}, *({**state, name: value} for name, value in wrong)):
        with pytest.raises(MfsynthError, match="state"):
            loader.load_state_dict(broken)
    assert loader.state_dict() == state


def test_which_samples_there_are_is_looked_at_once(dataset, monkeypatch):
    """Though each step may save a state."""
    looked = []
    whole = RGBDDataset.digest.fget
    monkeypatch.setattr(RGBDDataset, "digest", property(lambda d: looked.append(d) or whole(d)))
    loader = dataset.loader(4, workers=0)
    states = [loader.state_dict() for _ in loader]
    loader.load_state_dict(states[2])
    assert len(looked) == 1


def test_a_pair_without_a_label_that_is_wanted_is_named_or_skipped(dataset, monkeypatch):
    load, name = RGBDDataset.load, dataset.index["sample_id"][9].as_py()

    def labelled(self, numbers, frames=None):
        return [
            replace(s, mask=None if s.sample_id == name else s.valid.astype(np.uint16))
            for s in load(self, numbers, frames)
        ]

    monkeypatch.setattr(RGBDDataset, "load", labelled)
    how = {"fields": ("rgb", "mask", "sample_id"), "workers": 0}
    dataset = dataset.with_labels()
    with pytest.raises(MfsynthError, match=f"{name}: no mask; "):
        [*dataset.loader(4, **how)]
    loader = dataset.loader(4, on_error="skip", **how)
    found = ids(loader)
    assert len(found) == 28
    assert name not in found
    assert loader.skipped == 1
    assert loader.last_skipped.startswith(f"{name}: no mask")


@pytest.mark.parametrize("name", ["mask", "sensor"])
def test_labels_of_a_data_set_that_was_opened_without_are_refused_at_once(dataset, name):
    for one in (dataset, MixedDataset([dataset.with_labels(), dataset], [1, 1])):
        with pytest.raises(MfsynthError, match=rf"^fields: {name}, but .* with labels=True"):
            one.loader(4, fields=("rgb", name), on_error="skip")


def test_the_orders_of_a_mixture_of_many_are_made_once_an_epoch(dataset, monkeypatch):
    made = []
    permutation = order._permutation

    def counted(count, *key):
        made.extend([key] if key[0] == "blocks" else [])
        return permutation(count, *key)

    monkeypatch.setattr(order, "_permutation", counted)
    mixture = MixedDataset([dataset] * 20, [1] * 20)
    loader = mixture.loader(8, workers=0, seed=9)
    for _ in islice(loader, 40):
        pass
    # Each is gone through not quite once meanwhile, or begins again.
    assert len(made) == len({*made})
    [(_, kept)] = loader._work.orders._kept
    assert max(len(each._kept) for each in kept._orders) <= 2
    assert ids(loader) == ids(islice(mixture.loader(8, workers=0, seed=9), 40, None))


def test_the_pairs_of_a_mixture_are_those_of_its_parts(dataset):
    parts = [dataset.select([3, 1]), dataset.select([7])]
    mixture = MixedDataset(parts, [1, 9])
    names = [sample.sample_id for part in parts for sample in part]
    assert [sample.sample_id for sample in mixture] == names
    assert [mixture[at].sample_id for at in (-1, -3, 1)] == [names[2], names[0], names[1]]
    assert [sample.sample_id for sample in mixture[1:]] == names[1:]
    for number in (3, -4):
        with pytest.raises(IndexError, match=f"sample {number} of 3"):
            mixture[number]


def test_a_mixture_is_loaded_by_weights_and_resumed(dataset):
    parts = dataset.split({"a": 0.5, "b": 0.5})
    mixture = MixedDataset([parts["a"], parts["b"]], [3, 1])
    loader = mixture.loader(7, seed=2, workers=2)
    whole = [*loader, *loader]
    ours = {s.sample_id for s in parts["a"]}
    assert 0.6 < np.mean([s in ours for s in ids(whole)]) < 0.9
    first = mixture.loader(7, seed=2, workers=0)
    seen = [*islice(first, 3)]
    second = mixture.loader(7, seed=2, workers=0)
    second.load_state_dict(first.state_dict())
    assert ids([*seen, *second, *second]) == ids(whole)
    assert repr(mixture).startswith("75.0% RGBDDataset(")
    with pytest.raises(MfsynthError, match="of other samples"):
        MixedDataset([parts["a"], parts["b"]], [2, 1]).loader(7, seed=2).load_state_dict(
            first.state_dict()
        )


@pytest.mark.parametrize(
    ("parts", "weights", "said"),
    [
        ([], [], "at least one"),
        ([0], [1, 2], "a weight for each"),
        ([0], [0], "weights are"),
        ([0], [float("nan")], "weights are"),
        ([0, 0], [1, True], "a weight is True"),
        ([0, 0], ["2", 1], "a weight is '2'"),
    ],
)
def test_a_mixture_that_is_none_is_one_line(dataset, parts, weights, said):
    with pytest.raises(MfsynthError, match=f"a mixture: .*{said}"):
        MixedDataset([dataset for _ in parts], weights)
    with pytest.raises(MfsynthError, match=r"0 pairs of 28.* is empty"):
        MixedDataset([dataset.select([])], [1])


def test_pairs_of_several_sizes_want_to_be_made_equal(tmp_path):
    samples = [tiny_run.make_sample(i, height=24 + 8 * (i == 2)) for i in range(4)]
    rest = [tiny_run.make_reject(i) for i in (4, 5)]
    store = ObjectStore.open(str(tmp_path / "run"))
    open_run(store, tiny_run.make_manifest())
    commit(store, tiny_run.upload_shard(store, 0, [*samples, *rest]))
    dataset = RGBDDataset(store.url)
    with pytest.raises(MfsynthError, match=r"rgb has several shapes .*augment=\[Resize"):
        [*dataset.loader(4)]
    [batch] = dataset.loader(4, augment=[RandomCrop(20, 20)])
    assert batch["rgb"].shape == (4, 20, 20, 3)


def test_the_package_alone_imports_nothing_heavy():
    code = "import sys, mfsynth; print(*{'numpy', 'pyarrow', 'torch', 'pydantic'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""
