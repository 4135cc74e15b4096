"""What it costs to resume a run on S3, in seconds and requests, as a Markdown table.

    python benchmarks/object_store.py [--commits 15625] [--latency 0,20,100] [--moto]

A new process opens the store, opens the run and reads its commits, as a driver does before it
starts workers: from segments, and once more one by one. The store answers on loopback from another
process. It is a minimal one of this script, which knows only what is needed here and answers as
late as it is told: moto, which the tests use, needs longer for an answer than the client does for
a question (`--moto` shows it).

Seconds and CPU are those of the client from the first line that touches the store; the
interpreter's start and the imports of mfsynth are not in them, those of s3fs are.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import click
import fsspec
from aiohttp import ClientSession, web
from resuming import MANIFEST, kept_run, receipt_of

from mfsynth.shards import layout
from mfsynth.shards.commits import read_commits
from mfsynth.shards.drivers import read_known_commits
from mfsynth.shards.run_manifest import open_run
from mfsynth.storage.store import ObjectStore

PAGE = 1000
BUCKET = "bench"
URL = f"s3://{BUCKET}/run"
WRITERS = 16
MOTO_COMMITS = 500

# --- A store --------------------------------------------------------------------------------


@dataclass
class MinimalS3:
    """Objects in memory, listed in pages; latency in seconds."""

    latency: float
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    most_in_flight: int = 0

    async def answer(self, request: web.Request) -> web.Response:
        if request.path == "/-/latency":
            self.latency = float(request.query["seconds"])
            self.requests.clear()
            self.most_in_flight = 0
            return web.Response()
        if request.path == "/-/requests":
            return web.json_response({**self.requests, "in flight": self.most_in_flight})
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.latency)
            return await self._answer(request)
        finally:
            self.in_flight -= 1

    async def _answer(self, request: web.Request) -> web.Response:
        key = request.path.removeprefix(f"/{BUCKET}/")
        if request.method == "GET" and "list-type" in request.query:
            self.requests["list"] += 1
            return self._page(request.query)
        self.requests[request.method.lower()] += 1
        if request.method == "PUT":
            if "If-None-Match" in request.headers and key in self.objects:
                return _error(412, "PreconditionFailed")
            self.objects[key] = await request.read()
            return web.Response(headers={"ETag": '"0"'})
        if key not in self.objects:
            return _error(404, "NoSuchKey")
        modified = {"ETag": '"0"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        return web.Response(body=self.objects[key], headers=modified)

    def _page(self, asked: Any) -> web.Response:
        after, prefix = asked.get("continuation-token", ""), asked.get("prefix", "")
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
        page, more = keys[:PAGE], len(keys) > PAGE
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.objects[key])}</Size>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>0</ETag></Contents>"
            for key in page
        )
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        return web.Response(
            text=f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>"
            f"<KeyCount>{len(page)}</KeyCount>{token}{rows}</ListBucketResult>",
            content_type="application/xml",
        )


def _error(status: int, code: str) -> web.Response:
    text = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
    return web.Response(status=status, text=text, content_type="application/xml")


def serve_minimal(port: Connection, folder: Path) -> None:
    """What lies in a folder, as the run."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    objects = {f"run/{path.relative_to(folder)}": path.read_bytes() for path in files}

    async def serve() -> None:
        app = web.Application()
        app.router.add_route("*", "/{key:.*}", MinimalS3(0.0, objects).answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(serve())


def serve_moto(port: Connection) -> None:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    port.send(server.get_host_and_port()[1])
    assert server._thread is not None
    server._thread.join()


@contextmanager
def serving(server: Any, *given: Any) -> Iterator[str]:
    """URL of a server in another process."""
    here, there = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=server, args=(there, *given), daemon=True)
    process.start()
    url = f"http://127.0.0.1:{here.recv()}"
    os.environ.update(
        AWS_ENDPOINT_URL=url,
        AWS_ACCESS_KEY_ID="bench",
        AWS_SECRET_ACCESS_KEY="bench",
        AWS_DEFAULT_REGION="us-east-1",
    )
    fsspec.filesystem("s3").clear_instance_cache()
    try:
        yield url
    finally:
        process.terminate()
        process.join()


def ask(url: str) -> bytes:
    async def get() -> bytes:
        async with ClientSession() as session, session.get(url) as response:
            return await response.read()

    return asyncio.run(get())


# --- The measurement ------------------------------------------------------------------------


def write(commits: int) -> None:
    store = ObjectStore.open(URL)
    open_run(store, MANIFEST)

    def commit(shard: int) -> None:
        key, text = layout.commit_key(shard), receipt_of(shard).to_json()
        assert store.create_if_absent(key, text.encode())

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(commit, range(commits)))


def resume_here(one_by_one: bool) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    store = ObjectStore.open(URL)
    open_run(store, MANIFEST)
    receipts = read_commits(store, from_segments=False) if one_by_one else read_known_commits(store)
    commits = len(receipts)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"commits": commits, "wall": wall, "cpu": cpu}))


def resume(commits: int, *options: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--resume", *options]
    found: dict[str, float] = json.loads(subprocess.check_output(command))
    assert found["commits"] == commits
    return found


@click.command()
@click.option("--commits", default=15_625, show_default=True)
@click.option("--latency", default="0,20,100", show_default=True, help="Milliseconds, several.")
@click.option("--folder", type=Path, help="Of a run to keep, and to use if it is there.")
@click.option("--moto", is_flag=True, help="Also against moto, with fewer commits.")
@click.option("--resume", "is_resume", is_flag=True, hidden=True)
@click.option("--one-by-one", is_flag=True, hidden=True)
def main(
    commits: int, latency: str, folder: Path | None, moto: bool, is_resume: bool, one_by_one: bool
) -> None:
    """Measure what it costs to resume a run on S3."""
    if is_resume:
        resume_here(one_by_one)
        return
    print(
        "| store | commits | read from | answers after ms | seconds to resume "
        "| CPU s of the client | list requests | other requests | at once |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    kinds = [("segments", float(text)) for text in latency.split(",")] + [("receipts", 0.0)]
    with ExitStack() as stack:
        run = stack.enter_context(kept_run(folder, commits))
        url = stack.enter_context(serving(serve_minimal, run))
        for kind, late in kinds:
            ask(f"{url}/-/latency?seconds={late / 1e3}")
            found = resume(commits, *(["--one-by-one"] if kind == "receipts" else []))
            requests = json.loads(ask(f"{url}/-/requests"))
            at_once, lists = requests.pop("in flight"), requests.pop("list")
            print(
                f"| minimal | {commits} | {kind} | {late:g} | {found['wall']:.1f} "
                f"| {found['cpu']:.1f} | {lists} | {sum(requests.values())} | {at_once} |",
                flush=True,
            )
    if moto:
        with serving(serve_moto):
            fsspec.filesystem("s3").mkdir(BUCKET)
            write(MOTO_COMMITS)
            found = resume(MOTO_COMMITS)
            wall, cpu = found["wall"], found["cpu"]
            print(f"| moto | {MOTO_COMMITS} | receipts | – | {wall:.1f} | {cpu:.1f} | | | |")


if __name__ == "__main__":
    main()
