"""An OpenAI-compatible server on loopback that answers by a function: for runs of the whole product as a process."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ChatServer(ThreadingHTTPServer):
    """`answer(number, body)` gives what the request with that number, from 0, is answered.

    A text is streamed, and so is a list of deltas, with waits (floats) among them; None hangs, and {"error": message}
    is a 400.
    """

    daemon_threads = True

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.bodies = []
        self.lock = threading.Lock()
        self.hung = threading.Event()
        self.over = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            number = len(self.server.bodies)
            self.server.bodies.append(body)
        text = self.server.answer(number, body)
        if text is None:
            self.server.hung.set()
            self.server.over.wait(30)
            return
        if isinstance(text, dict):
            self.send_response(400)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(
                json.dumps({"error": {"message": text["error"], "type": "invalid_request_error"}}).encode()
            )
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        deltas = text if isinstance(text, list) else [{"role": "assistant", "content": text}]
        finish = "tool_calls" if any("tool_calls" in delta for delta in deltas if isinstance(delta, dict)) else "stop"
        for step, why, extra in (
            *((delta, None, {}) for delta in deltas),
            ({}, finish, {}),
            (None, None, {"usage": usage}),
        ):
            if isinstance(step, float):
                self.server.over.wait(step)
                continue
            choices = [] if step is None else [{"index": 0, "delta": step, "finish_reason": why}]
            chunk = {
                "id": "x",
                "object": "chat.completion.chunk",
                "created": 0,
                "model": "m",
                "choices": choices,
                **extra,
            }
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_):
        pass


@contextmanager
def serving(answer):
    server = ChatServer(answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
