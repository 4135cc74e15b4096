"""The page of a run as a reader has it: clicked, filtered and read in a real browser."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import tiny_run
from browser import texts

from mfsynth.datasets import RGBDDataset
from mfsynth.geometry import Intrinsics
from mfsynth.geometry.colour import colour_depth, colour_range
from mfsynth.geometry.normals import normals_from_depth
from mfsynth.reports import render_page
from mfsynth.reports.collect import collect_report, links_from

SHOWN = "#pairs .card:not([hidden]) .id a"
VIEWER = "document.getElementById('viewer')"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Eight pairs with slots and every second one with a camera, rejects with their pixels."""
    folder = tmp_path_factory.mktemp("page") / "run"
    tiny_run.make_run(str(folder), 3, tiny_run.make_manifest(keeps_rejects=True))
    page = folder / "report.html"
    page.write_text(render_page(collect_report(str(folder)), links_from(page, str(folder))))
    return folder


@pytest.fixture
def page(run, browser):
    """The page, opened; at the end nothing may have gone wrong in it."""
    browser.open(f"file://{run}/report.html")
    browser.wait_for("document.documentElement.dataset.ready")
    yield browser
    assert browser.troubles == []


def opened(page, number):
    """Opens a pair of those that are shown, by a click on its pictures."""
    page.read(f"{VIEWER}.removeAttribute('data-drawn')")
    page.click(f"#pairs .card:nth-child({number + 1}) .open")
    page.wait_for(f"{VIEWER}.open && {VIEWER}.dataset.drawn")


def pixels(page, part):
    """RGB (H, W, 3) of a canvas of the viewer."""
    width, height, data = page.read(
        f"(() => {{ const c = document.querySelector('[data-part={part}] canvas');"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "return [c.width, c.height, [...d]]; })()"
    )
    return np.array(data, np.uint8).reshape(height, width, 4)[..., :3]


def candidates(page):
    return [int(name.rpartition("-")[2]) for name in texts(page, SHOWN)]


def test_pairs_are_sorted_by_a_score_and_those_without_it_come_last(page):
    assert candidates(page) == [0, 1, 2, 3, 6, 7, 8, 9]
    page.set("#pairs .controls select", "registration")
    assert candidates(page) == [0, 1, 2, 3, 6, 7, 8, 9]
    page.set("#pairs .controls label:nth-child(2) select", "best")
    assert candidates(page) == [9, 8, 7, 6, 3, 2, 1, 0]
    # The check abstained on candidate 1.
    page.set("#pairs .controls select", "valid_fraction")
    assert candidates(page)[-1] == 1


def test_pairs_are_filtered_by_score_slot_and_prompt_and_shown_all_again(page):
    score = "#pairs .controls label:nth-last-of-type(4) select"
    page.set(score, "registration")
    page.set("#pairs .controls label:nth-last-of-type(3) input", "5")
    assert candidates(page) == [3, 6, 7, 8, 9]
    page.set("#pairs .controls label:nth-last-of-type(2) input", "9.5")
    assert candidates(page) == [3, 6, 7]
    page.set("#pairs .controls [type=search]", "NUMBER 7")
    assert candidates(page) == [7]
    assert texts(page, "#pairs .count") == ["1 of 8 shown"]
    page.click("#pairs .controls button")
    assert len(candidates(page)) == 8


def test_a_value_of_a_slot_leads_to_the_pairs_and_rejects_that_took_it(page):
    page.click("#slots [data-value=blue] button")
    assert candidates(page) == [2, 8]
    assert texts(page, "#rejects .count") == ["2 of 8 shown"]
    assert page.read("document.querySelector('#pairs').getBoundingClientRect().top < 200")


def test_rejects_are_filtered_by_their_reason(page):
    page.set("#rejects .controls label:nth-child(3) select", "registration")
    assert texts(page, "#rejects .count") == ["8 of 8 shown"]
    assert texts(page, "#rejects .reasons li")[0] == "registration"


def test_the_depth_that_is_read_under_the_pointer_is_that_of_the_data_set(page, run):
    sample = RGBDDataset(str(run))[1]
    opened(page, 1)
    height, width = sample.depth.shape
    shown = pixels(page, "depth")
    assert np.abs(shown.astype(int) - colour_depth(sample.depth)).max() <= 12
    x, y, across, down = page.read(
        "(() => { const b = document.querySelector('[data-part=depth]').getBoundingClientRect();"
        "return [b.x, b.y, b.width, b.height]; })()"
    )
    for row, column in ((0, 0), (12, 20), (23, 31)):
        place = (x + (column + 0.5) / width * across, y + (row + 0.5) / height * down)
        page.mouse("mouseMoved", *place)
        reading = page.read("document.querySelector('[data-part=reading]').textContent")
        where, _, found = reading.partition(": ")
        assert where == f"column {column}, row {row} of {width} × {height}"
        wanted = float(sample.depth[row, column])
        if wanted:
            assert float(found) == pytest.approx(wanted, rel=2e-3)
        else:
            assert found == "no depth"
    near, *_, far = texts(page, "[data-part=ticks] span")
    assert [float(near), float(far)] == pytest.approx(colour_range(sample.depth), rel=0.01)


def test_its_normals_are_those_of_the_geometry(page, run):
    sample = RGBDDataset(str(run))[1]
    opened(page, 1)
    wanted = normals_from_depth(sample.depth, Intrinsics.from_matrix(sample.intrinsics))
    shown = pixels(page, "normals") / 127.5 - 1
    known = (np.linalg.norm(wanted, axis=2) > 0) & (np.abs(np.linalg.norm(shown, axis=2) - 1) < 0.1)
    assert known.mean() > 0.7
    cosines = (shown * wanted * (1, -1, -1)).sum(axis=2)[known]
    assert math.degrees(math.acos(cosines.min() / 1.02)) < 15


