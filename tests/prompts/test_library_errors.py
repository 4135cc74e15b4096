from __future__ import annotations

from collections.abc import Callable

import pytest

from mfsynth.errors import MfsynthError
from mfsynth.prompts import load_library

Write = Callable[[str, str], str]


def _error(path: str) -> str:
    with pytest.raises(MfsynthError) as caught:
        load_library(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path in message
    return message.replace(path, "FILE")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "FILE: prompt library is empty"),
        ("# nothing\n", "FILE: prompt library is empty"),
        ("just text", "FILE: prompt library must be a mapping"),
        ("templates: [a\nslots: {}", "FILE:2:6: not valid YAML"),
        (
            "templates: [x]\ntemplates: [y]",
            "FILE:2:1: not valid YAML: the key 'templates' is there",
        ),
        ("templates: [\x00]", "FILE: not valid YAML"),
        ("templats: [x]", "FILE: templats: unknown key; did you mean templates?"),
        ("slots: {}", "FILE: templates: missing"),
        ("templates: []", "FILE: templates: must be a list of at least one text"),
        ("templates: x", "FILE: templates: must be a list"),
        ("templates: [3]", "FILE: templates[0]: must be a text, not a number"),
        ("templates: [yes]", "FILE: templates[0]: must be a text, not true or false; quote it"),
        ("templates: [{weight: 2}]", "FILE: templates[0].text: missing"),
        (
            "templates: [{text: x, weigth: 2}]",
            "templates[0].weigth: unknown key; did you mean weight?",
        ),
        ("templates: [{text: x, weight: 0}]", "FILE: templates[0].weight: must be above 0, not 0"),
        ("templates: [{text: x, weight: -1}]", "FILE: templates[0].weight: must be above 0"),
        ("templates: [{text: x, weight: .nan}]", "FILE: templates[0].weight: must be finite"),
        ("templates: [{text: x, weight: much}]", "FILE: templates[0].weight: must be a number"),
        ("sentences: 1\ntemplates: [x]", "FILE: sentences: must be true or false"),
        (
            "templates: ['{colr} x']\nslots: {colour: [red]}",
            "FILE: templates[0]: unknown slot 'colr'; did you mean colour?",
        ),
        (
            "templates: ['{x}']\nslots: {x: [p, '{colr} q'], colour: [red]}",
            "FILE: slots.x.choices[1]: unknown slot 'colr'; did you mean colour?",
        ),
        ("templates: ['{x']\nslots: {x: [p]}", "FILE: templates[0]: a brace without its partner"),
        ("templates: ['{X y}']", "FILE: templates[0]: {X y} is not {slot}, {label=slot} or {a}"),
        ("templates: ['so {a}']", "FILE: templates[0]: {a} needs a word after it"),
        ("templates: ['{x}s']\nslots: {x: [p]}", "FILE: templates[0]: put a space around each"),
        (
            "templates: ['{x}{y}']\nslots: {x: [p], y: [q]}",
            "FILE: templates[0]: put a space around",
        ),
        ("templates: [x]\nslots: [p]", "FILE: slots: must be a mapping"),
        ("templates: [x]\nslots: {a: [p]}", "FILE: slots.a: not a name for a slot"),
        ("templates: [x]\nslots: {x y: [p]}", "FILE: slots.x y: not a name for a slot"),
        ("templates: [x]\nslots: {x: 3}", "FILE: slots.x: must be a text, a list or a mapping"),
        ("templates: [x]\nslots: {x: []}", "FILE: slots.x.choices: must be a list of at least one"),
        ("templates: [x]\nslots: {x: [p, p]}", "FILE: slots.x.choices[1]: 'p' is there twice"),
        (
            "templates: [x]\nslots: {x: [p, no]}",
            "FILE: slots.x.choices[1]: must be a text, not true",
        ),
        (
            "templates: [x]\nslots: {x: {choises: [p]}}",
            "slots.x.choises: unknown key; did you mean choi",
        ),
        ("templates: [x]\nslots: {x: {count: 1}}", "FILE: slots.x: needs one of the keys"),
        (
            "templates: [x]\nslots: {x: {choices: {p: 0}}}",
            "FILE: slots.x.choices[0].weight: must be",
        ),
        ("templates: [x]\nslots: {x: {low: 1, high: 3}}", "FILE: slots.x.step: missing"),
        (
            "templates: [x]\nslots: {x: {low: 1, high: 3, step: 0}}",
            "FILE: slots.x.step: must be abov",
        ),
        (
            "templates: [x]\nslots: {x: {low: 3, high: 1, step: 1}}",
            "FILE: slots.x.high: must be at l",
        ),
        (
            "templates: [x]\nslots: {x: {low: 1, high: 2, step: 0.3}}",
            "slots.x.high: 2 is not reached",
        ),
        ("templates: [x]\nslots: {x: {low: 0, high: 1, step: 1.0e-9}}", "slots.x.step: gives more"),
        ("templates: [x]\nslots: {x: {low: 0, high: 1e30, step: 1}}", "slots.x.step: gives more"),
        (
            "templates: [x]\nslots: {x: {low: 0, high: 1, step: 1, decimals: -1}}",
            "slots.x.decimals:",
        ),
        ("templates: [x]\nslots: {x: {list: y, count: 1}}", "FILE: slots.x.list: unknown slot 'y'"),
        ("templates: [x]\nslots: {x: {list: y}, y: [p]}", "FILE: slots.x.count: missing"),
        (
            "templates: [x]\nslots: {x: {list: y, count: 0}, y: [p]}",
            "FILE: slots.x.count: must be a",
        ),
        (
            "templates: [x]\nslots: {x: {list: y, count: [1, 2]}, y: [p]}",
            "FILE: slots.x.count: must be a number, or a mapping of numbers to weights",
        ),
        (
            "templates: [x]\nslots: {x: {list: y, count: {2: 0}}, y: [p]}",
            "slots.x.count.2: must be a",
        ),
        (
            "templates: [x]\nslots: {x: {list: y, count: 3, distinct: true}, y: [p, q]}",
            "FILE: slots.x.count: there are no 3 different y",
        ),
        (
            "templates: [x]\nslots: {x: {list: y, count: 2, distinct: z}, y: '{w} w', w: [p]}",
            "FILE: slots.x.distinct: no {z} in the text; known: w",
        ),
        (
            "templates: [x]\nslots: {x: ['{y}'], y: ['{x}']}",
            "FILE: slots.x: contains itself (x -> y -> x)",
        ),
        (
            "templates: [{text: '{x} {y}', distinct: [x, y]}]\nslots: {x: [p], y: [q]}",
            "FILE: templates[0].distinct: x, y are not of one slot",
        ),
        (
            "templates: [{text: '{p=x} {q=x}', distinct: [p, q]}]\nslots: {x: [r]}",
            "FILE: templates[0]: the constraints leave nothing",
        ),
        (
            "templates: [{text: '{x}', never: [{x: qq}]}]\nslots: {x: [pp, q]}",
            "FILE: templates[0].never[0].x: no option 'qq'; did you mean q?",
        ),
        (
            "templates: [{text: '{x}', never: [{x: p}]}]\nslots: {x: [p]}",
            "FILE: templates[0]: the constraints leave nothing",
        ),
        (
            "templates: [{text: '{x}', never: [{y: p}]}]\nslots: {x: [p], y: [p]}",
            "FILE: templates[0].never[0].y: no {y} in the text",
        ),
        ("include: other.yaml\ntemplates: [x]", "FILE: include: must be a list of file names"),
        ("include: [library.yaml]\ntemplates: [x]", "FILE: include[0]: library.yaml leads back"),
    ],
)
def test_each_mistake_is_one_line_with_file_and_key(write: Write, text: str, message: str) -> None:
    assert message in _error(write("library.yaml", text))


