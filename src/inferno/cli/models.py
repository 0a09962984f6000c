"""`inferno models`: what can be served, putting models up, loading and unloading them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from inferno.cli.errors import CommandFailed
from inferno.cli.options import ApiKey, DataDir, Json, ModelsDir, Url

if TYPE_CHECKING:  # settings are not needed for `--help`
    from inferno.settings import Settings

app = typer.Typer(
    help="List, install, remove, load and unload models.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="Name of the model, as `inferno models list` shows it."),
]


@app.command("list")
def list_models(
    as_json: Json = False,
    data_dir: DataDir = None,
    models_dir: ModelsDir = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """List the models that can be served.

    Asks the server that runs on DATA_DIR; where none runs, looks into the models folder.
    """
    from inferno.cli.output import human_size, print_json, print_table

    models = _listed(_settings(data_dir, models_dir), url, api_key)
    if as_json:
        print_json({"models": models})
        return
    rows = [
        (
            str(model["id"]),
            human_size(model.get("size_bytes")),
            _state(model),
            str(model.get("context_size") or ""),
            ", ".join(model.get("capabilities") or ()),
        )
        for model in models
    ]
    print_table(("NAME", "SIZE", "STATE", "CONTEXT", "CAPABILITIES"), rows)


@app.command()
def info(
    name: Name,
    as_json: Json = False,
    data_dir: DataDir = None,
    models_dir: ModelsDir = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Show all that is known of one model."""
    from inferno.cli.output import print_facts, print_json
    from inferno.core.errors import ModelNotFound

    models = _listed(_settings(data_dir, models_dir), url, api_key)
    model = next((model for model in models if model["id"] == name), None)
    if model is None:
        raise ModelNotFound(name, [str(model["id"]) for model in models])
    if as_json:
        print_json(model)
    else:
        print_facts((key.replace("_", " "), _shown(key, value)) for key, value in model.items())


@app.command()
def install(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A path, an http(s) URL, or hf://OWNER/REPO[/FILE] for the Hugging Face hub.",
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            show_default=False,
            help="What to call the model. Default: a name made from the source's.",
        ),
    ] = None,
    sha256: Annotated[
        str | None,
        typer.Option(
            "--sha256",
            metavar="HEX",
            show_default=False,
            help="Refuse the file unless it has this SHA-256 checksum.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a model of the same name.")
    ] = False,
    as_json: Json = False,
    data_dir: DataDir = None,
    models_dir: ModelsDir = None,
) -> None:
    """Put a model into the models folder.

    A running server sees it at once. A download that is interrupted goes on where it stopped
    when the command is given again.
    """
    from inferno.cli import installing

    installing.install(
        _settings(data_dir, models_dir).models_path,
        source,
        name=name,
        sha256=sha256,
        force=force,
        as_json=as_json,
    )


@app.command()
def remove(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    data_dir: DataDir = None,
    models_dir: ModelsDir = None,
) -> None:
    """Delete a model's files from the models folder.

    A running server unloads it and lists it no more.
    """
    from inferno.core.errors import ModelNotFound
    from inferno.engines.bundled import MODEL_NAME
    from inferno.models import install
    from inferno.models.folder import ModelsFolder

    folder = ModelsFolder(_settings(data_dir, models_dir).models_path)
    if not yes:
        _confirm(f"Delete {name} from {folder.path}?")
    try:
        install.remove(folder, name)
    except ModelNotFound:
        if name != MODEL_NAME:
            raise
        raise CommandFailed(
            f"{name} is part of Inferno and cannot be removed; "
            "INFERNO_BUNDLED_MODEL=false keeps it from being served"
        ) from None
    print(f"Removed {name}.")


@app.command()
def load(
    name: Name,
    gpu_layers: Annotated[
        int | None,
        typer.Option(
            "--gpu-layers",
            metavar="N",
            min=-1,
            show_default=False,
            help="Layers offloaded to a GPU; -1 for all.",
        ),
    ] = None,
    context_size: Annotated[
        int | None,
        typer.Option(
            "--context-size",
            metavar="N",
            min=1,
            show_default=False,
            help="Tokens that one request can hold.",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            metavar="N",
            min=1,
            show_default=False,
            help="Tokens evaluated in one step of prompt processing.",
        ),
    ] = None,
    parallel: Annotated[
        int | None,
        typer.Option(
            "--parallel",
            metavar="N",
            min=1,
            show_default=False,
            help="Requests generated at once.",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            metavar="N",
            min=1,
            show_default=False,
            help="CPU threads of the engine.",
        ),
    ] = None,
    as_json: Json = False,
    data_dir: DataDir = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Load a model into the running server's memory.

    Waits until it is ready. Options that are not given are the model's settings.
    """
    from inferno.cli.output import human_size, print_json

    options = {
        "gpu_layers": gpu_layers,
        "context_size": context_size,
        "batch_size": batch_size,
        "parallel": parallel,
        "threads": threads,
    }
    body = {key: value for key, value in options.items() if value is not None}
    answer = _act(name, "load", body, _settings(data_dir), url, api_key)
    if as_json:
        print_json(answer)
        return
    size, seconds = (
        human_size(answer.get("memory_usage_bytes")),
        answer.get("load_time_ms", 0) / 1e3,
    )
    print(f"Loaded {name} in {seconds:.1f} s ({size} of memory).")


@app.command()
def unload(
    name: Name,
    as_json: Json = False,
    data_dir: DataDir = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Take a model out of the running server's memory."""
    from inferno.cli.output import print_json

    answer = _act(name, "unload", {}, _settings(data_dir), url, api_key)
    if as_json:
        print_json(answer)
    else:
        print(f"Unloaded {name}.")


def _settings(data_dir: DataDir, models_dir: ModelsDir = None) -> Settings:
    from inferno import settings

    return settings.load({"data_dir": data_dir, "models_dir": models_dir})


def _act(
    name: str,
    action: str,
    body: dict[str, int],
    settings: Settings,
    url: str | None,
    api_key: str | None,
) -> dict[str, Any]:
    from inferno.cli import discovery

    client = discovery.require(settings, url, api_key)
    answer = client.post(f"/models/{quote(name, safe='')}/{action}", body)
    return answer if isinstance(answer, dict) else {}


def _listed(settings: Settings, url: str | None, api_key: str | None) -> list[dict[str, Any]]:
    """Return the models as `GET /models` has them: from a server, else from the folder."""
    from inferno.cli import catalog, discovery

    client = discovery.connect(settings, url, api_key)
    return catalog.from_folders(settings) if client is None else catalog.from_server(client)


def _state(model: dict[str, Any]) -> str:
    if model.get("error"):
        return "unusable"
    return "loaded" if model.get("loaded") else ""


def _shown(key: str, value: Any) -> str:
    from inferno.cli.output import human_size

    if value is None or value == "":
        return ""
    if key.endswith("_bytes") and isinstance(value, int):
        return human_size(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise CommandFailed("give --yes to delete without being asked", exit_code=2)
    typer.confirm(question, abort=True)
