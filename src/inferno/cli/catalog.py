"""The models there are, as a running server lists them or as they lie in the folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inferno.cli.client import Client
from inferno.cli.errors import CommandFailed
from inferno.engines.bundled import model_path
from inferno.models.folder import ModelFile, ModelsFolder
from inferno.settings import Settings


def from_server(client: Client) -> list[dict[str, Any]]:
    """Return what `GET /models` lists."""
    answer = client.get("/models")
    models = answer.get("models") if isinstance(answer, dict) else None
    if not isinstance(models, list):
        raise CommandFailed(f"{client.url} does not list models as Inferno does")
    return models


def from_folders(settings: Settings) -> list[dict[str, Any]]:
    """Return the models that a server with these settings would list; none is loaded.

    A file in the models folder stands before a bundled model of its name.
    """
    bundled = _in_folder(model_path().parent) if settings.bundled_model else {}
    models = {**bundled, **_in_folder(settings.models_path)}
    return [models[name] for name in sorted(models)]


def described(model: ModelFile) -> dict[str, Any]:
    """Return a model file in the words of `GET /models`."""
    header = model.header
    return {
        "id": model.name,
        "name": (header.name if header else "") or model.name,
        "type": "gguf",
        "size_bytes": model.size_bytes,
        "loaded": False,
        "context_size": header.context_length if header else None,
        "architecture": header.architecture if header else None,
        "quantization": header.file_type if header else None,
        "parameters": header.parameter_count if header else None,
        "license": header.license if header else None,
        "path": str(model.path),
        "error": model.error.message if model.error else None,
    }


def _in_folder(folder: Path) -> dict[str, dict[str, Any]]:
    return {model.name: described(model) for model in ModelsFolder(folder).scan()}
