"""What every test gets: no network but loopback, no settings or keys of whoever runs it."""

import os
from pathlib import Path

import pytest
import weights  # noqa: F401  (it reads EOT_HOME, which tests are not to see)
from pytest_socket import socket_allow_hosts

os.environ.setdefault("LANGGRAPH_STRICT_MSGPACK", "true")
for mine in [name for name in os.environ if name.endswith("_API_KEY") or name.startswith("EOT_")]:
    del os.environ[mine]  # here and not in a fixture: those of a module come first, and begin servers
SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def only_loopback():
    """Loopback and Unix sockets are open; whatever else a test tries to reach fails at once."""
    socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)


@pytest.fixture
def shared_data():
    """The evaluation data beside the checkout; tests that want it skip, and say so, where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no evaluation data in {SHARED}")
    return SHARED


@pytest.fixture(scope="module")
def browser():
    """A real Chromium for the tests of the page."""
    from browser import browsing  # noqa: PLC0415  (only these tests want playwright)

    with browsing() as browser:
        yield browser


@pytest.fixture
def opened(browser):
    """Opens watched pages, each in a context of its own; none may complain or ask a third party."""
    from browser import Watched  # noqa: PLC0415

    pages, contexts = [], []

    def opening(url, path="/", may=None, **context):
        made = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, "locale": "en-GB"} | context)
        made.set_default_timeout(15_000)
        contexts.append(made)
        pages.append(Watched(made, url, may))
        return pages[-1].open(path)

    yield opening
    for watched in pages:
        watched.refuse_faults()
    for context in contexts:
        context.close()
