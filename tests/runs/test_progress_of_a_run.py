import pytest

from mfsynth.runs.progress import PlainDisplay, RichDisplay, Standing, Tally, duration
from mfsynth.runs.supervisor import View
from mfsynth.shards.records import Receipt


def receipt(shard, accepted=6, rejected=2, quarantined=0, **reasons) -> Receipt:
    return Receipt(
        run="r",
        shard=shard,
        attempt="a",
        first_candidate=8 * shard,
        candidates=8,
        accepted=accepted,
        rejected=rejected,
        quarantined=quarantined,
        objects={},
        seconds={},
        worker="",
        created="",
        reasons=reasons,
    )


def standing(tally, made=0, seconds=0.0, in_work=0, workers=1) -> Standing:
    return Standing(tally, View(tally.gained, in_work, workers, 0), seconds, made)


def test_totals_include_earlier_sittings():
    tally = Tally.of([receipt(0, registration=2), receipt(1, flying_pixels=2)], 20, "pairs")
    tally.add(receipt(2, 5, 2, 1, registration=2))
    assert (tally.gained, tally.candidates) == (17, 24)
    assert tally.rejects() == "6 rejected (registration 4, flying_pixels 2), 1 quarantined"


def test_the_time_left_follows_rate_and_acceptance():
    tally = Tally.of([receipt(0), receipt(1)], 24, "pairs")
    # 12 pairs are missing at 3 in 4: 16 candidates, of which 4 are in work, at 2 a second.
    now = standing(tally, made=20, seconds=10.0, in_work=4)
    assert now.rate == pytest.approx(2.0)
    assert now.eta_s == pytest.approx(6.0)
    assert "12/24 pairs, 2 shards, +4 candidates in work, 75% accepted" in now.line()
    assert "about 6 s left" in now.line()


def test_nothing_is_claimed_before_anything_is_known():
    line = standing(Tally.of([], 24, "pairs"), workers=0).line()
    assert line == "0/24 pairs, 0 shards, no worker"


def test_a_target_in_candidates_counts_candidates():
    assert Tally.of([receipt(0)], 24, "candidates").gained == 8


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (300, "5 min"), (3 * 3600, "3.0 h"), (89.9, "90 s")]
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


def test_plain_lines_come_with_news_and_when_it_was_quiet_for_long(capsys):
    now = [0.0]
    with PlainDisplay(clock=lambda: now[0]) as display:
        quiet = standing(Tally.of([], 9, "pairs"))
        display.show(quiet, news=False)
        display.show(quiet, news=True)
        now[0] = 14.0
        display.show(quiet, news=False)
        now[0] = 16.0
        display.show(quiet, news=False)
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_the_terminal_display_takes_text_as_text(capsys):
    with RichDisplay() as display:
        display.note("[red]not markup[/red]")
        display.show(standing(Tally.of([receipt(0)], 9, "pairs")), news=True)
    assert "[red]not markup[/red]" in capsys.readouterr().err
