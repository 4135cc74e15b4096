"""The Hugging Face hub's API for data sets, as far as uploads by its own client ask for it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_loopbackTokenOfNobody"


class HubServer:
    """One hub on loopback; files of each repository as its last commit has them.

    Attributes:
        url: For `HF_ENDPOINT`.
        repositories: By name, `private` and `files`.
        uploads: SHA-256 of each large file that was sent, in order.
        commits: Of all repositories, what each brought and removed.
        refuse_uploads_from: Of this number on large files are refused; None to take all.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, Any]] = {}
        self.uploads: list[str] = []
        self.commits: list[dict[str, list[str]]] = []
        self.refuse_uploads_from: int | None = None
        self._blobs: dict[str, bytes] = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                hub._get(self)

            def do_HEAD(self) -> None:
                hub._get(self)

            def do_POST(self) -> None:
                hub._post(self, self._body())

            def do_PUT(self) -> None:
                hub._put(self, self._body())

            def _body(self) -> bytes:
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _get(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        if match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(/(?:tree|revision)/main)?", path):
            repository = self._find(request, match[1])
            if repository is None:
                return
            if match[2] == "/tree/main":
                files = [
                    {"type": "file", "path": name, "size": len(data), "oid": _oid(data)}
                    for name, data in repository["files"].items()
                ]
                return _answer(request, files)
            about = {"id": match[1], "private": repository["private"], "sha": "0" * 40}
            siblings = [{"rfilename": name} for name in repository["files"]]
            return _answer(request, about | {"siblings": siblings})
        if match := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            repository = self._find(request, match[1])
            if repository is None:
                return
            data = repository["files"][match[2]]
            headers = {"ETag": f'"{_oid(data)}"', "X-Repo-Commit": "0" * 40}
            return _send(request, 200, data, headers)
        _answer(request, {"error": "no such page"}, 404)

    def _post(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        path = request.path.partition("?")[0]
        if not self._is_allowed(request):
            return
        if path == "/api/validate-yaml":
            return _answer(request, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            about = json.loads(body)
            name = f"{about['organization']}/{about['name']}"
            private = about.get("visibility", "private" if about.get("private") else "public")
            self.repositories.setdefault(name, {"private": private == "private", "files": {}})
            return _answer(request, {"url": f"{self.url}/datasets/{name}"})
        if match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/preupload/main", path):
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".parquet") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            return _answer(request, {"files": files})
        if re.fullmatch(r"/datasets/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            objects = [
                {"oid": each["oid"], "size": each["size"]}
                | (
                    {}
                    if each["oid"] in self._blobs
                    else {"actions": {"upload": {"href": f"{self.url}/lfs/{each['oid']}"}}}
                )
                for each in json.loads(body)["objects"]
            ]
            return _answer(request, {"transfer": "basic", "objects": objects})
        if match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/commit/main", path):
            self._commit(match[1], [json.loads(line) for line in body.splitlines()])
            oid = "0" * 40
            url = f"{self.url}/datasets/{match[1]}/commit/{oid}"
            return _answer(request, {"commitUrl": url, "commitOid": oid})
        _answer(request, {"error": "no such page"}, 404)

    def _put(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        refused_from = self.refuse_uploads_from
        if refused_from is not None and len(self.uploads) >= refused_from:
            return _answer(request, {"error": f"no more room for {TOKEN}"}, 403)
        oid = request.path.rpartition("/")[2]
        assert hashlib.sha256(body).hexdigest() == oid
        self.uploads.append(oid)
        self._blobs[oid] = body
        _answer(request, {})

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        files = self.repositories[name]["files"]
        done: dict[str, list[str]] = {"brought": [], "removed": []}
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "deletedFile":
                del files[value["path"]]
                done["removed"].append(value["path"])
                continue
            is_large = line["key"] == "lfsFile"
            data = self._blobs[value["oid"]] if is_large else base64.b64decode(value["content"])
            files[value["path"]] = data
            done["brought"].append(value["path"])
        self.commits.append(done)

    def _find(self, request: BaseHTTPRequestHandler, name: str) -> dict[str, Any] | None:
        if not self._is_allowed(request):
            return None
        if name not in self.repositories:
            _answer(request, {"error": "no such repository"}, 404, code="RepoNotFound")
        return self.repositories.get(name)

    def _is_allowed(self, request: BaseHTTPRequestHandler) -> bool:
        if request.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        _answer(request, {"error": "who are you?"}, 401)
        return False


def _oid(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def _answer(
    request: BaseHTTPRequestHandler, value: object, status: int = 200, code: str = ""
) -> None:
    headers = {"Content-Type": "application/json"} | ({"X-Error-Code": code} if code else {})
    _send(request, status, json.dumps(value).encode(), headers)


def _send(
    request: BaseHTTPRequestHandler, status: int, data: bytes, headers: dict[str, str]
) -> None:
    request.send_response(status)
    for name, value in (headers | {"Content-Length": str(len(data))}).items():
        request.send_header(name, value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(data)
