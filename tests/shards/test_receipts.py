"""What a receipt says besides its objects, and what old ones don't say."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mfsynth.errors import MfsynthError
from mfsynth.shards.commits import read_commits
from mfsynth.shards.records import Receipt
from mfsynth.shards.run_manifest import read_run
from mfsynth.shards.status import RunStatus
from mfsynth.shards.totals import totals

LATER = {"device", "device_name", "prompts_unknown", "prompts_cut", "retries"}
KNOWN = {
    "device": "cuda",
    "device_name": "NVIDIA H100",
    "prompts_unknown": 2,
    "prompts_cut": 0,
    "retries": {"worker_died": 1, "out_of_memory": 2},
}


@pytest.fixture
def receipt(run_store) -> Receipt:
    return read_commits(run_store)[0]


def test_a_receipt_without_the_later_fields_says_that_they_are_unknown_not_zero(receipt):
    fields = json.loads(receipt.to_json())
    old = Receipt.from_json(json.dumps({n: v for n, v in fields.items() if n not in LATER}))
    assert {name: getattr(old, name) for name in LATER} == {
        "device": "",
        "device_name": "",
        "prompts_unknown": None,
        "prompts_cut": None,
        "retries": None,
    }
    known = replace(receipt, **KNOWN)
    assert Receipt.from_json(known.to_json()) == known


@pytest.mark.parametrize(
    "changes",
    [
        {"prompts_cut": -1},
        {"prompts_unknown": "all"},
        {"prompts_unknown": True},
        {"retries": {"store": -1}},
        {"retries": ["store"]},
        {"device": 1},
        {"device_name": None},
    ],
)
def test_a_receipt_that_no_worker_writes_is_refused(receipt, changes):
    text = json.dumps(json.loads(receipt.to_json()) | changes)
    with pytest.raises(MfsynthError, match="not a receipt"):
        Receipt.from_json(text)


def status_of(run_store, *receipts) -> RunStatus:
    return RunStatus.of(read_run(run_store), "here", totals(receipts), ())


def test_status_says_what_the_model_made_of_prompts_on_which_device_and_what_was_done_again(
    run_store, receipt
):
    known = replace(receipt, **KNOWN)
    status = status_of(run_store, receipt, known, replace(known, prompts_cut=6))
    lines = status.lines()
    assert (
        "prompts      4 of 12 prompts have words that the model doesn't know; 6 are longer than "
        "what it reads" in lines
    )
    assert "by device    NVIDIA H100" in lines
    assert "done again   out of memory 4, worker died 2" in lines
    assert (status.prompts_unknown, status.prompts_cut) == (4, 6)


def test_status_of_old_receipts_claims_nothing(run_store, receipt):
    status = status_of(run_store, receipt)
    assert (status.prompts_unknown, status.prompts_cut, status.devices) == (None, None, {})
    begun = ("prompts", "by device", "done again")
    assert not [line for line in status.lines() if line.startswith(begun)]
