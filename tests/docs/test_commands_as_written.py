"""What pages say is to be typed is done here, page by page; `reader.py` says how, and what not."""

from __future__ import annotations

import shutil

import pytest
import reader
from fenced import blocks

RUN = [
    block
    for block in blocks("sh")
    if not block.not_run and any(reader.why_not(said) is None for said, _ in reader.commands(block))
]
# Pages about a run that they don't make.
OF_KITCHEN = ("docs/how-to/training.md",)
# What must lie in the reader's folder at the end, for pages that are about that.
MADE = {
    "README.md": (
        *("out/mine/report.html", "out/mine/manifest.json", "out/hf/README.md"),
        "out/kitchen/_commits/000000.json",
    ),
    "docs/how-to/exports.md": ("out/scannet",),
    "docs/how-to/report.md": ("out/mine/report-strict.html", "mine.html"),
    "docs/how-to/resume-and-repair.md": ("pair",),
    "docs/how-to/views.md": ("out/mine/_views/unique.json", "out/mine/report-strict.html"),
}


def test_the_tutorial_leads_to_a_network(place):
    for file in (
        *("report.html", "_views/strict.json", "../desk_test/run.json"),
        "../desk_network/model/diffusion_pytorch_model.safetensors",
    ):
        assert (place / "out" / "desk" / file).is_file(), file


@pytest.mark.parametrize(
    "page", [*dict.fromkeys(block.page for block in RUN if block.page != "docs/tutorial.md")]
)
def test_what_a_page_says_is_to_be_typed_does_it(page, place, tmp_path, monkeypatch, request):
    text = "".join(block.text for block in RUN if block.page == page)
    if "hf://" in text:
        request.getfixturevalue("hub")
    if "mfsynth retexture" in text:
        request.getfixturevalue("opengl")
    folder = tmp_path / "reader"
    shutil.copytree(place, folder)
    if page in OF_KITCHEN:
        shutil.copytree(place / "out" / "mine", folder / "out" / "kitchen")
    monkeypatch.chdir(folder)
    here = {}
    if any(map(reader.joins_cluster, (b for b in RUN if b.page == page))):
        here[reader.CLUSTER] = request.getfixturevalue("cluster")
    if "s3://" in text:
        bucket = request.getfixturevalue("s3").new_bucket()
        for name in ("mine", "kitchen"):
            reader.run(["mfsynth", "copy", "out/mine", f"{bucket}/{name}"])
        here["s3://bucket"] = bucket
    if "mfsynth refilter" in text:
        shutil.rmtree(folder / "out" / "mine" / "_views")
    assert reader.follow(page, here)
    for name in MADE.get(page, ()):
        assert (folder / name).exists(), name


def test_every_word_about_commands_is_about_one():
    written = [said for block in blocks("sh") for said, _ in reader.commands(block)]
    lines = [" ".join(words) for words in written]
    texts = [block.text for block in blocks("sh")]
    sizes = {reader.size_of(words) for words in written}
    assert [s for s in reader.NOT_RUN if not any(line.startswith(s) for line in lines)] == []
    assert [said for said in reader.INSTEAD if not any(said in text for text in texts)] == []
    assert [name for name in reader.SMALL if name not in sizes] == []
