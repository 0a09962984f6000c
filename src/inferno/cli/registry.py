"""`inferno registry`: find inference servers, and announce one's own."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from inferno.cli.errors import CommandFailed, Refused
from inferno.cli.options import ApiKey, ControlUrl, DataDir, Json

if TYPE_CHECKING:  # it loads an HTTP client, which `--help` does not need
    from inferno.cli.client import Client

app = typer.Typer(
    help="Find inference servers, and register some.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

PAGE = 1000

PREFIX = "inference_server_"
PREFIXED = ("id", "name", "metadata", "tags", "public_url", "urls")
UNPREFIXED = (
    "ttl_seconds", "registered_at", "updated_at", "state", "expires_at", "health", "health_check",
)  # fmt: skip
"""Fields of an entry, those of the first row without their prefix."""

UNKNOWN = "No document found"
"""How the registry's answer begins where it has no entry of an id."""

ServerId = Annotated[
    str, typer.Argument(metavar="SERVER", help="Id, as `inferno registry list` shows it.")
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", metavar="N", min=1, show_default=False, help="At most so many."),
]
Sort = Annotated[
    str | None,
    typer.Option(
        "--sort",
        metavar="FIELDS",
        show_default=False,
        help="Fields to sort by, separated by commas; - before one turns its order around: "
        "name,-registered_at. Default: as they were registered.",
    ),
]


@app.command("list")
def list_servers(
    search: Annotated[
        str | None,
        typer.Option(
            "--search",
            metavar="WORDS",
            show_default=False,
            help="Only those with such words in their name, tags or metadata.",
        ),
    ] = None,
    mine: Annotated[bool, typer.Option("--mine", help="Only those that are the caller's.")] = False,
    sort: Sort = None,
    limit: Limit = None,
    as_json: Json = False,
    data_dir: DataDir = None,
    url: ControlUrl = None,
    api_key: ApiKey = None,
) -> None:
    """List inference servers."""
    options: dict[str, Any] = {"filter": {}, "search": search, "mine": mine}
    _show(_found(_client(data_dir, url, api_key), options, sort, limit), as_json=as_json)


