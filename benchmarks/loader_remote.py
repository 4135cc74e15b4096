"""Reading a run of an object store against webdataset over HTTP, as a Markdown table.

    python benchmarks/loader_remote.py [--pairs 256] [--side 256] [--rounds 5]

The pairs of `loader.py` lie in moto's S3 on loopback, a process of its own. mfsynth's loader reads
them from there by ranges, webdataset the same objects by signed HTTP addresses, whole, with curl.
All with the same decoders, in batches, taking turns; medians over rounds. One thread decodes, and
webdataset has a curl beside it that fetches; in the row of two threads one of ours fetches while
the other decodes, as a loader does unless `workers` says otherwise. CPU seconds are those of the
reader and its child processes, not the server's; pairs a second are of wall time, which hangs on
what else the machine does.
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import fsspec
from loader import ceiling_of, mfsynth_loader, webdataset_loader, write_run

from mfsynth.shards.commits import read_commits

BUCKET = "bench"


@contextmanager
def s3_on_loopback() -> Iterator[None]:
    """An S3 with an empty bucket, which the environment names meanwhile."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    os.environ |= {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [sys.executable, "-m", "moto.server", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                urllib.request.urlopen(endpoint).close()
                break
            except urllib.error.URLError:
                if server.poll() is not None:
                    raise
                time.sleep(0.1)
        fsspec.filesystem("s3").mkdir(BUCKET)
        yield
    finally:
        server.terminate()
        server.wait()


def cpu_seconds() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=256)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    with s3_on_loopback():
        store = write_run(f"s3://{BUCKET}/run", args.pairs, args.side)
        keys = [receipt.objects["tar"].key for receipt in read_commits(store).values()]
        tars = [fsspec.filesystem("s3").sign(f"{BUCKET}/run/{key}") for key in keys]
        readers = {
            "ceiling": ceiling_of(tars),
            "mfsynth, S3, in order": mfsynth_loader(store.url, shuffle=False),
            "mfsynth, S3, shuffled by blocks": mfsynth_loader(store.url),
            "mfsynth, S3, shuffled by blocks, two threads": mfsynth_loader(store.url, workers=2),
            "webdataset, HTTP, batches": webdataset_loader(tars, batched=True),
        }
        cpu: dict[str, list[float]] = {reader: [] for reader in readers}
        wall: dict[str, list[float]] = {reader: [] for reader in readers}
        for _ in range(args.rounds):
            for reader, read in readers.items():
                begun, at = cpu_seconds(), time.perf_counter()
                read()
                cpu[reader].append(cpu_seconds() - begun)
                wall[reader].append(time.perf_counter() - at)
    print(f"{args.pairs} pairs of {args.side}x{args.side}\n")
    print("| reader | pairs a CPU second | of the ceiling | pairs a second |")
    print("|---|---|---|---|")
    for reader, took in cpu.items():
        share = statistics.median(a / b for a, b in zip(cpu["ceiling"], took, strict=True))
        rate, of_wall = (args.pairs / statistics.median(s) for s in (took, wall[reader]))
        print(f"| {reader} | {rate:.0f} | {share:.0%} | {of_wall:.0f} |")


if __name__ == "__main__":
    main()
