import tiny_run

from mfsynth.shards import layout
from mfsynth.shards.commits import open_run
from mfsynth.shards.status import listed, run_status


def test_status_is_a_sum_over_the_commits(run_store):
    tiny_run.upload_shard(run_store, 5)
    status = run_status(run_store)
    assert (status.shards, status.pairs, status.candidates) == (3, 8, 18)
    assert (status.rejected, status.quarantined) == (8, 2)
    assert status.reasons == {"registration": 8}
    assert status.acceptance == 8 / 18
    assert status.seconds_per_pair == 6 / 8
    assert status.missing_shards == ()
    text = "\n".join(status.lines())
    assert "8 of 18 candidates" in text
    assert "44.4%" in text


def test_status_names_gaps(run_store):
    run_store.delete(layout.commit_key(0))
    status = run_status(run_store)
    assert status.missing_shards == (0,)
    assert "shard 0: start the run again" in status.lines()[-1]


def test_a_run_that_just_began_has_a_status(store):
    open_run(store, tiny_run.make_manifest())
    status = run_status(store)
    assert (status.pairs, status.acceptance, status.seconds_per_pair) == (0, None, None)
    assert status.lines()


def test_many_shards_are_listed_in_short():
    assert listed([3]) == "shard 3"
    assert listed([*range(20)]) == "shards 0, 1, 2, 3, 4, 5, 6, 7 and 12 more"
