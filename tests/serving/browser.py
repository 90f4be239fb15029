"""A headless Chromium that tests use as a person would: they click, type, choose and drop files.

It is spoken with in the Chrome DevTools Protocol, through pipes rather than a port: nobody else can connect, and it
ends when the tests do, however they end.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SWITCHES = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-sync", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--remote-debugging-pipe",
]  # fmt: skip
PATIENCE_S = 30
KEYS = {
    "Tab": (9, ""),
    "Enter": (13, "\r"),
    " ": (32, " "),
    "ArrowRight": (39, ""),
}  # virtual key code, and the text that it types
CTRL = 2
CENTRE = """(() => {
    const element = document.querySelector(%s);
    element.scrollIntoView({ block: "center", behavior: "instant" });
    const box = element.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
})()"""


class Browser:
    """Chromium with one tab.

    Attributes:
        requests: addresses that the tab has asked for since it was opened.
        problems: what it has complained of since: errors, exceptions, violations of the page's policy.
        choosers: elements whose file dialog was opened by a person's action, as the protocol names them.
    """

    def __init__(self, profile: Path) -> None:
        """
        Args:
            profile: an empty folder.
        """
        assert CHROMIUM is not None
        its_input, self._output = os.pipe()
        self._input, its_output = os.pipe()
        # It reads commands at file descriptor 3 and writes answers at 4, where only a shell can put them.
        line = ["bash", "-c", f'exec "$0" "$@" 3<&{its_input} 4>&{its_output}', CHROMIUM, *SWITCHES]
        self._process = subprocess.Popen(
            [*line, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(its_input, its_output), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(its_input)
        os.close(its_output)
        self._received, self._last_id = bytearray(), 0
        self._tab, self._session = "", ""
        self.requests: list[str] = []
        self.problems: list[str] = []
        self.choosers: list[int] = []

    def close(self) -> None:
        """End the process."""
        os.close(self._output)
        os.close(self._input)
        self._process.terminate()
        self._process.wait(PATIENCE_S)

    def open(self, address: str, width: int = 1280, height: int = 900, **media: str) -> None:
        """Open a new tab in place of the one before, and load a page.

        Args:
            width, height: of the window in CSS pixels; below 600 it is laid out as on a phone.
            media: features of CSS, such as ``prefers_color_scheme="dark"``.
        """
        if self._tab:
            self.call("Target.closeTarget", targetId=self._tab)
        self._session = ""
        self._tab = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=self._tab, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime", "DOM"):
            self.call(f"{domain}.enable")
        self.call("Page.setInterceptFileChooserDialog", enabled=True)
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=width < 600)
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.requests.clear()
        self.problems.clear()
        self.choosers.clear()
        self.call("Page.navigate", url=address)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited where it is a promise."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until a JavaScript expression is truthy."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.evaluate(f"Boolean({expression})"):
            assert time.monotonic() < deadline, f"never came true: {expression}\n{self.problems}"
            time.sleep(0.02)

    def text(self, selector: str) -> str:
        """What a person reads in an element, hidden parts left out; spaces of all kinds as plain ones."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText")).replace("\u00a0", " ")

    def click(self, selector: str) -> None:
        """Click in the middle of an element, wherever that lands."""
        x, y = self.evaluate(CENTRE % json.dumps(selector))
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, *keys: str) -> None:
        """Press keys one after another: letters, or one of `KEYS`."""
        for key in keys:
            code, text = KEYS.get(key, (ord(key.upper()[0]), key))
            typed = {"text": text} if text else {}
            self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **typed)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def paste(self, image: Path) -> None:
        """Paste a PNG from the clipboard."""
        content = base64.b64encode(image.read_bytes()).decode()
        self.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)
        bytes_of_it = f'Uint8Array.from(atob("{content}"), (letter) => letter.charCodeAt(0))'
        blob = f'new Blob([{bytes_of_it}], {{ type: "image/png" }})'
        self.evaluate(f'navigator.clipboard.write([new ClipboardItem({{ "image/png": {blob} }})])')
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key="v", windowsVirtualKeyCode=86, modifiers=CTRL,
                commands=["paste"] if kind == "keyDown" else [],
            )  # fmt: skip

    def choose(self, selector: str, files: Sequence[Path]) -> None:
        """Choose files in an ``<input type=file>``."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def drop(self, selector: str, files: Sequence[Path]) -> None:
        """Drag files or folders from outside the window onto an element."""
        x, y = self.evaluate(CENTRE % json.dumps(selector))
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def screenshot(self, path: Path) -> None:
        """Write what is on the whole page, not only in the window, as a PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=size | {"scale": 1})
        path.write_bytes(base64.b64decode(answer["data"]))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; what happens meanwhile is noted."""
        self._last_id += 1
        message: dict[str, Any] = {"id": self._last_id, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._output, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._last_id:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])
            self._note(answer.get("method", ""), answer.get("params", {}))

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            readable, _, _ = select.select([self._input], [], [], PATIENCE_S)
            assert readable, "the browser says nothing"
            content = os.read(self._input, 2**20)
            assert content, "the browser has ended"
            self._received += content
        message, _, self._received = self._received.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, method: str, event: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(event["request"]["url"])
        elif method == "Page.fileChooserOpened":
            self.choosers.append(event["backendNodeId"])
        elif method == "Runtime.exceptionThrown":
            self.problems.append(event["exceptionDetails"].get("exception", {}).get("description", str(event)))
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            self.problems.append(
                f"{event['entry']['source']}: {event['entry']['text']} {event['entry'].get('url', '')}"
            )
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning"):
            self.problems.append(str(event["args"]))
