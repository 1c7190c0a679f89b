"""What every test gets: no network but loopback, no settings or keys of whoever runs it."""

import os
from pathlib import Path

import pytest
from pytest_socket import socket_allow_hosts

os.environ.setdefault("LANGGRAPH_STRICT_MSGPACK", "true")
SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def only_loopback():
    """Loopback and Unix sockets are open; whatever else a test tries to reach fails at once."""
    socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)


@pytest.fixture(autouse=True)
def no_settings_of_mine(monkeypatch):
    for variable in os.environ:
        if variable.endswith("_API_KEY") or (variable.startswith("EOT_") and variable != "EOT_HOME"):
            monkeypatch.delenv(variable)


@pytest.fixture
def shared_data():
    """The evaluation data beside the checkout; tests that want it skip, and say so, where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no evaluation data in {SHARED}")
    return SHARED
