"""How a route gets at what the serving process holds."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from api.service import Service


def service(request: Request) -> Service:
    found = request.app.state.service
    assert isinstance(found, Service)
    return found


def owner(request: Request) -> str:
    """Whose request it is: the id of its key, "" where no keys are in use."""
    return str(getattr(getattr(request.state, "caller", None), "id", ""))


Owner = Annotated[str, Depends(owner)]
Serving = Annotated[Service, Depends(service)]