@app.command()
def query(
    wanted: Annotated[
        str,
        typer.Argument(
            metavar="FILTER",
            help='In MongoDB\'s language: \'{"inference_server_tags": {"$in": ["NLP"]}}\'; '
            "@FILE reads a file, - standard input.",
        ),
    ],
    projection: Annotated[
        str | None,
        typer.Option(
            "--projection",
            metavar="JSON",
            show_default=False,
            help="Fields to show: '{\"inference_server_name\": 1}'. Implies --json.",
        ),
    ] = None,
    sort: Sort = None,
    limit: Limit = None,
    as_json: Json = False,
    data_dir: DataDir = None,
    url: ControlUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Find inference servers with a filter."""
    options: dict[str, Any] = {"filter": _document(wanted, "FILTER")}
    if projection is not None:
        options["projection"] = _document(projection, "--projection")
    found = _found(_client(data_dir, url, api_key), options, sort, limit)
    _show(found, as_json=as_json or projection is not None)


@app.command()
def get(
    server: ServerId,
    as_json: Json = False,
    data_dir: DataDir = None,
    url: ControlUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Show all that is known of an inference server."""
    from inferno.cli.output import print_facts, print_json

    client = _client(data_dir, url, api_key)
    with _known(server):
        entry = client.get(_path(server))["data"]
    if as_json:
        print_json(entry)
        return
    print_facts(_facts(entry))


@app.command()
def add(
    document: Annotated[
        str | None,
        typer.Argument(
            metavar="[ENTRY]",
            show_default=False,
            help="The entry as JSON; @FILE reads a file, - standard input. Options add to it.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", show_default=False, help="Its name.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--public-url", metavar="URL", show_default=False, help="Where it can be reached."
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="TAG", show_default=False, help="A tag; may be repeated."),
    ] = None,
    meta: Annotated[
        list[str] | None,
        typer.Option(
            "--metadata",
            metavar="NAME=VALUE",
            show_default=False,
            help="A fact about it; may be repeated. A value that is JSON is taken as such; a dot "
            "in the name leads into an object.",
        ),
    ] = None,
    ttl: Annotated[
        int | None,
        typer.Option(
            "--ttl",
            metavar="SECONDS",
            show_default=False,
            help="The entry expires so long after the last heartbeat.",
        ),
    ] = None,
    as_json: Json = False,
    data_dir: DataDir = None,
    url: ControlUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Register an inference server, and print its id."""
    from inferno.cli.output import print_json

    if document is None and not (name or address or tag or meta):
        raise CommandFailed("say what to register: --name, --public-url, … or ENTRY", exit_code=2)

    entry = _document(document, "ENTRY") if document is not None else {}
    if not isinstance(entry, dict):
        raise CommandFailed("ENTRY has to be a JSON object", exit_code=2)
    given = {
        "inference_server_name": name,
        "inference_server_public_url": address,
        "inference_server_tags": tag or None,
        "inference_server_metadata": _metadata(meta) if meta else None,
        "ttl_seconds": ttl,
    }
    entry |= {field: value for field, value in given.items() if value is not None}
    data = _client(data_dir, url, api_key).post("/inference_server", entry)["data"]
    print_json(data) if as_json else print(data["id"])


@app.command()
def update(
    server: ServerId,
    change: Annotated[
        str,
        typer.Argument(
            metavar="UPDATE",
            help='In MongoDB\'s language: \'{"$push": {"inference_server_tags": "LLM"}}\'; or '
            '\'{"update": …, "filter": …, "arrayFilters": […]}\'. '
            "@FILE reads a file, - standard input.",
        ),
    ],
    data_dir: DataDir = None,
    url: ControlUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Change an inference server, whole or not at all."""
    document = _document(change, "UPDATE")
    client = _client(data_dir, url, api_key)
    with _known(server):
        client.put(_path(server), document)
    print(f"Updated {server}.")


@app.command()
def delete(
    server: ServerId,
    data_dir: DataDir = None,
    url: ControlUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Remove an inference server from the registry."""
    client = _client(data_dir, url, api_key)
    with _known(server):
        client.delete(_path(server))
    print(f"Deleted {server}.")


@app.command()
def watch(
    wanted: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILTER]",
            show_default=False,
            help="Only changes of servers that match; as for `inferno registry query`.",
        ),
    ] = None,
    since: Annotated[
        int | None,
        typer.Option(
            "--since",
            metavar="VERSION",
            min=0,
            show_default=False,
            help="Begin behind that change. Default: now.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each change as a line of JSON, for programs.")
    ] = False,
    data_dir: DataDir = None,
    url: ControlUrl = None,
    api_key: ApiKey = None,
) -> int:
    """Show changes as they happen, until Ctrl-C.

    A connection that breaks is made again, and no change is left out.
    """
    from inferno.cli.registry_watch import Watch

    filter_ = None if wanted is None else _document(wanted, "FILTER")
    client = _client(data_dir, url, api_key)
    return Watch(client, filter_, since, as_json=as_json).run()


def _client(data_dir: Path | None, url: str | None, api_key: str | None) -> Client:
    from inferno import settings
    from inferno.cli import discovery

    return discovery.control_plane(settings.load({"data_dir": data_dir}), url, api_key)


def _found(
    client: Client, options: dict[str, Any], sort: str | None, limit: int | None
) -> list[dict[str, Any]]:
    """Return what a query finds, page by page."""
    asked = {name: value for name, value in options.items() if value}
    asked["filter"] = options["filter"]
    if sort is not None:
        asked["sort"] = dict(_sort_field(name) for name in sort.split(",") if name.strip("- "))
    found: list[dict[str, Any]] = []
    while limit is None or len(found) < limit:
        asked["limit"] = min(PAGE, (limit or PAGE + len(found)) - len(found))
        answer = client.post("/inference_servers", asked)
        found += answer["data"]
        if sort is not None and len(answer["data"]) == asked["limit"]:
            asked["skip"] = len(found)  # only the order of registration has cursors
        elif answer.get("next_cursor") is not None:
            asked["cursor"] = answer["next_cursor"]
        else:
            break
    return found


def _sort_field(name: str) -> tuple[str, int]:
    """Return the field that is meant, and its direction; `name` is `inference_server_name`."""
    name = name.strip()
    direction, name = (-1, name[1:]) if name.startswith("-") else (1, name)
    first = name.partition(".")[0]
    if first in PREFIXED:
        return f"{PREFIX}{name}", direction
    if first.removeprefix(PREFIX) not in (PREFIXED if first.startswith(PREFIX) else UNPREFIXED):
        fields = ", ".join((*PREFIXED, *UNPREFIXED))
        raise CommandFailed(f"--sort: there is no field '{name}'; there are {fields}", exit_code=2)
    return name, direction


@contextmanager
def _known(server: str) -> Iterator[None]:
    """Say in other words than the registry's that it has no such entry."""
    try:
        yield
    except Refused as error:
        if not error.message.startswith(UNKNOWN):
            raise
        message = f"there is no inference server '{server}'; `inferno registry list` shows the ids"
        raise CommandFailed(message) from None


def _document(text: str, name: str) -> Any:
    """Return the JSON that an argument, a file or standard input holds."""
    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text("utf-8")
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CommandFailed(f"{name} is not JSON: {error}", exit_code=2) from None


def _metadata(pairs: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        *path, last = name.split(".")
        if not separator or not last or not all(path):
            raise CommandFailed(f"--metadata: '{pair}' is not NAME=VALUE", exit_code=2)
        inner = found
        for part in path:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise CommandFailed(f"--metadata: '{part}' in '{name}' has a value", exit_code=2)
        try:
            inner[last] = json.loads(text)
        except ValueError:
            inner[last] = text
    return found


def _path(server: str) -> str:
    return f"/inference_server/{quote(server, safe='')}"


def _show(entries: list[dict[str, Any]], *, as_json: bool) -> None:
    from inferno.cli.output import print_json, print_table
    from inferno.cli.registry_watch import row

    if as_json:
        print_json(entries)
        return
    columns = ("ID", "NAME", "STATE", "TAGS", "URL", "REGISTERED")
    print_table(columns, [_row(*row(one), one) for one in entries])


def _row(id_: str, name: str, state: str, url: str, one: dict[str, Any]) -> tuple[str, ...]:
    return id_, name, state, ", ".join(one["inference_server_tags"]), url, one["registered_at"]


def _facts(entry: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what there is to know of an entry, each fact of its metadata by itself."""
    for name, value in entry.items():
        label = name.removeprefix("inference_server_").replace("_", " ")
        if isinstance(value, dict):
            yield from ((f"{label}.{key}", _fact(one)) for key, one in value.items())
        else:
            yield label, _fact(value)


def _fact(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False)
