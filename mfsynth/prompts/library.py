"""Prompt libraries: grammars in YAML files that may include others."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Collection, Mapping
from typing import Any

from mfsynth.config.documents import read_yaml
from mfsynth.config.resources import resolve_resource
from mfsynth.prompts.grammar import Grammar
from mfsynth.prompts.parsing import LibraryFile
from mfsynth.prompts.sizes import Sizes
from mfsynth.prompts.slots import (
    Choice,
    Number,
    Several,
    Slot,
    Template,
    reachable_slots,
    referenced_slots,
)
from mfsynth.storage.credentials import without_credentials
from mfsynth.storage.digests import sha256_of_bytes
from mfsynth.storage.protocols import is_on_this_machine

# Part of the digest; to be raised whenever the same file would give other prompts.
_ALGORITHM = 1

_MOST_INCLUDES = 16
_PIECE_KEYS = ("description", "include", "slots")
_LIBRARY_KEYS = (*_PIECE_KEYS, "templates", "sentences")

_Slots = dict[str, tuple[Slot, LibraryFile]]


def load_library(name_or_path: str, seed: int = 0) -> Grammar:
    """Load a prompt library.

    Args:
        name_or_path: The name of a library in `prompts/`, or a path or URL of a file.
        seed: The run's seed.

    Returns:
        The grammar. Its digest covers the content of the file and of all it includes, not the
        way they are written.

    Raises:
        MfsynthError: One line that names the file, the key, and what to do.
    """
    url = resolve_resource("prompts", name_or_path)
    file = LibraryFile(without_credentials(url))
    document = _read(url, "prompt library", _LIBRARY_KEYS)
    sentences = document.get("sentences", False)
    if not isinstance(sentences, bool):
        file.fail("sentences", "must be true or false")
    if "templates" not in document:
        file.fail("templates", "missing; add at least one text")
    templates = file.parse_templates("templates", document["templates"])
    origins = _read_slots(document, url, ())
    slots = {name: slot for name, (slot, _) in origins.items()}
    _check(templates, slots, file, {name: origin for name, (_, origin) in origins.items()})
    return Grammar(
        name=file.name,
        templates=templates,
        slots=slots,
        digest=_digest(templates, slots, sentences),
        seed=seed,
        sentences=sentences,
    )


def _read(url: str, what: str, keys: Collection[str]) -> dict[str, Any]:
    document = read_yaml(url, what)
    file = LibraryFile(without_credentials(url))
    if not isinstance(document, dict):
        file.fail("", f"{what} must be a mapping with keys of {', '.join(keys)}")
    file.check_keys("", document, keys)
    return document


def _read_slots(document: Mapping[str, Any], url: str, including: tuple[str, ...]) -> _Slots:
    """The slots of a document and of all it includes, each with the file it is from."""
    file = LibraryFile(without_credentials(url))
    names = document.get("include", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        file.fail("include", "must be a list of file names")
    found: _Slots = {}
    for index, name in enumerate(names):
        other = _beside(url, name)
        if is_on_this_machine(other) and not is_on_this_machine(url):
            file.fail(f"include[{index}]", f"{name} is a file of this machine; give a URL")
        if len(including) >= _MOST_INCLUDES:
            file.fail(f"include[{index}]", f"more than {_MOST_INCLUDES} files that include others")
        if other in (*including, url):
            file.fail(f"include[{index}]", f"{name} leads back to this file; remove one include")
        piece = _read(other, f"file that {file.name} includes", _PIECE_KEYS)
        for slot_name, (slot, origin) in _read_slots(piece, other, (*including, url)).items():
            # One file included on two ways is the same slot, not a clash.
            if slot_name in found and found[slot_name][1] != origin:
                clash = found[slot_name][1].name
                file.fail(f"include[{index}]", f"slot {slot_name} is in {clash} too; rename one")
            found[slot_name] = (slot, origin)
    for slot_name, slot in file.parse_slots(document.get("slots", {})).items():
        if slot_name in found:
            file.fail(f"slots.{slot_name}", f"is in {found[slot_name][1].name} too; rename one")
        found[slot_name] = (slot, file)
    return found


def _beside(url: str, name: str) -> str:
    if "://" in name or name.startswith("/"):
        return name
    # normpath would turn the "//" of a URL into "/".
    scheme, separator, path = url.rpartition("://")
    return scheme + separator + posixpath.normpath(posixpath.join(posixpath.dirname(path), name))


def _check(
    templates: tuple[Template, ...],
    slots: Mapping[str, Slot],
    file: LibraryFile,
    origins: Mapping[str, LibraryFile],
) -> None:
    for name in slots:
        origins[name].check_slot(name, slots)
    for index, template in enumerate(templates):
        file.check_template(f"templates[{index}]", template, slots)
    finished: set[str] = set()
    for name in slots:
        _check_no_cycle(name, slots, origins, (), finished)
    sizes = Sizes(slots)
    for name, slot in slots.items():
        if isinstance(slot, Choice):
            for option in slot.options:
                if sizes.of_template(option) == 0:
                    origins[name].fail(
                        f"slots.{name}", f"the constraints leave nothing for {option.source!r}"
                    )
        elif isinstance(slot, Several):
            for count, _ in slot.counts:
                if sizes.of_list(slot, count) == 0:
                    origins[name].fail(
                        f"slots.{name}.count", f"there are no {count} different {slot.item}"
                    )
    for index, template in enumerate(templates):
        if sizes.of_template(template) == 0:
            file.fail(f"templates[{index}]", "the constraints leave nothing")


def _check_no_cycle(
    name: str,
    slots: Mapping[str, Slot],
    origins: Mapping[str, LibraryFile],
    above: tuple[str, ...],
    finished: set[str],
) -> None:
    if name in above:
        way = " -> ".join((*above[above.index(name) :], name))
        origins[name].fail(f"slots.{name}", f"contains itself ({way})")
    if name not in finished:
        for other in referenced_slots(slots[name]):
            _check_no_cycle(other, slots, origins, (*above, name), finished)
        finished.add(name)


def _digest(templates: tuple[Template, ...], slots: Mapping[str, Slot], sentences: bool) -> str:
    content = {
        "algorithm": _ALGORITHM,
        "sentences": sentences,
        "templates": [_plain(template) for template in templates],
        # A slot of an included file that is not used here does not make this another library.
        "slots": {name: _plain(slots[name]) for name in reachable_slots(templates, slots)},
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return sha256_of_bytes(text.encode())


def _plain(part: Template | Slot) -> object:
    """A part as JSON values that are the same however the file is written."""
    if isinstance(part, Template):
        return {
            "text": part.source,
            "weight": part.weight,
            "distinct": part.distinct,
            "never": [
                {label: sorted(texts) for label, texts in rule.items()} for rule in part.never
            ],
        }
    if isinstance(part, Choice):
        return [_plain(option) for option in part.options]
    if isinstance(part, Number):
        numbers = [str(part.low.normalize()), str(part.step.normalize())]
        return {"numbers": numbers, "count": part.count, "decimals": part.decimals}
    return {"item": part.item, "counts": part.counts, "distinct": part.distinct}
