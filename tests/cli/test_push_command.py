"""`mfsynth push` into a folder, and by the hub's own client to a hub on loopback."""

from __future__ import annotations

import io
import json
import shutil
from functools import partial
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny_run
import yaml
from hub_server import TOKEN
from metric_run import make_metric_run

from mfsynth.cli import main
from mfsynth.datasets import RGBDDataset
from mfsynth.datasets.exports import pushing
from mfsynth.datasets.exports.parquet import ENCODERS, Parquet
from mfsynth.shards.commits import commit
from mfsynth.shards.refilter import refilter
from mfsynth.shards.views import Bound, Rules

OLD = Path(__file__).parents[1] / "data" / "format1"
NAME = "robots/mugs"
HUB = f"hf://datasets/{NAME}"


@pytest.fixture
def small_files(monkeypatch):
    """Three pairs a file."""
    monkeypatch.setattr(pushing, "Parquet", partial(Parquet, pairs_per_file=3))


@pytest.fixture
def run(tmp_path):
    return tiny_run.make_run(str(tmp_path / "run"), shards=2)


@pytest.fixture
def push(capsys):
    def called(*arguments) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["push", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert TOKEN not in out + err
        return ended.value.code, out + err

    return called


def files_of(folder):
    return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}


def data_files(files):
    return sorted(name for name in files if name.startswith("data/"))


def z_depth_of(card):
    """The function that the card gives to its readers."""
    code = card.split("```python\n")[1].split("rows = ")[0].replace("import datasets\n", "")
    scope: dict = {}
    exec(code, scope)
    return scope["z_depth"]


def test_datasets_opens_the_folder_in_millimetres_by_the_code_on_its_card(tmp_path, push):
    import datasets

    store = make_metric_run(str(tmp_path / "run"), [None, None, 20.0, 70.0])
    out = tmp_path / "out"
    code, told = push(store.url, out)
    assert code == 0
    assert f"{out} (folder): 4 pairs; files of them: 0 there, 1 to send" in told
    card = (out / "README.md").read_text()
    rows = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    for row, sample in zip(rows, RGBDDataset(store.url), strict=True):
        assert row["sample_id"] == sample.sample_id
        np.testing.assert_allclose(z_depth_of(card)(row), sample.depth, rtol=1e-6)
        assert np.ptp(np.asarray(row["preview"]), axis=2).max() > 100
    matter = yaml.safe_load(card.split("---\n")[1])
    assert matter["license"] == "apache-2.0"
    assert matter["tags"] == ["rgb-d", "depth", "generated", "synthetic", "trainedAlgorithmicMedia"]
    assert matter["size_categories"] == ["n<1K"]
    assert matter["configs"][0]["data_files"] == [{"split": "train", "path": "data/*.parquet"}]
    assert "- model: embedded (revision r1), licence apache-2.0\n" in card
    assert "digitalsourcetype/trainedAlgorithmicMedia" in card


@pytest.mark.usefixtures("small_files")
def test_a_run_that_has_grown_sends_what_is_new_and_removes_what_that_takes_the_place_of(
    tmp_path, run, push
):
    out = tmp_path / "out"
    push(run.url, out)
    before = {name: path.stat().st_mtime_ns for name, path in files_of(out).items()}
    assert len(data_files(before)) == 3
    assert push(run.url, out) == (
        0,
        f"{out} (folder): 8 pairs; files of them: 3 there, 0 to send (0 B of pictures), "
        f"0 to remove\n{out}: all was there\n",
    )
    commit(run, tiny_run.upload_shard(run, 2))
    commit(run, tiny_run.upload_shard(run, 3))
    push(run.url, out)
    after = {name: path.stat().st_mtime_ns for name, path in files_of(out).items()}
    assert len(data_files(after)) == 4
    # Two whole files of three pairs are what they were; the third had room left.
    same = {name for name in data_files(before) if before[name] == after.get(name)}
    assert same == {*data_files(before)[:2]}
    assert "12 synthetic RGB-D pairs" in (out / "README.md").read_text()


