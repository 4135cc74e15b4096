from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mfsynth.prompts import Grammar, load_library

Make = Callable[..., Grammar]


def _texts(grammar: Grammar, count: int) -> list[str]:
    return [grammar.prompt(candidate).text for candidate in range(count)]


def test_a_prompt_does_not_depend_on_what_was_asked_before(grammar: Make) -> None:
    make = {"x": ["p", "q", "r"], "y": {"list": "x", "count": {1: 1, 2: 1}, "distinct": True}}
    forwards = grammar(["{y}"], **make)
    backwards = grammar(["{y}"], **make)
    order = list(range(50))
    assert {i: forwards.prompt(i) for i in order} == {i: backwards.prompt(i) for i in order[::-1]}


def test_another_seed_gives_other_prompts(grammar: Make) -> None:
    slots = {"x": {"low": 1, "high": 1000, "step": 1}}
    assert _texts(grammar(["{x}"], 0, **slots), 5) != _texts(grammar(["{x}"], 1, **slots), 5)


def test_negative_candidates_are_refused(grammar: Make) -> None:
    with pytest.raises(ValueError, match="candidate"):
        grammar(["x"]).prompt(-1)


def test_a_label_has_one_value_throughout_a_text(grammar: Make) -> None:
    for text in _texts(grammar(["{x} and {x}"], x=["p", "q"]), 20):
        assert text in ("p and p", "q and q")


def test_labels_of_one_slot_are_drawn_apart(grammar: Make) -> None:
    made = set(_texts(grammar(["{one=x} {two=x}"], x=["p", "q"]), 60))
    assert made == {"p p", "p q", "q p", "q q"}


def test_distinct_labels_never_are_alike(grammar: Make) -> None:
    made = grammar([{"text": "{one=x} {two=x}", "distinct": ["one", "two"]}], x=["p", "q", "r"])
    expected = {f"{a} {b}" for a, b in itertools.permutations("pqr", 2)}
    assert set(_texts(made, 200)) == expected
    assert made.size == len(expected)


def test_combinations_that_never_may_be_are_not_made(grammar: Make) -> None:
    rule = {"x": "p", "y": ["s", "t"]}
    made = grammar([{"text": "{x} {y}", "never": [rule]}], x=["p", "q"], y=["s", "t", "u"])
    assert set(_texts(made, 200)) == {"p u", "q s", "q t", "q u"}
    assert made.size == 4


def test_a_new_rule_changes_only_the_prompts_that_it_forbids(grammar: Make) -> None:
    slots = {"x": ["p", "q", "r"], "y": ["s", "t", "u"]}
    before = _texts(grammar(["{x} {y}"], **slots), 100)
    after = _texts(grammar([{"text": "{x} {y}", "never": [{"x": "p", "y": "s"}]}], **slots), 100)
    assert all(new == old for new, old in zip(after, before, strict=True) if old != "p s")
    assert "p s" in before
    assert "p s" not in after


def test_items_of_a_list_are_different_as_wholes(grammar: Make) -> None:
    made = grammar(
        ["{things}"],
        things={"list": "thing", "count": 3, "distinct": True},
        thing="{x} {y}",
        x=["p", "q"],
        y=["s", "t"],
    )
    for candidate in range(100):
        things = made.prompt(candidate).slots["things"]
        assert isinstance(things, list)
        assert len({tuple(thing.values()) for thing in things}) == 3
    assert made.size == 4 * 3 * 2


def test_items_of_a_list_can_be_different_in_one_label(grammar: Make) -> None:
    made = grammar(
        ["{things}"],
        things={"list": "thing", "count": 2, "distinct": "y"},
        thing="{x} {y}",
        x=["p", "q"],
        y=["s", "t", "u"],
    )
    texts = set(_texts(made, 2000))
    assert all(text.split()[1] != text.split()[4] for text in texts)
    assert len(texts) == made.size == (3 * 2) * 2**2


def test_options_and_counts_follow_their_weights(grammar: Make) -> None:
    made = grammar(
        ["{xs}"], xs={"list": "x", "count": {1: 1, 2: 3}}, x={"choices": {"p": 0.2, "q": 0.8}}
    )
    counts = Counter(choice for i in range(4000) for choice in made.prompt(i).choices)
    lists = counts["xs", "1 of x"] + counts["xs", "2 of x"]
    items = counts["x", "p"] + counts["x", "q"]
    assert lists == 4000
    assert counts["xs", "2 of x"] / lists == pytest.approx(0.75, abs=0.03)
    assert counts["x", "q"] / items == pytest.approx(0.8, abs=0.03)


def test_weights_count_by_their_proportions_only(grammar: Make) -> None:
    digests = {
        grammar(["{x}"], x={"choices": weights}).digest
        for weights in ({"p": 1, "q": 3}, {"p": 0.1, "q": 0.3}, {"p": 10, "q": 30.0})
    }
    assert len(digests) == 1


def test_numbers_are_exact_multiples_of_their_step(grammar: Make) -> None:
    made = grammar(["{n} m"], n={"low": 0.1, "high": 0.7, "step": 0.2})
    assert set(_texts(made, 100)) == {"0.1 m", "0.3 m", "0.5 m", "0.7 m"}
    assert {made.prompt(i).slots["n"] for i in range(100)} == {0.1, 0.3, 0.5, 0.7}
    assert made.size == 4


