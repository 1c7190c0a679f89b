"""A real Chromium on the page, and what stands around it: agents that write slowly, a proxy that cuts connections."""

import asyncio
import os
import shutil
import socket
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from eot.types import Delta, Reply, Usage

AXE = Path(__file__).parents[1] / "ui" / "node_modules" / "axe-core" / "axe.min.js"
WANTED = "the page's tests want chromium (`apt-get install chromium`, or its path in CHROMIUM)"


def chromium():
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    return found or pytest.fail(WANTED)


@contextmanager
def browsing():
    """A browser that closes when it is over."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page, and everything that went wrong on it but for messages that say `may`."""

    def __init__(self, context, url, may=None):
        self.url, self.faults, self.asked, self._may = url, [], [], may
        self.page = context.new_page()
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda fault: self.faults.append(str(fault)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("dialog", self._dialog)

    def _heard(self, message):
        expected = self._may and self._may in message.text
        if message.type in ("error", "warning") and not expected:
            self.faults.append(message.text)

    def _dialog(self, dialog):
        self.faults.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def open(self, path="/"):
        self.page.goto(self.url + path)
        self.page.wait_for_selector("textarea, section.panel, dialog")
        return self.page

    def refuse_faults(self):
        strangers = [url for url in self.asked if not url.startswith((self.url, "blob:", "data:"))]
        assert (self.faults, strangers) == ([], [])


class Dripping:
    """Writes its text of each round word by word, `pause` seconds apart; waits where `held` says so."""

    def __init__(self, name, script, pause=0.02, pieces=1):
        self.name, self.script, self.pause, self.pieces = name, script, pause, pieces
        self.held = threading.Event()
        self.held.set()

    async def ask(self, prompt, hear=None):
        text = self.script[min(prompt.round, len(self.script) - 1)]
        started = time.monotonic()
        words = text.split(" ")
        for at in range(0, len(words), self.pieces):
            while not self.held.is_set():  # noqa: ASYNC110 - the test holds it from another thread
                await asyncio.sleep(0.01)
            await asyncio.sleep(self.pause)
            piece = " ".join(words[at : at + self.pieces])
            hear(Delta(text=piece if at == 0 else f" {piece}"))
        spent = Usage(calls=1, input_tokens=50, output_tokens=len(words), cost_usd=0.001)
        return Reply(text=text, usage=spent, seconds=time.monotonic() - started)


def slowly(on, **agents):
    """Seat these agents in the place of those of the settings; each is to have the name it is given under."""
    for name, agent in agents.items():
        on.service.house._bare[name] = agent


class CuttingProxy:
    """Passes bytes on to a port of this machine; `cut()` breaks every connection that is open."""

    def __init__(self, port):
        self._port, self._open, self._lock = port, [], threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._port))
            with self._lock:
                self._open += [near, far]
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source, target):
        try:
            while chunk := source.recv(4096):
                target.sendall(chunk)
        except OSError:
            pass
        for end in (source, target):
            _shut(end)

    def cut(self):
        with self._lock:
            ends, self._open = self._open, []
        for end in ends:
            _shut(end)

    def close(self):
        self._listener.close()
        self.cut()


def _shut(end):
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


def serious(page):
    """What axe finds serious or critical on the page as it is."""
    if not AXE.exists():
        said = "the check of accessibility wants axe-core: `cd ui && npm ci`"
        pytest.fail(said) if os.environ.get("CI") else pytest.skip(said)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        (fault["id"], [node["target"] for node in fault["nodes"]][:3], fault["nodes"][0]["failureSummary"])
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
    ]