def test_a_card_that_was_edited_stays_and_one_that_was_not_follows_the_run(tmp_path, run, push):
    out = tmp_path / "out"
    push(run.url, out)
    (out / "README.md").write_text("mine")
    for shard in (2, 3):
        commit(run, tiny_run.upload_shard(run, shard))
        assert (
            "README.md was written or edited by others and stays as it is" in push(run.url, out)[1]
        )
        assert (out / "README.md").read_text() == "mine"
    (out / "README.md").unlink()
    push(run.url, out)
    assert "12 synthetic RGB-D pairs" in (out / "README.md").read_text()


def test_a_card_that_was_there_before_the_first_push_stays(tmp_path, run, push):
    out = tmp_path / "out"
    out.mkdir()
    (out / "README.md").write_text("mine")
    assert "stays as it is" in push(run.url, out)[1]
    assert (out / "README.md").read_text() == "mine"


@pytest.mark.parametrize("cut_off_after", ["mfsynth.json", "README.md"])
def test_a_push_that_was_cut_off_between_its_documents_leaves_no_card_of_before(
    tmp_path, run, push, monkeypatch, cut_off_after
):
    out = tmp_path / "out"
    push(run.url, out)
    for shard in (2, 3):
        commit(run, tiny_run.upload_shard(run, shard))
    send = pushing.Folder.send

    def send_and_die(place, path, data):
        send(place, path, data)
        if path == cut_off_after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pushing.Folder, "send", send_and_die)
        assert push(run.url, out)[0] != 0
    commit(run, tiny_run.upload_shard(run, 4))
    push(run.url, out)
    push(run.url, tmp_path / "new")
    assert (out / "README.md").read_text() == (tmp_path / "new" / "README.md").read_text()
    assert "all was there" in push(run.url, out)[1]


@pytest.mark.usefixtures("small_files")
def test_a_push_that_the_hub_cut_off_goes_on_and_sends_nothing_twice(run, hub, push):
    hub.refuse_uploads_from = 2
    code, told = push(run.url, HUB)
    assert code == 1
    assert f"error: {HUB}: " in told
    assert "the same command goes on" in told
    hub.refuse_uploads_from = None
    code, told = push(run.url, HUB)
    assert code == 0, told
    assert f"{hub.url}/datasets/{NAME}: done\n" in told
    repository = hub.repositories[NAME]
    assert repository["private"]
    assert len(hub.uploads) == len({*hub.uploads}) == len(data_files(repository["files"])) == 3
    assert "all was there" in push(run.url, HUB)[1]
    assert len(hub.commits) == 1


@pytest.mark.usefixtures("small_files")
def test_what_another_version_has_written_gives_way_file_by_file_and_is_not_mixed_with(
    run, hub, push, monkeypatch
):
    monkeypatch.setattr(pushing, "_FILES_A_COMMIT", 1)
    hub.refuse_uploads_from = 1
    assert push(run.url, HUB)[0] == 1
    [before] = data_files(hub.repositories[NAME]["files"])
    hub.refuse_uploads_from = None
    monkeypatch.setitem(ENCODERS, "pyarrow", "99.0")
    assert "0 there, 3 to send" in push(run.url, HUB)[1]
    files = hub.repositories[NAME]["files"]
    assert len(data_files(files)) == 3
    assert before not in files
    assert [len(each["removed"]) for each in hub.commits] == [0, 1, 0, 0]
    rows = [pq.read_table(io.BytesIO(files[name])) for name in data_files(files)]
    found = [sample_id for table in rows for sample_id in table["sample_id"].to_pylist()]
    assert found == [sample.sample_id for sample in RGBDDataset(run.url)]


@pytest.mark.parametrize("stated", [True, False])
def test_pairs_from_before_licences_have_that_of_their_model_or_the_card_says_that_none_is_known(
    tmp_path, push, stated
):
    run, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(OLD, run)
    about = json.loads((run / "run.json").read_text())
    if not stated:
        del about["model"]["licence"]
        (run / "run.json").write_text(json.dumps(about))
    assert "licence" not in RGBDDataset(run).index.column_names
    assert push(run, out)[0] == 0
    card = (out / "README.md").read_text()
    [path] = out.glob("data/*.parquet")
    if stated:
        assert "license: apache-2.0\n" in card
        assert "- licence of the pairs: apache-2.0\n" in card
        assert {*pq.read_table(path)["licence"].to_pylist()} == {"apache-2.0"}
    else:
        assert "license: unknown\n" in card
        assert "pairs: not known; neither their run nor its model or source states one\n" in card