def test_numbers_are_written_with_the_decimals_asked_for(grammar: Make) -> None:
    made = grammar(["{n}"], n={"low": -1, "high": 1, "step": 0.5, "decimals": 2})
    assert set(_texts(made, 100)) == {"-1.00", "-0.50", "0.00", "0.50", "1.00"}
    whole = grammar(["{n}"], n={"low": 2, "high": 4, "step": 1})
    assert {type(whole.prompt(i).slots["n"]) for i in range(9)} == {int}


def test_slots_tell_the_choices_nested_as_the_text_is(grammar: Make) -> None:
    made = grammar(
        ["{one} {two} {three}"],
        one=["plain"],
        two="{x} {y}",
        three={"choices": ["{x} or so", "{x} or more"]},
        x=["p"],
        y=["s"],
    )
    slots = dict(made.prompt(0).slots)
    three = slots.pop("three")
    assert slots == {"one": "plain", "two": {"x": "p", "y": "s"}}
    assert three in ({"text": "p or so", "x": "p"}, {"text": "p or more", "x": "p"})


def test_the_digest_follows_content_not_layout(
    grammar: Make, write: Callable[[str, str], str]
) -> None:
    plain = grammar(["{x}"], x=["p", "q"], unused=["r"])
    text = "# other layout\nslots:\n  x:\n    choices: [{text: p}, q]\ntemplates: ['{x}']\n"
    assert load_library(write("other.yaml", text)).digest == plain.digest
    assert grammar(["{x}"], x=["q", "p"]).digest != plain.digest
    assert grammar(["{x}", "{x} "], x=["p", "q"]).digest != plain.digest


def test_a_slot_may_be_empty_and_articles_look_past_it(grammar: Make) -> None:
    made = grammar(
        ["on {a} {wear} {thing} {end}."], wear=["", "old"], thing="mug", end=["", ", so"]
    )
    assert set(_texts(made, 60)) == {
        "on a mug.",
        "on an old mug.",
        "on a mug, so.",
        "on an old mug, so.",
    }


@st.composite
def _documents(draw: st.DrawFn) -> dict[str, Any]:
    """Grammars in which no text can be written in two ways, because no word is there twice."""
    fresh = (f"w{number}" for number in itertools.count())
    slots: dict[str, Any] = {}
    for name in ("a1", "b1", "c1"):
        known = [*slots]
        kinds = ["choices", "number"] + ["list", "text", "pair", "nested"] * bool(known)
        kind = draw(st.sampled_from(kinds))
        inner = draw(st.sampled_from(known)) if known else ""
        if kind == "choices":
            slots[name] = [next(fresh) for _ in range(draw(st.integers(2, 3)))]
        elif kind == "number":
            slots[name] = {"low": 10, "high": draw(st.sampled_from([12, 14])), "step": 2}
        elif kind == "list":
            slots[name] = {"list": inner, "count": {1: 1, 2: 1}, "distinct": draw(st.booleans())}
        elif kind == "pair":
            slots[name] = {
                "text": f"{{p={inner}}} {next(fresh)} {{q={inner}}}",
                "distinct": ["p", "q"],
            }
        elif kind == "text":
            slots[name] = f"{next(fresh)} {{{inner}}} {next(fresh)}"
        else:
            slots[name] = [next(fresh), f"{next(fresh)} {{{inner}}}"]
    return {"templates": [f"{next(fresh)} {{c1}} {{a1}}", f"{next(fresh)} {{b1}}"], "slots": slots}


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(document=_documents())
def test_the_size_is_what_exhaustive_drawing_finds(
    document: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "library.yaml"
    path.write_text(yaml.safe_dump(document))
    made = load_library(str(path))
    texts = set(_texts(made, 1000))
    assert len(texts) <= made.size
    if made.size <= 40:
        assert len(texts) == made.size


def test_rules_leave_what_counting_every_combination_finds(grammar: Make) -> None:
    slots = {"x": ["p", "q", "r"], "y": ["s", "t"], "z": ["u", "v", "w", "s2"]}
    texts = "{x} {y} {z}"
    for rules in (
        [{"x": "p", "y": "s"}, {"z": ["u", "v"], "x": ["p", "q"]}],
        [{"x": ["p", "q"]}, {"y": "s", "z": "w"}, {"y": "s"}],
        [{"x": "p", "y": "t", "z": "u"}, {"x": "p", "y": "t", "z": ["u", "v"]}],
    ):
        made = grammar([{"text": texts, "never": rules}], **slots)
        excluded = [
            {label: [texts] if isinstance(texts, str) else texts for label, texts in rule.items()}
            for rule in rules
        ]
        allowed = [
            words
            for words in itertools.product(*slots.values())
            if not any(
                all(dict(zip(slots, words, strict=True))[at] in of for at, of in rule.items())
                for rule in excluded
            )
        ]
        assert made.size == len(allowed)


def test_many_rules_and_slots_that_name_each_other_are_counted_at_once(grammar: Make) -> None:
    many = [f"w{number}" for number in range(20)]
    rules = [{f"a{n}": ["w1", "w2"], f"b{n}": "w3"} for n in range(4)]
    labels = [label for rule in rules for label in rule]
    text = " ".join(f"{{{label}=s}}" for label in labels)
    assert grammar([{"text": text, "never": rules}], s=many).size == (400 - 2) ** 4
    nested = {f"s{n}": f"{{l=s{n + 1}}} {{r=s{n + 1}}}" for n in range(12)}
    assert grammar(["{s0}"], **nested, s12=["p", "q"]).size == 2**2**12
