from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mfsynth.config import PromptsConfig
from mfsynth.errors import MfsynthError
from mfsynth.prompts import Grammar, PromptSource, open_prompts

Write = Callable[[str, str], str]

TEXTS = ["a red cube", "two mugs, one “blue”", "a bowl"]


def _open(path: str | Path, column: str = "prompt") -> PromptSource:
    return open_prompts(PromptsConfig(file=str(path), column=column), seed=0)


def _error(path: str | Path, column: str = "prompt") -> str:
    with pytest.raises(MfsynthError) as caught:
        _open(path, column)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(path), "FILE")


def _all_formats(folder: Path) -> list[Path]:
    (folder / "p.txt").write_text("\n".join([TEXTS[0], "", *TEXTS[1:]]) + "\n")
    (folder / "crlf.txt").write_bytes("\r\n".join(TEXTS).encode("utf-8-sig"))
    (folder / "p.jsonl").write_text("\n".join(json.dumps({"prompt": text}) for text in TEXTS))
    (folder / "p.jsonl.gz").write_bytes(gzip.compress((folder / "p.jsonl").read_bytes()))
    (folder / "p.csv").write_text('id,prompt\n1,a red cube\n2,"two mugs, one “blue”"\n3,a bowl\n')
    pq.write_table(pa.table({"prompt": TEXTS, "id": [1, 2, 3]}), folder / "p.parquet")
    return [path for path in sorted(folder.iterdir()) if path.is_file()]


def test_all_formats_give_the_same_prompts_and_digest(tmp_path: Path) -> None:
    sources = [_open(path) for path in _all_formats(tmp_path)]
    assert len(sources) == 6
    assert len({source.digest for source in sources}) == 1
    for source in sources:
        assert source.size == 3
        assert [source.prompt(i).text for i in range(7)] == [*TEXTS, *TEXTS, TEXTS[0]]
        assert source.prompt(0).slots == {}
        assert source.prompt(0).prompt_id == "9f967626aad36812"


def test_files_are_read_from_any_url(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for path in _all_formats(tmp_path):
        memory.pipe_file(f"/prompts/{path.name}", path.read_bytes())
        assert _open(f"memory://prompts/{path.name}").prompt(1).text == TEXTS[1]


def test_the_column_can_be_named(write: Write) -> None:
    assert _open(write("p.csv", "caption\na mug\n"), "caption").prompt(0).text == "a mug"


def test_the_digest_tells_rows_their_order_and_their_borders_apart(write: Write) -> None:
    texts = ["a\nb", "b\na", "a b", "ab"]
    assert len({_open(write("p.txt", text)).digest for text in texts}) == 4


def test_a_library_is_opened_with_the_seed_of_the_run() -> None:
    source = open_prompts(PromptsConfig(library="tabletop"), seed=7)
    assert isinstance(source, Grammar)
    assert source.seed == 7


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.txt", "", "FILE: prompt file has no prompts"),
        ("p.txt", "\n  \n", "FILE: prompt file has no prompts"),
        ("p.jsonl", "", "FILE: prompt file has no prompts"),
        ("p.csv", "", "FILE: prompt file has no prompts"),
        ("p.csv", "prompt\n", "FILE: prompt file has no prompts"),
        ("p.jsonl", '{"prompt": "x"}\n{"prompt": ', "FILE:2: not valid JSON"),
        ("p.jsonl", '["x"]', "FILE:1: not a JSON object"),
        (
            "p.jsonl",
            '{"promt": "x"}',
            "FILE:1: no column 'prompt'; set prompts.column; did you mean",
        ),
        ("p.jsonl", '{"prompt": null}', "FILE:1: the prompt is None, not a text"),
        ("p.jsonl", '{"prompt": " "}', "FILE:1: the prompt is empty"),
        ("p.jsonl", '{"prompt": "\\ud800"}', "FILE:1: not valid JSON (half a character (\\ud800)"),
        ("p.csv", "id,text\n1,x\n", "FILE: no column 'prompt'; set prompts.column; "),
        ("p.csv", "id,prompt\n1\n", "FILE:2: 1 fields, but 2 columns"),
        ("p.csv", "id,prompt\n\n1,a red cube, and a mug\n", "FILE:3: 3 fields, but 2 columns"),
        ("p.csv", 'id,prompt\n1,"a\nb"\n2,c,d\n', "FILE:4: 3 fields, but 2 columns"),
        ("p.csv", "prompt,id,prompt\nx,1,y\n", "FILE:1: the column 'prompt' is there twice"),
        ("p.csv", "prompt,id,id\nx,1,2\n", "FILE:1: the column 'id' is there twice"),
        ("p.csv", ",prompt\n0,x\n", "FILE:1: column 1 has no name; give it one"),
        ("p.csv", "prompt, \nx,\n", "FILE:1: column 2 has no name; give it one"),
        (
            "p.jsonl",
            '{"prompt": "x"}\n\n{"prompt": "y", "prompt": "z"}',
            "FILE:3: not valid JSON (the key 'prompt' is there twice)",
        ),
        (
            "p.jsonl",
            '{"prompt": "x", "about": [{"id": 1, "id": 1}]}',
            "FILE:1: not valid JSON (the key 'id' is there twice)",
        ),
        ("p.csv", "id,prompt\n1,\n", "FILE:2: the prompt is empty"),
        ("p.csv", 'id,prompt\n1,"x\n', "FILE:2: not valid CSV"),
        ("p.parquet", "PAR0", "FILE: not a readable Parquet file"),
        ("p.parquet", "", "FILE: not a readable Parquet file"),
        ("p.jsonl.gz", "{}", "FILE: prompt file cannot be read (EOFError)"),
        ("p.doc", "x", "FILE: not a prompt file; it must end in .txt, .jsonl, .csv, .parquet"),
    ],
)
def test_each_mistake_is_one_line_with_file_and_row(
    write: Write, name: str, text: str, message: str
) -> None:
    assert message in _error(write(name, text))


def test_a_missing_column_of_a_parquet_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"prompts": TEXTS}), path)
    assert "FILE: no column 'prompt'; set prompts.column; did you mean prompts?" in _error(path)


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    names = ["prompt", "id", "prompt"]
    pq.write_table(pa.Table.from_arrays([pa.array(TEXTS)] * 3, names=names), path)
    assert _error(path) == "FILE: the column 'prompt' is there twice; rename one"
    assert _open(path, "id").prompt(0).text == TEXTS[0]


@pytest.mark.parametrize(
    ("names", "refused"),
    [(["p.txt"], False), (["p.txt", "q.txt"], True), (["a/", "a/p.txt"], True), ([], True)],
)
def test_of_a_zip_with_several_files_none_is_taken(
    tmp_path: Path, names: list[str], refused: bool
) -> None:
    path = tmp_path / "p.txt.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "" if name.endswith("/") else "a bowl\n")
    if refused:
        assert _error(path).startswith(f"FILE: a zip with {len(names)} entries; prompt file must")
    else:
        assert _open(path).prompt(0).text == "a bowl"


def test_a_missing_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("p.txt", "p.parquet"):
        assert _error(tmp_path / name) == "FILE: prompt file not found; check the path"
        sought = f"FILE: prompt file not found in {tmp_path}; check the path"
        assert _error(Path(name)) == sought


def test_messages_never_show_credentials() -> None:
    with pytest.raises(MfsynthError) as caught:
        _open("memory://user:secret@nowhere/p.txt?token=secret")
    assert "secret" not in str(caught.value)
