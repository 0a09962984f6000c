"""`/health`, `/health/live` and `/health/ready`: what the platform says to whoever watches it.

They need no credentials, so they say no more than the names of checks and what these found.
"""

from __future__ import annotations

import time

from inferno.server.operation import Services, Visited

NO_STORE = (b"cache-control", b"no-store")


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
