"""A headless Chromium that tests drive through the DevTools protocol, over a pipe: no port, no driver."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time

LIMIT = 120  # seconds for an answer, on a machine that does much else
PROGRAM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


class Browser:
    """One page at a time. `console` has what it said, `requests` what it asked for, `errors` what went wrong in it."""

    def __init__(self) -> None:
        self.profile = tempfile.mkdtemp()
        to_read, self.to = os.pipe()
        self.of, from_write = os.pipe()
        arguments = [
            PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
            "--remote-debugging-pipe", f"--user-data-dir={self.profile}", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "about:blank",
        ]  # fmt: skip

        def hand_over() -> None:
            # The protocol's are 3 and 4; either may be one of these numbers already.
            os.dup2(to_read, 20), os.dup2(from_write, 21)
            os.dup2(20, 3), os.dup2(21, 4)

        self.process = subprocess.Popen(
            arguments, preexec_fn=hand_over, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_read), os.close(from_write)
        self.number, self.rest, self.session = 0, b"", None
        self.console: list[str] = []
        self.requests: list[str] = []
        self.errors: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        self.session = None
        try:
            self.call("Browser.close")
            self.process.wait(LIMIT)
        except (OSError, EOFError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        os.close(self.to), os.close(self.of)
        shutil.rmtree(self.profile, ignore_errors=True)

    def read(self) -> dict:
        while b"\0" not in self.rest:
            got = os.read(self.of, 1 << 20)
            if not got:
                raise EOFError("the browser ended")
            self.rest += got
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def call(self, method: str, **parameters) -> dict:
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.to, data) :]
        while True:
            answer = self.read()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.note(answer)

    def note(self, event: dict) -> None:
        method, what = event.get("method"), event.get("params", {})
        if method == "Runtime.consoleAPICalled":
            self.console.append(str([part.get("value") for part in what["args"]]))
        elif method == "Log.entryAdded":
            self.console.append(what["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(what["exceptionDetails"])[:600])
        elif method == "Network.requestWillBeSent":
            self.requests.append(what["request"]["url"])

    def open(self, path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = "dark" if dark else "light"
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.console, self.requests, self.errors = [], [], []
        self.call("Page.navigate", url=f"file://{path}")
        limit = time.monotonic() + LIMIT
        while self.run("location.href") != f"file://{path}" or self.run("document.readyState") != "complete":
            if time.monotonic() > limit:
                raise TimeoutError(f"{path} does not come up")

    def run(self, script: str):
        """The value of an expression, or of what it promises."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(json.dumps(result["exceptionDetails"])[:2000])
        return result["result"].get("value")

    def press(self, key: str) -> None:
        codes = {
            "Tab": 9,
            "Enter": 13,
            "Escape": 27,
            "ArrowLeft": 37,
            "ArrowUp": 38,
            "ArrowRight": 39,
            "ArrowDown": 40,
            "Home": 36,
            "End": 35,
        }
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])

    def move(self, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self, path, whole: bool = True) -> None:
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole, format="png")
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))

    def pdf(self) -> bytes:
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])
