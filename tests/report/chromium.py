"""A headless Chromium that a test drives over its own debugging protocol, by two pipes: no driver, no port."""

import contextlib
import json
import os
import select
import shutil
import subprocess
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def path() -> str | None:
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One page. errors: what its console was told of errors. requests: the addresses that it asked for."""

    def __init__(self, folder, seconds: float = 60.0):
        self.seconds, self.number, self.buffer = seconds, 0, b""
        self.errors, self.requests = [], []
        (read, theirs), (read_theirs, write) = os.pipe(), os.pipe()
        os.set_inheritable(read_theirs, True)
        os.set_inheritable(theirs, True)
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        command = [
            path(),
            *flags,
            "--disable-background-networking",
            f"--user-data-dir={folder}",
            "--remote-debugging-pipe",
        ]
        # Chromium reads its orders from descriptor 3 and answers on 4
        shell = f'exec "$@" 3<&{read_theirs} 4>&{theirs}'
        self.process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *command, "about:blank"],
            pass_fds=(read_theirs, theirs),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_theirs)
        os.close(theirs)
        self.read, self.write, self.session = read, write, None
        target = next(t for t in self.send("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params) -> dict:
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def _next(self) -> dict:
        until = time.monotonic() + self.seconds
        while b"\0" not in self.buffer:
            ready, *_ = select.select([self.read], [], [], max(0.0, until - time.monotonic()))
            piece = os.read(self.read, 1 << 16) if ready else b""
            if not piece:
                raise RuntimeError("Chromium does not answer")
            self.buffer += piece
        message, _, self.buffer = self.buffer.partition(b"\0")
        message = json.loads(message)
        kind, params = message.get("method"), message.get("params", {})
        if kind == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"]["text"])
        elif kind == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])
        elif kind == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.errors.append(str(params["args"]))
        elif kind == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        return message

    def open(self, file, width: int = 1100, dark: bool = False) -> None:
        """Show a file and wait until it is loaded."""
        self.errors.clear()
        self.requests.clear()
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send("Page.navigate", url=f"file://{file}")
        until = time.monotonic() + self.seconds
        while self.js("location.protocol + document.readyState") != "file:complete":
            assert time.monotonic() < until, "the page does not load"
            time.sleep(0.02)

    def js(self, code: str):
        """The value of an expression in the page."""
        found = self.send("Runtime.evaluate", expression=code, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"]["description"])
        return found["result"].get("value")

    def point(self, selector: str, press: bool = False, x: float = 0.5, y: float = 0.5) -> None:
        """Move the pointer to a place in an element, and press there."""
        box = f"(e => (e.scrollIntoView({{block: 'center'}}), e.getBoundingClientRect().toJSON()))(document.querySelector({selector!r}))"
        box = self.js(box)
        at = {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]}
        self.send("Input.dispatchMouseEvent", type="mouseMoved", **at)
        for kind in ("mousePressed", "mouseReleased") if press else ():
            self.send("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at)

    def key(self, name: str) -> None:
        text = {"Enter": "\r"}.get(name, "")
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=name, text=text if kind == "keyDown" else "")

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.session = None
            self.send("Browser.close")
        self.process.terminate()
        self.process.wait(self.seconds)
        os.close(self.read)
        os.close(self.write)
