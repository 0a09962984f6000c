"""`GET /`, `/health…`, `/openapi.json` and `/docs`: what the server says of itself.

Health needs no credentials, so it says no more than the names of checks and what these found.
"""

from __future__ import annotations

import time

from inferno.server.docs_page import DOCS_PAGE
from inferno.server.operation import Services, Visited

NO_STORE = (b"cache-control", b"no-store")


async def describe(exchange: Visited, services: Services) -> None:
    """`GET /`."""
    await exchange.respond_json(
        {
            "name": "Inferno",
            "description": "Inference API",
            "version": services.version,
            "api_version": "v1",
            "documentation": "/docs",
            "openapi": "/openapi.json",
            "endpoints": {
                "health": "/health",
                "readiness": "/health/ready",
                "models": "/models",
                "inference": "/inference",
                "streaming": "/inference/stream",
                "embeddings": "/embeddings",
                "batch": "/batch",
                "openai": "/v1",
            },
        }
    )


async def health(exchange: Visited, services: Services) -> None:
    """`GET /health` (seed 001); 200 as long as it answers, whatever it has to say.

    `degraded` is a platform that lost its database or is shutting down.
    """
    directory = services.directory
    loaded = sum(directory.is_loaded(name) for name in list(directory.services))
    found = await services.readiness.findings()
    degraded = "lost" in found.values() or "draining" in found.values()
    await exchange.respond_json(
        {
            "status": "degraded" if degraded else "healthy",
            "version": services.version,
            "uptime_seconds": int(time.monotonic() - services.started),
            "models_loaded": loaded,
        },
        headers=[NO_STORE],
    )


async def live(exchange: Visited, _: Services) -> None:
    """`GET /health/live`: the event loop answers; restarting would mend nothing."""
    await exchange.respond_json({"status": "alive"}, headers=[NO_STORE])


async def ready(exchange: Visited, services: Services) -> None:
    """`GET /health/ready`: 200 where requests should be sent here, else 503 with what is amiss."""
    found = await services.readiness.findings()
    is_ready = all(finding == "ok" for finding in found.values())
    await exchange.respond_json(
        {"status": "ready" if is_ready else "not_ready", "checks": found},
        status=200 if is_ready else 503,
        headers=[NO_STORE],
    )


async def docs(exchange: Visited, _: Services) -> None:
    """`GET /docs`: a page that shows `/openapi.json`; it loads nothing from elsewhere."""
    await exchange.respond(200, DOCS_PAGE, [(b"content-type", b"text/html; charset=utf-8")])
