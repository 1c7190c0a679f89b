"""A real Redis on a free port of loopback, with its append-only file in a folder of the test's."""

import os
import shutil
import signal
import socket
import subprocess
import time

import redis


class RedisServer:
    """`appendfsync always`: what it acknowledged, it has after kill -9."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process = None

    @staticmethod
    def is_installed():
        return shutil.which("redis-server") is not None

    def start(self):
        options = {"port": self.port, "bind": "127.0.0.1", "dir": self.folder, "save": "", "loglevel": "warning"}
        options |= {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
        words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
        self.process = subprocess.Popen(["redis-server", *words], stdout=subprocess.DEVNULL)
        client = redis.Redis(port=self.port)
        for _ in range(200):
            try:
                client.ping()
                break
            except redis.RedisError:
                time.sleep(0.05)
        client.close()
        return self

    def kill(self):
        self._send(signal.SIGKILL)
        self.process.wait()

    def freeze(self):
        self._send(signal.SIGSTOP)

    def thaw(self):
        self._send(signal.SIGCONT)

    def _send(self, sign):
        os.kill(self.process.pid, sign)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.thaw()
        self.process.terminate()
        self.process.wait()
