"""The composition of the service's surfaces and layers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from api.batching import engine
from api.http import (
    batches,
    catalogue,
    chat,
    compactions,
    conversations,
    embeddings,
    feedback,
    files,
    fusion,
    grades,
    grafts,
    health,
    local_models,
    metrics,
    models,
    moe,
    page,
    responses,
    runs,
    votes,
)
from api.http.access import Access
from api.http.body import BodyLimit, Readable
from api.http.crowd import Crowd
from api.http.errors import add_error_handlers
from api.http.idempotency import Idempotency
from api.http.keys import Gate
from api.http.request_id import RequestId
from api.service import Service
from eot import __version__


def create_app(service: Service) -> FastAPI:
    """The whole HTTP service on top of what the process holds. Its lifespan opens and closes `service`."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.open()
        await service.jobs.start()
        try:
            yield
        finally:
            await service.jobs.stop()
            await service.close()

    app = FastAPI(
        title="eot",
        version=__version__,
        summary="Several LLMs exchange their reasoning on a question, and the crowd's answer comes out",
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,  # both pages would fetch their scripts from elsewhere
        redoc_url=None,
    )
    app.state.service = service
    service.jobs = engine(service, service.settings.serve.jobs)
    add_error_handlers(app)
    table = service.settings.serve
    app.add_middleware(Idempotency, service.store.answers)
    app.add_middleware(Readable)
    app.add_middleware(BodyLimit, table.max_body_mb << 20, table.max_file_mb << 20)
    app.add_middleware(Gate, service.keyring, service.limits, table.host)
    app.add_middleware(Crowd, service)
    app.add_middleware(Access, service.observing.metrics, traced=table.otel)
    app.add_middleware(RequestId)  # added last: the outermost
    for surface in (
        health,
        metrics,
        models,
        chat,
        responses,
        compactions,
        embeddings,
        fusion,
        runs,
        grades,
        feedback,
        votes,
        catalogue,
        conversations,
        local_models,
        files,
        grafts,
        moe,
        batches,
        page,
    ):
        app.include_router(surface.router)
    return app
