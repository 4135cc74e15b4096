"""An endpoint of Azure's blobs on loopback: Azurite, with accounts and containers of its own."""

from __future__ import annotations

import base64
import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import fsspec

FOLDER = Path(__file__).with_name("azurite")
SERVER = FOLDER / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
ACCOUNT = "accountthatmaybeseen"
KEY = base64.b64encode(b"a key that nobody may see, of 64 bytes as those of Azure are....").decode()
PATIENCE_S = 120


def lacking() -> str | None:
    """What must be installed to have the endpoint; None if nothing."""
    if importlib.util.find_spec("adlfs") is None:
        return 'adlfs is not installed: pip install "mfsynth[azure]"'
    if shutil.which("node") is None:
        return "Azurite needs Node.js: install node and npm"
    if not SERVER.exists():
        return f"Azurite is not installed: run `npm ci` in {FOLDER}"
    return None


@dataclass
class AzureServer:
    """The endpoint, as a context manager. What it stores is in its memory alone."""

    folder: Path

    def __enter__(self) -> AzureServer:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        command = ["node", str(SERVER), "--inMemoryPersistence", "--silent", "--disableTelemetry"]
        command += ["--skipApiVersionCheck", "--blobHost", "127.0.0.1"]
        command += ["--blobPort", str(self._port)]
        accounts = {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}
        with (self.folder / "azurite.txt").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | accounts,
                cwd=self.folder,
            )
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
                return self
            except OSError:
                assert self._process.poll() is None, (self.folder / "azurite.txt").read_text()
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
        """What a user would set to reach an endpoint that is not Azure's."""
        return {"AZURE_STORAGE_CONNECTION_STRING": self.connection_string(KEY)}

    def connection_string(self, key: str) -> str:
        """What names the endpoint, the account and the account's key."""
        account = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={key};"
        return f"{account}BlobEndpoint=http://127.0.0.1:{self._port}/{ACCOUNT};"

    def new_bucket(self) -> str:
        """URL of an empty container that nobody has used."""
        name = f"container-{secrets.token_hex(4)}"
        fsspec.filesystem("abfs").mkdir(name)
        return f"abfs://{name}"

    def remove_bucket(self, url: str) -> None:
        """Remove a container with all that is in it."""
        self._container(url).delete_container()

    def begin_upload(self, url: str, key: str) -> None:
        """Upload a block that no list of blocks makes part of an object, as a killed writer."""
        blob = self._container(url).get_blob_client(key)
        blob.stage_block(base64.b64encode(b"block-1").decode(), b"half of it")

    def _container(self, url: str) -> Any:
        from azure.storage.blob import ContainerClient

        name = url.removeprefix("abfs://")
        return ContainerClient.from_connection_string(self.connection_string(KEY), name)
