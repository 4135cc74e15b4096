from __future__ import annotations

import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfsynth.shards import layout
from mfsynth.shards.layout import ObjectName

NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True)
NUMBERS = st.integers(0, 10**8)


@given(st.sampled_from([*layout.OBJECT_KINDS, layout.REJECTED_TAR]), NAMES, NUMBERS, NAMES)
def test_the_key_of_an_object_says_what_it_is(kind, run, shard, attempt):
    key = layout.object_key(kind, run, shard, attempt)
    assert layout.parse_object_key(key) == ObjectName(kind, run, shard, attempt)


@given(NUMBERS)
def test_the_key_of_a_commit_says_its_shard(shard):
    assert layout.parse_commit_key(layout.commit_key(shard)) == shard


@given(NAMES, NUMBERS)
def test_sample_ids_are_keys_that_every_reader_takes(run, candidate):
    assert layout.SAMPLE_ID.fullmatch(layout.sample_id(run, candidate))


def test_keys_read_as_in_the_design():
    assert layout.object_key("tar", "demo", 12, "ab12") == "shards/demo-000012.ab12.tar"
    assert layout.object_key("index", "demo", 12, "ab12") == "index/demo-000012.ab12.parquet"
    key = layout.object_key("rejects", "demo", 12, "ab12")
    assert key == "rejects/demo-000012.ab12.parquet"
    assert layout.commit_key(12) == "_commits/000012.json"
    assert layout.run_id("demo", "9f3c21aa" + "0" * 56) == "demo-9f3c21aa"
    assert layout.sample_id("demo-9f3c21aa", 7) == "demo-9f3c21aa-000000007"
    assert layout.run_of("demo-9f3c21aa-000000007") == "demo-9f3c21aa"


def test_runs_of_the_first_version_keep_their_names():
    assert layout.run_id("demo", "f" * 64, layout.FIRST_VERSION) == "demo"


@pytest.mark.parametrize("member", layout.MEMBERS)
def test_the_longest_names_fit_into_a_plain_tar(member):
    run = layout.run_id("n" * 64, "f" * 64)
    name = layout.member_name(layout.sample_id(run, 10**12), member)
    assert tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT)[: len(name)] == name.encode()


@pytest.mark.parametrize(
    "key",
    [
        "_commits/.000012.json.ab.part",
        "_commits/12.json",
        "_commits/0000012.json",
        "_commits/x/000012.json",
        "run.json",
    ],
)
def test_other_keys_are_no_commits(key):
    assert layout.parse_commit_key(key) is None


@pytest.mark.parametrize(
    "key", ["shards/a-000001.b.parquet", "index/a-000001.b.tar", "shards/.a-000001.b.tar.0.part"]
)
def test_other_keys_are_no_objects(key):
    assert layout.parse_object_key(key) is None


def test_an_attempt_is_never_named_twice():
    assert len({layout.new_attempt() for _ in range(1000)}) == 1000


def test_an_attempt_with_a_dot_is_refused():
    with pytest.raises(ValueError, match="attempt"):
        layout.object_key("tar", "demo", 0, "a.b")
