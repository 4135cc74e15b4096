from __future__ import annotations

import pytest

from mfsynth.formatting import counts, duration, first_of, size, table_row


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (300, "5 min"), (3 * 3600, "3.0 h"), (89.9, "90 s")]
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (999_700, "1.0 MB"), (2e12, "2.0 TB")],
)
def test_sizes_read_well(count, text):
    assert size(count) == text


def test_long_lists_of_counts_end_with_how_many_more():
    assert counts({"a": 3, "b": 1}) == "a 3, b 1"
    assert counts({f"host-{n}": 1 for n in range(1000)}, 2) == "host-0 1, host-1 1 and 998 more"


def test_a_bar_in_a_cell_does_not_end_it():
    assert table_row(["a|b", "c"]) == r"| a\|b | c |"


def test_long_lists_of_names_end_with_how_many_more():
    assert first_of(["photo", "place"], 2) == "photo, place"
    assert first_of(["photo", "place", "loads", "floor"], 2) == "photo, place and 2 more"
