"""The protocol of an engine: how to start a replica's program and how to understand it.

A replica's program

- gets one line of JSON on standard input, which stays open: its end means that the platform died;
- listens on a loopback port of its choice;
- reports readiness as one line of JSON on standard output (`ReadyEvent`) and writes its log to
  standard error;
- on SIGTERM finishes what it is working on, at most for the grace period, and exits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from inferno.core.resources import EngineOptions


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter to load with a model: its name, and its file on this machine."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything an engine needs to start one replica.

    Args:
        uid: of the pod; part of the command line, so that leftovers can be told.
        served_name: what the replica calls the model in its answers.
        model_path: the model's file on this machine.
        key: what callers must present; never in arguments, environment or log.
        options: how the engine runs the model.
        max_in_flight: requests that may be open at once, waiting ones included; None for the
            engine's default.
        grace: seconds that running requests get to finish after SIGTERM.
        adapters: to load; requests name them by their number in this order.
    """

    uid: str
    served_name: str
    model_path: Path
    key: str = field(repr=False)
    options: EngineOptions = field(default_factory=EngineOptions)
    max_in_flight: int | None = None
    grace: float = 30.0
    adapters: tuple[Adapter, ...] = ()


class ReadyEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What a replica's program says once it serves.

    Args:
        port: where it listens on loopback.
        load_time_ms: what loading the model took, as the engine measured it, in milliseconds.
        context_size: tokens that one request can hold.
        parallel: requests generated at once.
        capabilities: what it can do with the model, sorted.
    """

    port: int
    load_time_ms: int = 0
    context_size: int = 0
    parallel: int = 1
    capabilities: list[str] = []


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a replica's program ended.

    Args:
        reason: CamelCase word for programs.
        message: for a person; names the model's file without its folder.
        permanent: starting again cannot help until somebody changes something.
        adapter: the name of the LoRA adapter without which it would start; empty for none.
    """

    reason: str
    message: str
    permanent: bool = False
    adapter: str = ""


class Engine(Protocol):
    """One kind of program that serves models."""

    @property
    def name(self) -> str:
        """As in a pod's `spec.engine`."""

    def command(self, launch: Launch) -> list[str]:
        """Return the program and its arguments; the pod's uid is one of them."""

    def environment(self) -> dict[str, str]:
        """Return the whole environment of the program. The platform's secrets are not in it."""

    def config(self, launch: Launch) -> bytes:
        """Return the line for the program's standard input, with its line end.

        May read the model's file, so it is called outside the event loop.
        """

    def diagnose(
        self, launch: Launch, log_tail: str, exit_code: int, *, was_ready: bool
    ) -> Failure:
        """Explain an exit that nobody asked for.

        Args:
            launch: what was started.
            log_tail: the end of what this start wrote to its log.
            exit_code: as from `subprocess`: negative for a signal.
            was_ready: it served before, so its model can be loaded.
        """

    async def probe(self, host: str, port: int, *, within: float) -> bool:
        """Tell whether the replica answers its health check within that many seconds."""

    async def works(self, host: str, port: int, key: str, *, within: float) -> bool:
        """Tell whether what generates is alive, not only what answers health checks."""
