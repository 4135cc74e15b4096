"""One file of a prompt library: YAML values to the parts of a grammar, checked key by key."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any, NoReturn

from mfsynth.config.suggestions import did_you_mean
from mfsynth.errors import MfsynthError
from mfsynth.prompts.english import ARTICLE
from mfsynth.prompts.sizes import literal_options
from mfsynth.prompts.slots import Choice, Number, Reference, Several, Slot, Template

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_PIECES = re.compile(r"\{([^{}]*)\}")
_RESERVED = ("a", "text")
_MAX_NUMBERS = 100_000
_MAX_LIST = 100
_TEMPLATE_KEYS = ("text", "weight", "distinct", "never")
_SLOT_KINDS = {
    "choices": ("choices",),
    "low": ("low", "high", "step", "decimals"),
    "list": ("list", "count", "distinct"),
    "text": ("text", "distinct", "never"),
}


@dataclass(frozen=True, slots=True)
class LibraryFile:
    """A file by the name that messages call it; parses and checks what stands in it."""

    name: str

    def fail(self, key: str, problem: str) -> NoReturn:
        """Raise the one-line error for a key path ("" for the whole file)."""
        raise MfsynthError(f"{self.name}: {key}: {problem}" if key else f"{self.name}: {problem}")

    def check_keys(self, key: str, value: Mapping[Any, Any], known: Collection[str]) -> None:
        """Reject keys that mean nothing here."""
        for name in value:
            if name not in known:
                path = f"{key}.{name}" if key else str(name)
                self.fail(path, f"unknown key; {did_you_mean(str(name), known)}")

    def parse_slots(self, value: Any) -> dict[str, Slot]:
        """The value of the key `slots`."""
        if not isinstance(value, dict):
            self.fail("slots", "must be a mapping of names to slots")
        for name in value:
            if not isinstance(name, str) or not _NAME.fullmatch(name) or name in _RESERVED:
                self.fail(
                    f"slots.{name}",
                    "not a name for a slot; use a-z, 0-9 and _, and neither 'a' nor 'text'",
                )
        return {name: self._parse_slot(f"slots.{name}", slot) for name, slot in value.items()}

    def parse_templates(self, key: str, value: Any) -> tuple[Template, ...]:
        """A list of templates, each a text or a mapping with the key `text`."""
        if not isinstance(value, list) or not value:
            self.fail(key, "must be a list of at least one text")
        weights = self._integer_weights(
            {
                f"{key}[{index}].weight": item.get("weight", 1) if isinstance(item, dict) else 1
                for index, item in enumerate(value)
            }
        )
        return tuple(
            self._parse_template(f"{key}[{index}]", item, weight)
            for index, (item, weight) in enumerate(zip(value, weights, strict=True))
        )

    def check_slot(self, name: str, slots: Mapping[str, Slot]) -> None:
        """Check that what a slot refers to is there and fits."""
        slot = slots[name]
        if isinstance(slot, Choice):
            for index, option in enumerate(slot.options):
                many = len(slot.options) > 1
                key = f"slots.{name}.choices[{index}]" if many else f"slots.{name}"
                self.check_template(key, option, slots)
        elif isinstance(slot, Several):
            self._check_slot_name(f"slots.{name}.list", slot.item, slots)
            if slot.distinct:
                self._check_list_labels(f"slots.{name}.distinct", slot, slots)

    def check_template(self, key: str, template: Template, slots: Mapping[str, Slot]) -> None:
        """Check that the slots and labels that a template names are there and fit."""
        references = template.references
        for name in references.values():
            self._check_slot_name(key, name, slots)
        grouped = [label for group in template.distinct for label in group]
        for label in grouped:
            self._check_label(f"{key}.distinct", label, references)
        if len(set(grouped)) < len(grouped):
            self.fail(f"{key}.distinct", "a label may stand in one group only, and once")
        for group in template.distinct:
            if len({references[label] for label in group}) > 1:
                self.fail(f"{key}.distinct", f"{', '.join(group)} are not of one slot")
        for index, rule in enumerate(template.never):
            for label, texts in rule.items():
                path = f"{key}.never[{index}].{label}"
                self._check_label(path, label, references)
                if label in grouped:
                    self.fail(path, "stands in distinct too; use one of the two")
                known = literal_options(slots[references[label]])
                if known is None:
                    self.fail(path, f"{references[label]} is not a choice among plain texts")
                for text in sorted(texts):
                    if text not in known:
                        self.fail(path, f"no option {text!r}; {did_you_mean(text, known)}")

    def _check_slot_name(self, key: str, name: str, slots: Mapping[str, Slot]) -> None:
        if name not in slots:
            self.fail(key, f"unknown slot {name!r}; {did_you_mean(name, slots)}")

    def _check_label(self, key: str, label: str, references: Mapping[str, str]) -> None:
        if label not in references:
            self.fail(key, f"no {{{label}}} in the text; {did_you_mean(label, references)}")

    def _check_list_labels(self, key: str, slot: Several, slots: Mapping[str, Slot]) -> None:
        item = slots[slot.item]
        if not isinstance(item, Choice) or len(item.options) != 1:
            self.fail(key, f"{slot.item} is not a single text; use distinct: true")
        (template,) = item.options
        bound = {label for group in template.distinct for label in group}
        bound.update(label for rule in template.never for label in rule)
        for label in slot.distinct or ():
            self._check_label(key, label, template.references)
            if label in bound:
                self.fail(key, f"{label} has constraints of its own in {slot.item}")

    def _parse_slot(self, key: str, value: Any) -> Slot:
        if isinstance(value, list):
            value = {"choices": value}
        if isinstance(value, str):
            value = {"text": value}
        if not isinstance(value, dict):
            self.fail(key, f"must be a text, a list or a mapping, not {_kind(value)}; quote texts")
        kind = next((kind for kind in _SLOT_KINDS if kind in value), None)
        if kind is None:
            known = sorted({name for keys in _SLOT_KINDS.values() for name in keys})
            self.check_keys(key, value, known)
            self.fail(key, f"needs one of the keys {', '.join(_SLOT_KINDS)}")
        self.check_keys(key, value, _SLOT_KINDS[kind])
        if kind == "choices":
            return self._parse_choices(f"{key}.choices", value["choices"])
        if kind == "low":
            return self._parse_number(key, value)
        if kind == "list":
            return self._parse_list(key, value)
        return Choice((self._parse_template(key, value, 1),))

    def _parse_choices(self, key: str, value: Any) -> Choice:
        if isinstance(value, dict):
            value = [{"text": text, "weight": weight} for text, weight in value.items()]
        options = self.parse_templates(key, value)
        seen: set[str] = set()
        for index, option in enumerate(options):
            if option.source in seen:
                self.fail(f"{key}[{index}]", f"{option.source!r} is there twice; use a weight")
            seen.add(option.source)
        return Choice(options)

    def _parse_number(self, key: str, value: Mapping[str, Any]) -> Number:
        for name in ("low", "high", "step"):
            if name not in value:
                self.fail(f"{key}.{name}", "missing; a number has low, high and step")
        low, high, step = (
            self._decimal(f"{key}.{name}", value[name]) for name in ("low", "high", "step")
        )
        if step <= 0:
            self.fail(f"{key}.step", f"must be above 0, not {step}")
        if high < low:
            self.fail(f"{key}.high", f"must be at least low ({low}), not {high}")
        # Exact: decimals end where a quotient has more digits than they do.
        steps, rest = divmod(Fraction(high) - Fraction(low), Fraction(step))
        if rest:
            self.fail(f"{key}.high", f"{high} is not reached from {low} in steps of {step}")
        if steps >= _MAX_NUMBERS:
            self.fail(f"{key}.step", f"gives more than {_MAX_NUMBERS} values; use a larger one")
        decimals = value.get("decimals")
        if decimals is not None and (
            not isinstance(decimals, int) or isinstance(decimals, bool) or not 0 <= decimals <= 9
        ):
            self.fail(f"{key}.decimals", f"must be an integer from 0 to 9, not {decimals!r}")
        return Number(low, step, int(steps) + 1, decimals)

    def _parse_list(self, key: str, value: Mapping[str, Any]) -> Several:
        item = value["list"]
        if not isinstance(item, str):
            self.fail(f"{key}.list", f"must be the name of a slot, not {_kind(item)}")
        if "count" not in value:
            self.fail(f"{key}.count", "missing; give a number, or numbers with weights")
        count = value["count"]
        if isinstance(count, list):
            self.fail(f"{key}.count", "must be a number, or a mapping of numbers to weights")
        counts = count if isinstance(count, dict) else {count: 1}
        if not counts:
            self.fail(f"{key}.count", "must have at least one number")
        for number in counts:
            if not isinstance(number, int) or isinstance(number, bool) or number < 1:
                self.fail(f"{key}.count", f"must be a number of at least 1, not {number!r}")
            if number > _MAX_LIST:
                self.fail(f"{key}.count", f"must be at most {_MAX_LIST}, not {number}")
        weights = self._integer_weights(
            {f"{key}.count.{number}": weight for number, weight in counts.items()}
        )
        return Several(
            item,
            tuple(zip(counts, weights, strict=True)),
            self._parse_distinct_items(f"{key}.distinct", value.get("distinct", False)),
        )

    def _parse_distinct_items(self, key: str, value: Any) -> tuple[str, ...] | None:
        if isinstance(value, bool):
            return () if value else None
        if isinstance(value, str):
            return (value,)
        if isinstance(value, list) and value and all(isinstance(label, str) for label in value):
            return tuple(dict.fromkeys(value))
        self.fail(key, "must be true, false, a label or a list of labels")

    def _parse_template(self, key: str, value: Any, weight: int) -> Template:
        if not isinstance(value, dict):
            return Template(self._parse_text(key, value), weight)
        self.check_keys(key, value, _TEMPLATE_KEYS)
        if "text" not in value:
            self.fail(f"{key}.text", "missing")
        return Template(
            self._parse_text(f"{key}.text", value["text"]),
            weight,
            self._parse_distinct(f"{key}.distinct", value.get("distinct", [])),
            self._parse_never(f"{key}.never", value.get("never", [])),
        )

    def _parse_distinct(self, key: str, value: Any) -> tuple[tuple[str, ...], ...]:
        if isinstance(value, list) and value and all(isinstance(label, str) for label in value):
            value = [value]
        if not isinstance(value, list) or not all(
            isinstance(group, list)
            and len(group) > 1
            and all(isinstance(label, str) for label in group)
            for group in value
        ):
            self.fail(key, "must be a list of at least two labels, or a list of such lists")
        return tuple(tuple(group) for group in value)

    def _parse_never(self, key: str, value: Any) -> tuple[Mapping[str, frozenset[str]], ...]:
        if not isinstance(value, list):
            self.fail(key, "must be a list of mappings of labels to texts")
        rules = []
        for index, rule in enumerate(value):
            if not isinstance(rule, dict) or not rule:
                self.fail(f"{key}[{index}]", "must be a mapping of labels to texts")
            parsed = {}
            for label, texts in rule.items():
                texts = [texts] if isinstance(texts, str) else texts
                if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
                    self.fail(f"{key}[{index}].{label}", "must be a text or a list of texts")
                parsed[str(label)] = frozenset(texts)
            rules.append(parsed)
        return tuple(rules)

    def _parse_text(self, key: str, value: Any) -> tuple[str | Reference, ...]:
        if not isinstance(value, str):
            self.fail(key, f"must be a text, not {_kind(value)}; quote it")
        parts: list[str | Reference] = []
        # The pieces alternate: text, what stands between braces, text, ...
        for index, piece in enumerate(_PIECES.split(value)):
            if index % 2:
                parts.append(ARTICLE if piece == "a" else self._parse_reference(key, piece))
            elif "{" in piece or "}" in piece or ARTICLE in piece:
                self.fail(key, f"a brace without its partner in {value!r}")
            elif piece:
                parts.append(piece)
        for left, right in pairwise(parts):
            if not _separate(left, right):
                self.fail(key, f"put a space around each {{slot}} in {value!r}")
        if parts and parts[-1] == ARTICLE:
            self.fail(key, f"{{a}} needs a word after it in {value!r}")
        return tuple(parts)

    def _parse_reference(self, key: str, text: str) -> Reference:
        label, equals, slot = text.partition("=")
        names = (label, slot) if equals else (label, label)
        for name in names:
            if not _NAME.fullmatch(name) or name in _RESERVED:
                self.fail(key, f"{{{text}}} is not {{slot}}, {{label=slot}} or {{a}}")
        return Reference(*names)

    def _integer_weights(self, weights: Mapping[str, Any]) -> list[int]:
        """The weights, by key path, as the smallest integers of the same proportions."""
        fractions = []
        for key, weight in weights.items():
            fraction = Fraction(self._decimal(key, weight))
            if fraction <= 0:
                self.fail(key, f"must be above 0, not {weight}")
            fractions.append(fraction)
        scale = math.lcm(*(fraction.denominator for fraction in fractions))
        integers = [int(fraction * scale) for fraction in fractions]
        shared = math.gcd(*integers)
        return [integer // shared for integer in integers]

    def _decimal(self, key: str, value: Any) -> Decimal:
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fail(key, f"must be a number, not {_kind(value)}")
        # str() gives the shortest decimal that is this float: the number as it is in the file.
        number = Decimal(str(value))
        if not number.is_finite():
            self.fail(key, f"must be finite, not {value}")
        return number


def _separate(left: str | Reference, right: str | Reference) -> bool:
    """Whether no word reaches over the border of two parts.

    Slots must not form words with what is beside them, so that their texts stand in the prompt as
    they are in its slots.
    """
    ends = left[-1] if isinstance(left, str) and left != ARTICLE else "x"
    begins = right[0] if isinstance(right, str) and right != ARTICLE else "x"
    return not (_wordlike(ends) and _wordlike(begins))


def _wordlike(character: str) -> bool:
    return character.isalnum() or character == "_"


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    names = {bool: "true or false", int: "a number", float: "a number", str: "a text"}
    return names.get(type(value), "a mapping" if isinstance(value, dict) else "a list")