@pytest.mark.usefixtures("small_files")
def test_the_hub_has_what_a_folder_has_and_drops_what_was_outdated(tmp_path, run, hub, push):
    push(run.url, HUB)
    commit(run, tiny_run.upload_shard(run, 2))
    commit(run, tiny_run.upload_shard(run, 3))
    push(run.url, HUB)
    push(run.url, tmp_path / "out")
    folder = {name: path.read_bytes() for name, path in files_of(tmp_path / "out").items()}
    there = dict(hub.repositories[NAME]["files"])
    # It remembers the card of before, too.
    about, new = (json.loads(files.pop("mfsynth.json")) for files in (there, folder))
    assert there == folder
    assert {*new.pop("cards_sha256")} < {*about.pop("cards_sha256")}
    assert about == new
    assert [len(each["removed"]) for each in hub.commits] == [0, 1]


def test_a_dry_run_says_what_would_be_sent_and_sends_nothing(run, hub, push):
    code, told = push(run.url, HUB, "--dry-run")
    assert code == 0
    assert told.startswith(f"{HUB} (new, private): 8 pairs; files of them: 0 there, 1 to send (")
    assert told.count("\n") == 1
    assert (hub.repositories, hub.uploads, hub.commits) == ({}, [], [])


def test_what_everybody_can_see_wants_a_word(run, hub, push):
    code, told = push(run.url, HUB, "--public")
    assert code == 0, told
    assert not hub.repositories[NAME]["private"]
    code, told = push(run.url, HUB)
    assert code == 1
    assert "everybody can see it; add --public" in told
    assert push(run.url, HUB, "--public", "--dry-run")[1].startswith(f"{HUB} (public): ")


def test_what_a_push_can_not_make_public_is_not_called_so(tmp_path, run, hub, push):
    assert push(run.url, HUB)[0] == 0
    code, told = push(run.url, HUB, "--public")
    assert (code, told.count("\n")) == (1, 1)
    assert "it is private, and a push leaves it so; make it public at http" in told
    assert hub.repositories[NAME]["private"]
    code, told = push(run.url, tmp_path / "out", "--public")
    assert (code, told.count("\n")) == (1, 1)
    assert "leave --public out" in told
    assert not (tmp_path / "out").exists()


def test_pairs_of_a_view_are_pushed_and_not_mixed_with_others(tmp_path, run, push):
    refilter(run, "strict", Rules({"registration": Bound(4.5, is_minimum=True)}))
    out = tmp_path / "out"
    push(run.url, out, "--view", "strict")
    assert json.loads((out / "mfsynth.json").read_text())["view"] == "strict"
    assert "5 synthetic RGB-D pairs" in (out / "README.md").read_text()
    code, told = push(run.url, out)
    assert (code, told) == (1, f"error: {out}: has pairs of another view; give another place\n")


@pytest.mark.parametrize(
    ("there", "content", "told"),
    [
        ("data/mine.parquet", b"PAR1", "has data/mine.parquet already"),
        ("train.parquet", b"PAR1", "has train.parquet already"),
        ("data/notes.txt", b"", "has data/notes.txt already"),
        ("setup.py", b"", "has setup.py already"),
        ("mfsynth.json", b"[]", "mfsynth.json is not what a push has written"),
    ],
)
def test_a_place_with_something_else_is_refused_in_one_line(
    tmp_path, run, push, there, content, told
):
    path = tmp_path / "out" / there
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    code, said = push(run.url, tmp_path / "out")
    assert code == 1
    assert told in said
    assert said.count("\n") == 1
    assert [*files_of(tmp_path / "out")] == [there]


@pytest.mark.parametrize(
    ("destination", "told"),
    [
        ("hf://robots/mugs", "give hf://datasets/ORGANISATION/NAME"),
        ("hf://datasets/mugs", "give hf://datasets/ORGANISATION/NAME"),
        ("memory://out", "give hf://datasets/ORGANISATION/NAME, or a folder"),
        (HUB, "nobody is logged in; run `hf auth login`, or set HF_TOKEN"),
    ],
)
def test_what_is_no_destination_is_one_line(tmp_path, run, push, monkeypatch, destination, told):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    code, said = push(run.url, destination)
    assert code == 1
    assert told in said
    assert said.count("\n") == 1
