"""A real headless Chromium, driven over its own pipe: pages are clicked and read, not parsed."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PATIENCE_S = 60.0
# Where a child of the browser has its end of each pipe.
_ITS_INPUT, _ITS_OUTPUT = 3, 4
_KEYS = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "Tab": 9}


def found() -> str | None:
    """The browser of this machine; None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """Starts when it is entered; pages are opened one after the other in one tab.

    Args:
        program: Of Chromium.
        profile: An empty folder for what it keeps.
    """

    def __init__(self, program: str, profile: Path) -> None:
        self._command = [
            *(program, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking"),
            *("--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"),
        ]
        self._last = 0
        self._data = b""
        self._session: str | None = None
        self.troubles: list[str] = []
        """What pages complained of: exceptions of their scripts, and what their policy refused."""

    def __enter__(self) -> Self:
        to_it, self._out = os.pipe()
        self._in, from_it = os.pipe()
        # Out of the way of the two numbers that they are to get.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 64) for end in (to_it, from_it)]

        def place() -> None:
            os.dup2(ends[0], _ITS_INPUT)
            os.dup2(ends[1], _ITS_OUTPUT)

        self._process = subprocess.Popen(
            self._command,
            preexec_fn=place,
            pass_fds=(_ITS_INPUT, _ITS_OUTPUT),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (*ends, to_it, from_it):
            os.close(end)
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._ask(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._out)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)

    def open(self, url: str, width: int = 1400, height: int = 900, *, dark: bool = False) -> None:
        """Open a page that says `data-ready` when its script has run."""
        self.troubles.clear()
        self.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme])
        # Another fragment of the same page would be no navigation.
        self._ask("Page.navigate", url="about:blank")
        self._ask("Page.navigate", url=url)
        self.wait_for("location.href !== 'about:blank' && document.readyState === 'complete'")

    def resize(self, width: int, height: int) -> None:
        """The size of the window, in CSS pixels."""
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def media(self, kind: str) -> None:
        """Show the page as `screen` or `print` has it."""
        self._ask("Emulation.setEmulatedMedia", media=kind)

    def read(self, expression: str) -> Any:
        """The value of an expression in the page, a promise awaited."""
        answer = self._ask(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + _PATIENCE_S
        while not self.read(f"Boolean({expression})"):
            if time.monotonic() > end:
                raise AssertionError(f"{expression}: not true after {_PATIENCE_S:.0f} s")
            time.sleep(0.02)

    def click(self, selector: str) -> None:
        """A click of the mouse in the middle of what a selector finds first."""
        x, y = self.middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", clickCount=1)

    def middle(self, selector: str) -> tuple[float, float]:
        """Where the middle of an element is, once it is scrolled into sight."""
        name = json.dumps(selector)
        x, y = self.read(
            f"(() => {{ const found = document.querySelector({name});"
            "found.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const box = found.getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        return x, y

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """An event of the mouse; see `Input.dispatchMouseEvent` of Chromium's protocol."""
        self._ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def press(self, key: str) -> None:
        """A key, by its name or its letter."""
        code = _KEYS.get(key, ord(key[0].upper()))
        letter = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        for kind, more in (("keyDown", letter), ("keyUp", {})):
            self._ask(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **more
            )

    def set(self, selector: str, value: str) -> None:
        """What a reader does with a field: its value, and the events that go with it."""
        name, text = json.dumps(selector), json.dumps(value)
        self.read(
            f"(() => {{ const field = document.querySelector({name}); field.value = {text};"
            "for (const kind of ['input', 'change'])"
            "field.dispatchEvent(new Event(kind, {bubbles: true})); })()"
        )

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """A PNG of what is in sight, or of the whole page."""
        answer = self._ask("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        for answer in self._messages():
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return answer["result"]
            self._note(answer)
        raise AssertionError(f"{method}: Chromium has ended")

    def _note(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.troubles.append(json.dumps(parameters["exceptionDetails"]))
        if message.get("method") == "Log.entryAdded":
            self.troubles.append(parameters["entry"]["text"])

    def _messages(self) -> Iterator[dict[str, Any]]:
        end = time.monotonic() + _PATIENCE_S
        while True:
            *whole, self._data = self._data.split(b"\0")
            for number, each in enumerate(whole):
                # Who asks reads no further than the answer.
                self._data = b"\0".join([*whole[number + 1 :], self._data])
                yield json.loads(each)
                break
            else:
                if not select.select([self._in], [], [], max(0, end - time.monotonic()))[0]:
                    raise AssertionError(f"Chromium said nothing for {_PATIENCE_S:.0f} s")
                more = os.read(self._in, 2**20)
                if not more:
                    return
                self._data += more


@contextmanager
def browsing(folder: Path) -> Iterator[Browser]:
    """A browser with its profile in a folder."""
    program = found()
    assert program is not None, f"none of {', '.join(NAMES)}; apt-get install chromium"
    with Browser(program, folder) as browser:
        yield browser


def texts(browser: Browser, selector: str) -> Sequence[str]:
    """The texts of all elements that a selector finds and that are shown."""
    name = json.dumps(selector)
    return browser.read(
        f"[...document.querySelectorAll({name})].filter((e) => e.checkVisibility())"
        ".map((e) => e.textContent.trim())"
    )
