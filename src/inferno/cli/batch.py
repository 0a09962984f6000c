"""`inferno batch`: many requests handed in together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, urlencode

import typer

from inferno.cli.options import ApiKey, DataDir, Json, Url

if TYPE_CHECKING:  # these load settings and an HTTP client, which `--help` does not need
    from inferno.cli.client import Client

app = typer.Typer(
    help="Run files of requests, and see to batches.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

BatchId = Annotated[
    str, typer.Argument(metavar="BATCH", help="Id of the batch, as `inferno batch list` shows it.")
]


@app.command()
def run(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help='JSON lines: {"id", "prompt", …}, or those of OpenAI\'s Batch API.',
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="Where the results go: JSON lines."),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            show_default=False,
            help="Model for lines that name none.",
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-tokens",
            metavar="N",
            min=1,
            show_default=False,
            help="Longest answer, in tokens, for lines that say nothing else. Default: the "
            "server's.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the results that are there.")
    ] = False,
    data_dir: DataDir = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> int:
    """Have a file of requests answered, and write the results in its order.

    A batch that is interrupted, here or at the server, goes on when the same command is given
    again: what it needs to know is kept beside the results, in FILE.batch, until they are written.
    """
    from inferno import settings
    from inferno.cli.batch_run import BatchRun, Where

    options = {"model": model, "max_tokens": max_tokens}
    given = {name: str(value) for name, value in options.items() if value is not None}
    where = Where(settings.load({"data_dir": data_dir}), url, api_key)
    return BatchRun(file, output, given, where).run(force=force)


@app.command("list")
def list_batches(
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=100, help="At most so many.")
    ] = 20,
    as_json: Json = False,
    data_dir: DataDir = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """List batches, the newest first."""
    from inferno.cli.output import print_json, print_table

    answer = _client(data_dir, url, api_key).get(f"/batch?{urlencode({'limit': limit})}")
    if as_json:
        print_json(answer)
        return
    columns = ("BATCH", "STATUS", "DONE", "FAILED", "TOTAL", "MODEL", "CREATED")
    print_table(columns, [_row(one) for one in answer["batches"]])


@app.command()
def get(
    batch: BatchId,
    as_json: Json = False,
    data_dir: DataDir = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Show how a batch stands."""
    from inferno.cli.output import print_facts, print_json

    answer = _client(data_dir, url, api_key).get(_path(batch))
    if as_json:
        print_json(answer)
        return
    print_facts((name.replace("_", " "), _fact(name, value)) for name, value in answer.items())


@app.command()
def results(
    batch: BatchId,
    data_dir: DataDir = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Print the results that there are so far, one JSON object a line, in the input's order."""
    from inferno.cli.batch_run import JSON_LINES

    client = _client(data_dir, url, api_key)
    with client.download(f"{_path(batch)}/results", JSON_LINES) as lines:
        for line in lines:
            print(line.decode("utf-8", "replace"), end="")


@app.command()
def cancel(
    batch: BatchId,
    data_dir: DataDir = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Cancel a batch. What is answered by then can still be fetched."""
    answer = _client(data_dir, url, api_key).post(f"{_path(batch)}/cancel")
    print(f"Batch {batch} is {answer['status']}.")


@app.command()
def delete(
    batch: BatchId,
    data_dir: DataDir = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Delete a batch that has ended, with its results."""
    _client(data_dir, url, api_key).delete(_path(batch))
    print(f"Deleted {batch}.")


def _client(data_dir: DataDir, url: str | None, api_key: str | None) -> Client:
    from inferno import settings
    from inferno.cli import discovery

    return discovery.require(settings.load({"data_dir": data_dir}), url, api_key)


def _path(batch: str) -> str:
    return f"/batch/{quote(batch, safe='')}"


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    counts = (str(one[name]) for name in ("completed", "failed", "total"))
    created = _fact("created", one["created"])
    return one["batch_id"], one["status"], *counts, one["model"], created


def _fact(name: str, value: Any) -> str:
    """Return a value as people read it."""
    if name in ("created", "expires", "ended"):
        from datetime import datetime

        return datetime.fromtimestamp(value).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {content}" for key, content in value.items())
    return str(value)
