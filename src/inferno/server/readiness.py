"""Whether the platform should be sent requests, and what speaks against it."""

from __future__ import annotations

from typing import Literal

from inferno.gateway.directory import Directory
from inferno.storage.probe import DatabaseProbe

Finding = Literal["ok", "lost", "loading", "draining"]


class Readiness:
    """Looks at what requests depend on.

    A platform that has just started is ready once every model that it loads by itself has been
    loaded, or has failed to: one broken file must not keep the other models from being served.
    What is loaded and unloaded later changes nothing, for requests wait for that.

    Args:
        directory: the models; it knows those that are wanted from the start.
        database: asked whether it answers.
    """

    def __init__(self, directory: Directory, database: DatabaseProbe) -> None:
        self._directory = directory
        self._database = database
        known = directory.services.items()
        self._awaited = {place for place, one in known if one.spec.predictor.replicas > 0}

    @property
    def draining(self) -> bool:
        """Whether the platform is shutting down, and takes no new requests."""
        return self._directory.draining

    async def findings(self) -> dict[str, Finding]:
        """Return what was found, by the name of the check; `ok` is what it should be."""
        return {
            "database": "ok" if await self._database.answers() else "lost",
            "models": "loading" if self._is_starting() else "ok",
            "requests": "draining" if self.draining else "ok",
        }

    def _is_starting(self) -> bool:
        self._awaited = {place for place in self._awaited if self._is_loading(place)}
        return bool(self._awaited)

    def _is_loading(self, place: str) -> bool:
        service = self._directory.services.get(place)
        if service is None or service.spec.predictor.replicas == 0:
            return False
        return not self._directory.is_loaded(place) and self._directory.load_failure(place) is None
