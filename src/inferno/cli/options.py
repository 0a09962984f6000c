"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        show_default=False,
        help="Where the platform keeps its data. Default: INFERNO_DATA_DIR, else "
        "~/.local/share/inferno.",
    ),
]
ModelsDir = Annotated[
    Path | None,
    typer.Option(
        "--models-dir",
        metavar="DIR",
        show_default=False,
        help="Folder of model files. Default: INFERNO_MODELS_DIR, else DATA_DIR/models.",
    ),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        show_default=False,
        help="Inference API of the server to use. Default: the one that runs on DATA_DIR.",
    ),
]
ControlUrl = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        show_default=False,
        help="Control plane of the server to use. Default: the one that runs on DATA_DIR.",
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        metavar="KEY",
        show_default=False,
        help="Key for that server. Better given as INFERNO_API_KEY: other users of the machine "
        "can see command lines. Default: the key in DATA_DIR/credentials.json, for the server "
        "that runs on DATA_DIR.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, for programs.")]