def test_a_missing_library_is_named_with_the_nearest_one() -> None:
    with pytest.raises(
        MfsynthError, match=r"'tabeltop': no such name in .*; did you mean tabletop\?"
    ):
        load_library("tabeltop")


def test_a_missing_file_is_named(tmp_path: object) -> None:
    assert "not found" in _error(f"{tmp_path}/nothing.yaml")


def test_a_folder_is_no_library(tmp_path: object) -> None:
    assert "is a folder" in _error(f"{tmp_path}/")


def test_text_that_is_not_utf8_is_told(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "library.yaml"
    path.write_bytes(b"templates: [\xff]")
    assert "not UTF-8 text (byte 12)" in _error(str(path))


def test_includes_are_found_beside_the_file_and_may_include(write: Write) -> None:
    write("common/colours.yaml", "slots: {colour: [red]}")
    write("common/things.yaml", "include: [colours.yaml]\nslots: {thing: '{colour} mug'}")
    path = write(
        "library.yaml",
        "include: [common/things.yaml, common/colours.yaml]\ntemplates: ['{thing}, {colour}']",
    )
    assert load_library(path).prompt(0).text == "red mug, red"


def test_a_slot_in_two_files_is_an_error(write: Write) -> None:
    other = write("other.yaml", "slots: {x: [p]}")
    path = write("library.yaml", "include: [other.yaml]\ntemplates: ['{x}']\nslots: {x: [q]}")
    assert f"FILE: slots.x: is in {other} too" in _error(path)


def test_mistakes_in_an_included_file_name_that_file(write: Write) -> None:
    other = write("other.yaml", "slots: {x: ['{y}']}")
    path = write("library.yaml", "include: [other.yaml]\ntemplates: ['{x}']")
    with pytest.raises(MfsynthError) as caught:
        load_library(path)
    assert str(caught.value).startswith(f"{other}: slots.x: unknown slot 'y'")


def test_libraries_are_read_from_any_url() -> None:
    import fsspec

    files = fsspec.filesystem("memory")
    files.pipe_file("/lib/common/x.yaml", b"slots: {x: [p]}")
    files.pipe_file("/lib/own.yaml", b"include: [common/x.yaml]\ntemplates: ['{x}']")
    assert load_library("memory://lib/own.yaml").prompt(3).text == "p"


@pytest.mark.parametrize("name", ["/etc/passwd", "file:///etc/passwd", "local://etc/passwd"])
def test_a_library_of_another_place_includes_no_files_of_this_machine(name: str) -> None:
    import fsspec

    text = f"include: [{name}]\ntemplates: [a]"
    fsspec.filesystem("memory").pipe_file("/foreign/own.yaml", text.encode())
    with pytest.raises(MfsynthError, match=r"include\[0\]: .* is a file of this machine; give"):
        load_library("memory://foreign/own.yaml")


def test_a_chain_of_includes_has_an_end(write) -> None:
    for number in range(1, 100):
        write(f"p{number}.yaml", f"include: [p{number + 1}.yaml]")
    first = write("p0.yaml", "include: [p1.yaml]\ntemplates: [a]")
    with pytest.raises(MfsynthError, match="more than 16 files that include others"):
        load_library(first)


@pytest.mark.parametrize("url", ["reference://::/tmp/r.json", "http://169.254.169.254/latest"])
def test_an_include_opens_no_other_protocols(write, url: str) -> None:
    own = write("own.yaml", f"include: ['{url}']\ntemplates: [a]")
    with pytest.raises(MfsynthError, match="not opened"):
        load_library(own)
