"""What runs in a replica: one adapter per engine, found by name.

An engine is a program of its own that serves HTTP on loopback. Adapters only know how to start it
and how to read what it says; `inferno.runtimes` owns the processes. Replicas import this package
too, so nothing heavy is imported before an engine is asked for.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from inferno.engines.base import Engine


def engine(name: str) -> Engine:
    """Return the engine of that name.

    Args:
        name: as in a pod's `spec.engine`.

    Raises:
        ConfigurationError: no engine has this name.
    """
    if name == "llama_cpp":
        from inferno.engines.llama_cpp import LlamaCpp

        return LlamaCpp()
    from inferno.core.errors import ConfigurationError

    raise ConfigurationError(f"There is no engine named '{name}'.", engine=name)
