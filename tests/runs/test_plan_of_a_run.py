from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from started import plan_of

from mfsynth.runs.plan import RunPlan, recorded_config
from mfsynth.sources.base import Item


class Numbers:
    """A source without end."""

    def __getitem__(self, index: int) -> Item:
        return Item(text=f"number {index}")


@given(seed=st.integers(0, 2**40), size=st.integers(1, 100), shard=st.integers(0, 10**6))
def test_shards_divide_the_candidates_in_order(seed, size, shard):
    plan = RunPlan("run", seed, size, Numbers())
    here, following = plan.candidates_of(shard), plan.candidates_of(shard + 1)
    assert len(here) == size
    assert here.stop == following.start


@given(seed=st.integers(0, 2**40), index=st.integers(0, 10**9))
def test_a_candidate_is_a_function_of_the_seed_and_its_number_alone(seed, index):
    one = RunPlan("run", seed, 8, Numbers()).candidate(index)
    other = RunPlan("run", seed, 64, Numbers()).candidate(index)
    assert (one.index, one.sample_id, one.seed) == (other.index, other.sample_id, other.seed)
    assert one.item.text == other.item.text
    assert one.seed != RunPlan("run", seed + 1, 8, Numbers()).candidate(index).seed
    assert 0 <= one.seed < 2**63


def test_a_shard_holds_its_candidates_with_their_prompts():
    shard = RunPlan("run", 0, 3, Numbers()).shard(2)
    assert [c.sample_id for c in shard] == ["run-000000006", "run-000000007", "run-000000008"]
    assert [c.item.text for c in shard] == ["number 6", "number 7", "number 8"]
    assert len({c.seed for c in shard}) == 3


def test_runs_share_no_key_unless_they_make_the_same_samples(run_folder):
    here = run_folder.config()
    elsewhere = run_folder.config(output="elsewhere", target={"pairs": 9})
    other_seed = run_folder.config(seed=1)
    other_steps = run_folder.config(sampler={"steps": 2})
    keys = [
        {candidate.sample_id for candidate in plan_of(config).shard(0)}
        for config in (here, elsewhere, other_seed, other_steps)
    ]
    assert keys[0] == keys[1]
    assert len(set.union(*keys)) == 3 * len(keys[0])


def test_a_candidate_keeps_the_seed_it_had_in_every_release():
    # A literal: a change of the derivation would silently change every resumed run.
    assert RunPlan("run", 7, 8, Numbers()).candidate(123).seed == 517911576045571104


def test_what_a_run_keeps_of_its_configuration_has_no_credentials(run_folder):
    url = "https://user:s3cr3t@host.example/{}?sig=t0p"
    for prompts in ({"library": url.format("a.yaml")}, {"file": url.format("a.txt")}):
        config = run_folder.config(
            prompts=prompts,
            output=url.format("out"),
            source={
                "kind": "folder",
                "layout": "generic",
                "path": url.format("a"),
                "images": "*.png",
            },
            sampler={"mode": "d2i"},
        )
        stored = str(recorded_config(config))
        assert stored.count("https://host.example/") == 3
        assert "s3cr3t" not in stored
        assert "t0p" not in stored
