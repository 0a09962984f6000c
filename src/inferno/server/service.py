"""`GET /`, `/health`, `/openapi.json` and `/docs`: what the server says of itself."""

from __future__ import annotations

import time

from inferno.server.docs_page import DOCS_PAGE
from inferno.server.operation import Services, Visited


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
    """`GET /health`; needs no credentials."""
    directory = services.directory
    loaded = sum(directory.is_loaded(name) for name in list(directory.services))
    await exchange.respond_json(
        {
            "status": "healthy",
            "version": services.version,
            "uptime_seconds": int(time.monotonic() - services.started),
            "models_loaded": loaded,
        }
    )


async def docs(exchange: Visited, _: Services) -> None:
    """`GET /docs`: a page that shows `/openapi.json`; it loads nothing from elsewhere."""
    await exchange.respond(200, DOCS_PAGE, [(b"content-type", b"text/html; charset=utf-8")])
