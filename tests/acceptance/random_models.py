"""Small models of random weights: what they say means nothing, and takes as long as is wanted."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

from training.random_gguf import write_random_gguf


@functools.cache
def slow_model(seed: int = 1) -> bytes:
    """Return a model that generates some hundred tokens a second."""
    return _written(
        layers=6, width=512, heads=8, kv_heads=2, ffn=1408, vocab=512, context=8192, seed=seed
    )


@functools.cache
def quick_model(seed: int = 1) -> bytes:
    """Return a model of next to no size; loading it takes no time and hardly any memory."""
    return _written(layers=1, width=64, heads=2, ffn=64, vocab=300, context=131072, seed=seed)


def _written(**shape: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        write_random_gguf(path, **shape)
        return path.read_bytes()
