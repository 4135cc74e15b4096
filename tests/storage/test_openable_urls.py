"""A document may name any URL; only plain ones of known protocols are opened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mfsynth.config.documents import opened
from mfsynth.errors import MfsynthError
from mfsynth.sources.tars import TarFile, find_tars
from mfsynth.storage.protocols import PROTOCOLS_VARIABLE, is_on_this_machine, require_openable
from mfsynth.storage.store import ObjectStore

CHAINED = [
    "reference://::/tmp/references.json",
    "simplecache::s3://bucket/prompts.txt",
    "zip://prompts.txt::https://example.com/a.zip",
    "filecache::/etc/passwd",
]
OTHER = [
    "reference://prompts.txt",
    "http://169.254.169.254/latest/meta-data",
    "github://me:repo@/prompts.txt",
    "dask://worker/file",
    "S3://bucket/prompts.txt",
    "data://text/plain,a",
    "ftp://example.com/prompts.txt",
]


def open_document(url: str) -> object:
    with opened(url, "prompt file") as stream:
        return stream


@pytest.mark.parametrize("url", [*CHAINED, *OTHER])
@pytest.mark.parametrize("door", [open_document, find_tars, ObjectStore.open])
def test_no_door_opens_chains_or_protocols_that_are_not_known(door, url):
    if door == ObjectStore.open and "://" not in url:
        # To a store it is the name of a folder, and nothing else can become of it.
        assert str(door(url).local_root).endswith(url)
        return
    with pytest.raises(MfsynthError, match=r"are not opened|chained"):
        door(url)


@pytest.mark.parametrize("door", [open_document, find_tars])
def test_documents_are_no_chains_of_paths_either(door):
    with pytest.raises(MfsynthError, match="chained"):
        door("/data/a::b.txt")


def test_a_store_in_an_absolute_path_is_there_whatever_its_name():
    assert ObjectStore.open("/data/a::b").url == "/data/a::b"


@pytest.mark.parametrize(
    "url",
    [
        "out/run",
        "/out/run",
        "a:b",
        "file:///out/run",
        "s3://bucket/run",
        "gs://bucket/run",
        "abfs://container/run",
        "https://example.com/prompts.txt",
        "memory://run",
    ],
)
def test_paths_and_the_usual_protocols_are_opened(url):
    require_openable(url)


def test_the_user_may_name_more_protocols_but_no_chains(monkeypatch):
    monkeypatch.setenv(PROTOCOLS_VARIABLE, "hdfs, sftp")
    require_openable("hdfs://node/prompts.txt")
    require_openable("sftp://host/prompts.txt")
    for url in ("ftp://host/prompts.txt", "hdfs://x::sftp://y"):
        with pytest.raises(MfsynthError, match="not opened"):
            require_openable(url)


def test_the_refusal_says_what_to_do_and_shows_no_password():
    with pytest.raises(MfsynthError) as refused:
        require_openable("hdfs://me:secret@node/prompts.txt")
    assert "secret" not in str(refused.value)
    assert "MFSYNTH_PROTOCOLS=hdfs" in str(refused.value)


def test_a_tar_of_a_pattern_is_on_the_machine_or_where_the_pattern_says(tmp_path: Path):
    assert find_tars(str(tmp_path / "{a,b}.tar")) == [
        TarFile(url, url) for url in (f"{tmp_path}/a.tar", f"{tmp_path}/b.tar")
    ]
    with pytest.raises(MfsynthError, match="not opened"):
        find_tars("{s3,dask}://bucket/a.tar")


def test_a_path_with_and_without_a_scheme_is_on_this_machine():
    here = ["/a", "a", "file:///a", "local://a"]
    assert all(map(is_on_this_machine, here))
    assert not any(map(is_on_this_machine, ["s3://a/b", "https://a/b", "memory://a"]))


def test_a_template_in_references_runs_nothing(tmp_path: Path):
    """What was seen with fsspec 2025.9: a shell command, by a file of prompts."""
    ran = tmp_path / "ran"
    code = "{{ cycler.__init__.__globals__.os.system('touch " + str(ran) + "') }}"
    references = tmp_path / "references.json"
    refs = {"prompts.txt": ["{{ f() }}"]}
    references.write_text(json.dumps({"version": 1, "templates": {"f": code}, "refs": refs}))
    chained = f"reference://prompts.txt::file://{references}"
    with pytest.raises(MfsynthError, match="chained"):
        open_document(chained)
    assert not ran.exists()


def test_the_fsspec_that_is_installed_runs_templates_in_a_sandbox():
    from fsspec.implementations import reference

    text = Path(reference.__file__).read_text()
    assert "SandboxedEnvironment" in text
    assert "jinja2.Template(" not in text
