"""Models: listing, loading, unloading."""

from __future__ import annotations

import msgspec

from inferno.client.calls import Call, get, given, member, post, reader, segment


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model as `/models` shows it. `reason` and `message` say why one cannot be loaded."""

    id: str
    name: str
    type: str
    size_bytes: int
    loaded: bool
    context_size: int | None = None
    capabilities: list[str] = []
    status: str = ""
    pinned: bool = False
    reason: str = ""
    message: str = ""
    architecture: str = ""
    quantization: str = ""
    license: str = ""
    parameters: int | None = None
    memory_usage_bytes: int | None = None
    restarts: int = 0


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What loading a model measured."""

    status: str
    model_id: str
    memory_usage_bytes: int
    load_time_ms: int
    context_size: int | None = None


class Unloaded(msgspec.Struct, frozen=True, kw_only=True):
    """That a model is no longer in memory."""

    status: str
    model_id: str


_read_models = member("models", list[Model])
_read_model = reader(Model)
_read_loaded = reader(Loaded)
_read_unloaded = reader(Unloaded)


def list_models() -> Call[list[Model]]:
    """Return the models there are."""
    return get("/models", _read_models)


def get_model(model: str) -> Call[Model]:
    """Return one model. Raises UnknownModel."""
    return get(f"/models/{segment(model)}", _read_model)


def load_model(
    model: str,
    *,
    gpu_layers: int | None = None,
    context_size: int | None = None,
    batch_size: int | None = None,
    parallel: int | None = None,
    threads: int | None = None,
) -> Call[Loaded]:
    """Load a model, and wait until it is.

    Args:
        model: its id.
        gpu_layers: layers offloaded to a GPU; -1 for all.
        context_size: tokens that one request can hold.
        batch_size: tokens evaluated in one step of prompt processing.
        parallel: requests generated at once.
        threads: CPU threads.
    """
    options = given(
        gpu_layers=gpu_layers,
        context_size=context_size,
        batch_size=batch_size,
        parallel=parallel,
        threads=threads,
    )
    return post(f"/models/{segment(model)}/load", _read_loaded, options, repeatable=True)


def unload_model(model: str) -> Call[Unloaded]:
    """Unload a model; running requests finish first."""
    return post(f"/models/{segment(model)}/unload", _read_unloaded, repeatable=True)
