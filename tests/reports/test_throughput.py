from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import tiny_run

from mfsynth.reports.histogram import HEIGHT, WIDTH
from mfsynth.reports.throughput import MACHINES_SHOWN, throughput_of
from mfsynth.shards.commits import read_commits

BEGIN = datetime(2026, 1, 2, 3, tzinfo=UTC)


@pytest.fixture(scope="module")
def receipt(tmp_path_factory):
    store = tiny_run.make_run(str(tmp_path_factory.mktemp("run")), 1)
    return read_commits(store)[0]


def made(receipt, end_s, *, took_s=3600.0, pairs=4, machine="here", device="cuda"):
    """A receipt of a shard that ended so many seconds after the begin of the run."""
    created = (BEGIN + timedelta(seconds=end_s)).isoformat(timespec="seconds")
    seconds = {"total": took_s}
    return replace(
        receipt, created=created, seconds=seconds, accepted=pairs, worker=machine, device=device
    )


def test_pairs_are_spread_over_the_time_that_their_shard_took_and_pauses_are_seen(receipt):
    found = throughput_of([made(receipt, 3600, pairs=8), made(receipt, 4 * 3600, pairs=4)])
    assert found.hours == 4
    assert found.most == pytest.approx(8)
    # Four bins of an hour each: work, two hours of nothing, half of the speed.
    assert [bar.x for bar in found.bars] == [0, 3 * WIDTH / 4]
    assert [bar.accepted for bar in found.bars] == pytest.approx([HEIGHT, HEIGHT / 2])
    assert found.bars[0].label == "03:00 to 04:00: 8 pairs an hour"
    assert found.ticks[-1] == (WIDTH, "07:00")


def test_machines_are_told_with_what_each_made_those_with_most_first(receipt):
    receipts = [made(receipt, n, machine=f"m{n}", pairs=n) for n in range(MACHINES_SHOWN + 5)]
    found = throughput_of([*receipts, made(receipt, 9, machine="m3", pairs=99, device="cpu")])
    assert (len(found.machines), found.of) == (MACHINES_SHOWN, MACHINES_SHOWN + 5)
    first = found.machines[0]
    assert (first.name, first.totals.shards, first.totals.accepted) == ("m3", 2, 102)
    assert first.devices == ("cpu", "cuda")
    assert first.seconds_per_pair == pytest.approx(7200 / 102)
    assert throughput_of([made(receipt, 1, pairs=0)]).machines[0].seconds_per_pair is None


def test_whatever_receipts_say_of_time_is_drawn(receipt):
    assert throughput_of([]) is None
    far = replace(made(receipt, 0), created="9998-12-31T00:00:00+00:00")
    early = replace(made(receipt, 0, took_s=2.0**53), created="1970-01-01T00:00:00+00:00")
    for receipts in ([far], [far, made(receipt, 0)], [early], [made(receipt, 0, pairs=0)]):
        assert throughput_of(receipts) is not None