def test_the_points_in_space_are_turned_by_mouse_and_by_keys(page):
    opened(page, 0)
    drawn = "document.querySelector('canvas[data-part=space]').toDataURL()"
    first = page.read(drawn)
    x, y = page.middle("canvas[data-part=space]")
    page.mouse("mousePressed", x, y, button="left", clickCount=1)
    page.mouse("mouseMoved", x + 40, y, button="left", buttons=1)
    page.mouse("mouseReleased", x + 40, y, button="left", clickCount=1)
    second = page.read(drawn)
    page.read("document.querySelector('canvas[data-part=space]').focus()")
    page.press("ArrowUp")
    assert len({first, second, page.read(drawn)}) == 3
    page.press("0")
    assert page.read(drawn) == first


def test_a_pair_is_zoomed_with_its_pixels_and_left_by_keys(page):
    opened(page, 0)
    page.press("+")
    page.click("[data-part=closer]")
    assert texts(page, "[data-part=zoomed]") == ["4.0×"]
    transforms = page.read("[...document.querySelectorAll('.sheet')].map(s => s.style.transform)")
    assert len({*transforms}) == 1
    assert "scale(4)" in transforms[0]
    style = "getComputedStyle(document.querySelector('.sheet img')).imageRendering"
    assert page.read(style) == "pixelated"
    page.press("ArrowRight")
    assert texts(page, "[data-part=title]") == ["Candidate 1"]
    assert page.read("location.hash").endswith("000000001")
    page.press("Escape")
    assert not page.read(f"{VIEWER}.open")
    # The event of closing comes when the page has time for it.
    page.wait_for("document.activeElement.closest('.card')?.id.endsWith('000000001')")


def test_the_command_that_reproduces_a_candidate_is_copied(page, run):
    origin = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    page._ask("Browser.grantPermissions", **origin)
    page.click("#rejects .again button")
    page.wait_for("document.querySelector('#rejects .again button').textContent == 'copied'")
    copied = page.read("navigator.clipboard.readText()")
    assert copied == f"mfsynth reproduce {run} 4 --out again"


def test_links_to_shards_lead_to_their_objects(page, run):
    links = page.read("[...document.querySelectorAll('#shards a')].map(a => a.href)")
    assert len(links) == 3 * 4
    assert {*links} == {
        path.as_uri() for name in ("shards", "index", "rejects") for path in (run / name).iterdir()
    }


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_is_as_wide_as_the_window_and_its_text_can_be_read(run, browser, width, dark):
    browser.open(f"file://{run}/report.html", width=width, dark=dark)
    assert browser.read("document.documentElement.scrollWidth") == width
    for selector in (".note", ".prompt", ".reasons li", ".scores dd", "nav a", ".below"):
        assert contrast(browser, selector) >= 4.5, selector


def contrast(browser, selector):
    """Between text and what it stands on, as WCAG counts it."""
    found = browser.read(
        f"(() => {{ let e = document.querySelector('{selector}'); const c = [getComputedStyle(e)"
        ".color]; while (e && getComputedStyle(e).backgroundColor === 'rgba(0, 0, 0, 0)')"
        "e = e.parentElement; c.push(getComputedStyle(e).backgroundColor); return c; })()"
    )
    light = []
    for colour in found:
        parts = np.array([int(n) / 255 for n in re.findall(r"\d+", colour)[:3]])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        light.append(float(linear @ (0.2126, 0.7152, 0.0722)) + 0.05)
    return max(light) / min(light)


def test_whoever_hears_the_page_gets_a_name_for_all_that_can_be_used(page):
    opened(page, 0)
    kinds = {"button", "link", "combobox", "textbox", "searchbox", "spinbutton", "image", "dialog"}
    nodes = page._ask("Accessibility.getFullAXTree")["nodes"]
    page.press("Escape")
    nodes += page._ask("Accessibility.getFullAXTree")["nodes"]
    used = [n for n in nodes if not n["ignored"] and n["role"]["value"] in kinds]
    assert {node["role"]["value"] for node in used} >= {"button", "link", "combobox", "dialog"}
    assert [n["role"]["value"] for n in used if not n.get("name", {}).get("value")] == []


def test_the_printed_page_has_the_commands_and_nothing_to_click(page):
    page.media("print")
    assert texts(page, ".controls, nav, .again button") == []
    page.media("screen")
    assert len(texts(page, ".controls")) == 2


def test_without_scripts_the_page_is_read_as_it_is(run, browser):
    browser._ask("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(f"file://{run}/report.html")
        assert not browser.read("document.documentElement.dataset.ready")
        assert texts(browser, ".controls") == []
        assert len(texts(browser, "#pairs .again code")) == 8
    finally:
        browser._ask("Emulation.setScriptExecutionDisabled", value=False)


def test_text_of_the_data_runs_nothing_in_a_browser(report, browser, tmp_path):
    (tmp_path / "page.html").write_text(render_page(report))
    browser.open(f"file://{tmp_path}/page.html")
    browser.wait_for("document.documentElement.dataset.ready")
    assert browser.read("document.scripts.length") == 2
    assert browser.troubles == []
    # What got in all the same would be refused.
    browser.read(
        "(() => { const s = document.createElement('script'); s.textContent = 'window.evil = 1';"
        "document.body.append(s); const i = new Image(); i.src = 'http://127.0.0.1:9/';"
        "document.body.append(i); })()"
    )
    browser.wait_for("true")
    assert browser.read("window.evil === undefined")
    assert all("Content Security Policy" in trouble for trouble in browser.troubles)
    assert len(browser.troubles) == 2
