"""An S3 endpoint on loopback: moto behind a small proxy that counts requests and harms them."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from types import TracebackType

import aiohttp
import fsspec
from aiohttp import web
from moto.server import ThreadedMotoServer
from yarl import URL

SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIAWHOMAYNOTBESEEN",
    "AWS_SECRET_ACCESS_KEY": "sesame/open+0123456789",
    "AWS_SESSION_TOKEN": "token-that-nobody-may-see",
}
# What the connection says, not the message.
_HOP_BY_HOP = {"host", "connection", "keep-alive", "transfer-encoding", "date", "server"}


@dataclass(frozen=True, slots=True)
class Answer:
    """An error of S3; the answer to a HEAD request has no body, as on S3."""

    status: int
    code: str


SLOW_DOWN = Answer(503, "SlowDown")
INTERNAL_ERROR = Answer(500, "InternalError")
EXPIRED = Answer(400, "ExpiredToken")
CONFLICT = Answer(409, "ConditionalRequestConflict")


@dataclass(slots=True)
class Faults:
    """What befalls requests. Each function is asked with the kind of the request.

    Attributes:
        refuse: An error to answer with instead of carrying the request out, or None.
        lose: Whether the connection breaks when the request was carried out.
        ignore_conditions: Whether If-None-Match is overlooked.
    """

    refuse: Callable[[str], Answer | None] = lambda kind: None
    lose: Callable[[str], bool] = lambda kind: False
    ignore_conditions: bool = False


def some_fail(share: float, seed: int) -> Callable[[str], Answer | None]:
    """Refuse a share of the requests, half of them as throttled."""
    dice = Random(seed)

    def refuse(kind: str) -> Answer | None:
        if dice.random() >= share:
            return None
        return dice.choice((SLOW_DOWN, INTERNAL_ERROR))

    return refuse


@dataclass
class S3Server:
    """The endpoint, as a context manager.

    Attributes:
        faults: What befalls requests from now on.
        requests: How many there were, by kind, the refused ones included.
    """

    faults: Faults = field(default_factory=Faults)
    requests: Counter[str] = field(default_factory=Counter)
    url: str = ""
    _buckets: int = 0
    _in_flight: int = 0

    def __enter__(self) -> S3Server:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._moto.start()
        self._backend = URL("http://{}:{}".format(*self._moto.get_host_and_port()))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.url = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(60)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._moto.stop()

    @property
    def environment(self) -> Mapping[str, str]:
        """What a user would set to reach a store that is not Amazon's."""
        return {"AWS_ENDPOINT_URL": self.url, "AWS_DEFAULT_REGION": "us-east-1", **SECRETS}

    def new_bucket(self) -> str:
        """URL of an empty bucket that nobody has used."""
        self._buckets += 1
        name = f"bucket-{self._buckets}"
        fsspec.filesystem("s3").mkdir(name)
        return f"s3://{name}"

    def remove_bucket(self, url: str) -> None:
        """Remove a bucket with all that is in it."""
        fsspec.filesystem("s3").rm(url, recursive=True)

    def begin_upload(self, url: str, key: str) -> None:
        """Open an upload in parts and never end it, as a killed writer."""
        begin = fsspec.filesystem("s3").call_s3
        begin("create_multipart_upload", Bucket=url.removeprefix("s3://"), Key=key)

    @contextmanager
    def harmed_by(self, faults: Faults) -> Iterator[Counter[str]]:
        """Have `faults` inside of the `with`; gives the counts of the requests made there."""
        self.requests, self.faults = Counter(), faults
        try:
            yield self.requests
        finally:
            self.faults = Faults()

    def settle(self) -> None:
        """Wait until what killed clients have sent is carried out."""
        while self._in_flight:
            time.sleep(0.001)

    async def _start(self) -> str:
        # moto looks whether a key exists and then writes it; S3 does both at once.
        self._conditional = asyncio.Lock()
        self._session = aiohttp.ClientSession(
            auto_decompress=False, connector=aiohttp.TCPConnector(force_close=True)
        )
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{key:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return "http://{}:{}".format(*self._runner.addresses[0][:2])

    async def _stop(self) -> None:
        await self._session.close()
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        self._in_flight += 1
        try:
            kind = kind_of(request)
            self.requests[kind] += 1
            body = await request.read()
            faults = self.faults
            if (answer := faults.refuse(kind)) is not None:
                return _refusal(answer, request.method)
            response = await self._forward(request, body, faults.ignore_conditions)
            if faults.lose(kind) and request.transport is not None:
                request.transport.abort()
            return response
        finally:
            self._in_flight -= 1

    async def _forward(self, request: web.Request, body: bytes, blind: bool) -> web.Response:
        dropped = _HOP_BY_HOP | ({"if-none-match"} if blind else set())
        headers = {k: v for k, v in request.headers.items() if k.lower() not in dropped}
        target = URL(f"{self._backend}{request.raw_path}", encoded=True)
        conditional = "If-None-Match" in headers
        if conditional:
            await self._conditional.acquire()
        try:
            async with self._session.request(
                request.method, target, headers=headers, data=body
            ) as response:
                return web.Response(
                    status=response.status,
                    body=await response.read() or None,
                    headers={
                        k: v for k, v in response.headers.items() if k.lower() not in _HOP_BY_HOP
                    },
                )
        finally:
            if conditional:
                self._conditional.release()


def kind_of(request: web.Request) -> str:
    """What a request asks of S3, in a word or two."""
    asked = request.query
    match request.method:
        case "GET" if "uploads" in asked:
            return "list uploads"
        case "GET" if "list-type" in asked:
            return "list"
        case "POST" if "uploads" in asked:
            return "begin upload"
        case "POST" if "uploadId" in asked:
            return "complete upload"
        case "PUT" if "uploadId" in asked:
            return "part"
        case "PUT" if "If-None-Match" in request.headers:
            return "create"
        case "DELETE" if "uploadId" in asked:
            return "abort upload"
    return request.method.lower()


def _refusal(answer: Answer, method: str) -> web.Response:
    text = f"<Error><Code>{answer.code}</Code><Message>{answer.code} of a test</Message></Error>"
    body = None if method == "HEAD" else text
    return web.Response(status=answer.status, text=body, content_type="application/xml")
