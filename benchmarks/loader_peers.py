"""Readers whose pins conflict with ours, as shares of the ceiling of their own environment.

    python -m venv /tmp/peer && /tmp/peer/bin/pip install litdata opencv-python-headless simplejpeg
    python benchmarks/loader.py --peer litdata=/tmp/peer/bin/python

`loader.py` runs this with the interpreter that it is given; nothing of mfsynth is imported. The
same pairs are written in the peer's own format, the files of images as they are, and decoded by
the same decoders, one by one in order, on one thread; the ceiling takes turns with it.
"""

from __future__ import annotations

import json
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import cv2
import numpy as np
import simplejpeg

Pair = dict[str, bytes]
"""The members of a pair: `rgb`, `depth`, `json`."""


def pairs_of(tars: Iterable[str]) -> Iterator[Pair]:
    for tar in tars:
        with tarfile.open(tar) as archive:
            pair: Pair = {}
            for member in archive:
                file = archive.extractfile(member)
                assert file is not None
                pair[member.name.split(".")[1]] = file.read()
                if len(pair) == 3:
                    yield pair
                    pair = {}


def decoded(pair: Pair) -> tuple[Any, Any]:
    # Some hand out views of their memory.
    depth = json.loads(bytes(pair["json"]))["depth"]
    codes: Any = cv2.imdecode(np.frombuffer(pair["depth"], np.uint8), cv2.IMREAD_UNCHANGED)
    unit = np.float32(depth["unit_per_code"])
    if depth["encoding"] == "linear":
        z = codes * unit
    else:
        z = np.float32(depth["near"]) * np.exp((codes - np.float32(1)) * unit) * (codes != 0)
    return simplejpeg.decode_jpeg(pair["rgb"], colorspace="RGB"), z


def litdata(pairs: Iterable[Pair], folder: str) -> Iterable[Pair]:
    from litdata import StreamingDataset
    from litdata.streaming.writer import BinaryWriter

    writer = BinaryWriter(folder, chunk_bytes="8MB")
    for number, pair in enumerate(pairs):
        writer[number] = pair
    writer.done()
    writer.merge()
    return StreamingDataset(folder, shuffle=False)


def streaming(pairs: Iterable[Pair], folder: str) -> Iterable[Pair]:
    from streaming import MDSWriter, StreamingDataset

    columns = dict.fromkeys(("rgb", "depth", "json"), "bytes")
    with MDSWriter(out=folder, columns=columns, size_limit="8mb") as writer:
        for pair in pairs:
            writer.write(pair)
    return StreamingDataset(local=folder, shuffle=False, batch_size=1)


def energon(run: str) -> Iterable[Pair]:
    """Of the run itself, which `mfsynth finalize --energon` made readable."""
    import megatron.energon as energon

    class Crude(energon.DefaultTaskEncoder):
        decoder = None
        cookers = (energon.Cooker(energon.stateless(lambda sample: sample)),)

    data = energon.get_train_dataset(
        run,
        batch_size=None,
        shuffle_buffer_size=None,
        max_samples_per_sequence=None,
        repeat=False,
        task_encoder=Crude(),
        worker_config=energon.WorkerConfig(rank=0, world_size=1, num_workers=0),
    )
    names = {"rgb": "rgb.jpg", "depth": "depth.png", "json": "json"}

    class Pairs:
        def __iter__(self) -> Iterator[Pair]:
            for sample in energon.get_loader(data):
                yield {name: sample[member] for name, member in names.items()}

    return Pairs()


def main(peer: str, run: str, rounds: int, tars: list[str]) -> None:
    cv2.setNumThreads(1)
    held = [*pairs_of(tars)]
    with tempfile.TemporaryDirectory() as folder:
        makers: dict[str, Callable[[], Iterable[Pair]]] = {
            "energon": lambda: energon(run),
            "litdata": lambda: litdata(held, folder),
            "streaming": lambda: streaming(held, folder),
        }
        readers = {"ceiling": held, peer: makers[peer]()}
        seconds: dict[str, list[float]] = {reader: [] for reader in readers}
        for _ in range(rounds):
            for reader, pairs in readers.items():
                begun = time.process_time()
                seen = sum(decoded(pair) is not None for pair in pairs)
                seconds[reader].append(time.process_time() - begun)
                assert seen == len(held), (reader, seen)
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:])
