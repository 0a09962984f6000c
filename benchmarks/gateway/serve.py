"""`inferno serve` as it is, but for the replica: that is the static backend on a given port.

Run as `python -m benchmarks.gateway.serve PORT`; settings come from the environment.
"""

from __future__ import annotations

import sys
from unittest import mock

import msgspec

from benchmarks.startup.processes import pin
from inferno import assembly, settings
from inferno.assembly import replicas
from inferno.engines.base import Failure, Launch, ReadyEvent

_PROGRAM = 'read config; echo "$1"; exec cat'
"""Takes its configuration, says that it is ready, and lives until its input ends."""


class StaticEngine:
    """An engine whose replicas all listen where the static backend does.

    Args:
        port: the backend's.
    """

    name = "llama_cpp"

    def __init__(self, port: int) -> None:
        self._ready = ReadyEvent(
            port=port, context_size=4096, parallel=64, capabilities=["chat", "text-generation"]
        )

    def command(self, launch: Launch) -> list[str]:
        """Return a program that does nothing but say where the backend is."""
        ready = msgspec.json.encode(self._ready).decode()
        return ["/bin/sh", "-c", _PROGRAM, launch.uid, ready]

    def environment(self) -> dict[str, str]:
        """Return what a shell needs."""
        return {"PATH": "/usr/bin:/bin"}

    def config(self, launch: Launch) -> bytes:
        """Return nothing that anybody reads."""
        del launch
        return b"{}\n"

    def diagnose(
        self, launch: Launch, log_tail: str, exit_code: int, *, was_ready: bool
    ) -> Failure:
        """Say that the program ended."""
        del launch, log_tail, was_ready
        return Failure("Ended", f"The stand-in ended with {exit_code}.")

    async def probe(self, host: str, port: int, *, within: float) -> bool:
        """Say that it is well."""
        del host, port, within
        return True


if __name__ == "__main__":
    pin(0)
    static = StaticEngine(int(sys.argv[1]))
    with mock.patch.object(replicas, "engine", return_value=static):
        sys.exit(assembly.serve(settings.load()))
