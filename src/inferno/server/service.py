"""`GET /`, `/openapi.json` and `/docs`: what the server says of itself."""

from __future__ import annotations

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
                "readiness": "/health/ready",
                "models": "/models",
                "inference": "/inference",
                "streaming": "/inference/stream",
                "embeddings": "/embeddings",
                "openai": "/v1",
            },
        }
    )


async def docs(exchange: Visited, _: Services) -> None:
    """`GET /docs`: a page that shows `/openapi.json`; it loads nothing from elsewhere."""
    await exchange.respond(200, DOCS_PAGE, [(b"content-type", b"text/html; charset=utf-8")])
