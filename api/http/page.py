"""The chat page at `/`: files that were built from `ui/` and lie in `api/page`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import Response

from api.http.errors import ApiError

router = APIRouter(include_in_schema=False)

_FOLDER = Path(__file__).parents[1] / "page"
_POLICY = "; ".join(
    (
        "default-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS: Mapping[str, str] = {
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FOR_EVER = "public, max-age=31536000, immutable"
"""Whatever lies in `assets` has its content's hash in its name."""


@router.get("/")
async def index() -> Response:
    return _file("index.html", "no-cache")


@router.get("/icon.svg")
async def icon() -> Response:
    return _file("icon.svg", "no-cache")


@router.get("/assets/{name}")
async def asset(name: str) -> Response:
    return _file(f"assets/{name}", _FOR_EVER)


def _file(name: str, caching: str) -> Response:
    if (content := _files().get(name)) is None:
        raise ApiError(404, "the page has no such file", code="not_found")
    headers = {**_HEADERS, "cache-control": caching, "content-type": _TYPES[Path(name).suffix]}
    return Response(content, headers=headers)


@cache
def _files() -> Mapping[str, bytes]:
    """All of them by name, read once: what is not among them cannot be asked for, whatever the path says."""
    found = (path for path in _FOLDER.rglob("*") if path.suffix in _TYPES)
    return {path.relative_to(_FOLDER).as_posix(): path.read_bytes() for path in found}
