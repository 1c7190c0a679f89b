"""What a serving process holds, whatever speaks to it: the settings, the house, the runs in flight."""

from __future__ import annotations

from api.compose import House
from api.http.errors import ApiError
from eot.settings import Settings


class Service:
    """Made once a process. `open` before the first request, `close` after the last."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.house = House(settings)
        self.draining = False
        self.in_flight = 0

    async def open(self) -> None:
        """Nothing yet has to be opened."""

    async def close(self) -> None:
        await self.house.close()

    def drain(self) -> None:
        """From now on nothing new is begun; what is under way goes on."""
        self.draining = True

    def refuse_when_draining(self) -> None:
        """Raise a 503 that says when to come back, if this process is on its way out."""
        if self.draining:
            raise ApiError(503, "the server is shutting down", code="draining", headers={"retry-after": "5"})

    async def store_fault(self) -> str:
        """Why the store does not answer, or "" when it does."""
        return ""
