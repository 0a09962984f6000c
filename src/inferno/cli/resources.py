"""`inferno apply`, `get`, `delete` and `kubeconfig`: the cluster API from here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from inferno.cli.errors import CommandFailed
from inferno.cli.options import ApiKey, ControlUrl, DataDir

Files = Annotated[
    list[Path],
    typer.Option(
        "--filename",
        "-f",
        metavar="FILE",
        show_default=False,
        help="YAML or JSON file of resources, or - for standard input. Can be given repeatedly.",
    ),
]
Namespace = Annotated[
    str,
    typer.Option(
        "--namespace",
        "-n",
        metavar="NAME",
        help="Namespace of the resources that name none.",
    ),
]
Kind = Annotated[
    str,
    typer.Argument(
        metavar="KIND", show_default=False, help="Kind of resource: plural, singular or short name."
    ),
]
Output = Annotated[
    Literal["table", "wide", "yaml", "json", "name"],
    typer.Option("--output", "-o", metavar="FORMAT", help="table, wide, yaml, json or name."),
]


def apply(
    filename: Files,
    namespace: Namespace = "default",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the resources, and keep nothing.")
    ] = False,
    data_dir: DataDir = None,
    url: ControlUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Create resources, or bring them to what files say (server-side apply)."""
    from inferno.cli import cluster

    client = _cluster(data_dir, url, api_key, namespace)
    for document in cluster.documents(filename):
        applied = client.apply(document, dry_run=dry_run)
        print(f"{applied} applied{' (dry run)' if dry_run else ''}")


def get(
    kind: Kind,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", show_default=False, help="One of them.")
    ] = None,
    output: Output = "table",
    namespace: Namespace = "default",
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Those of all namespaces.")
    ] = False,
    selector: Annotated[
        str,
        typer.Option(
            "--selector", "-l", metavar="LABELS", show_default=False, help="Only those with labels."
        ),
    ] = "",
    data_dir: DataDir = None,
    url: ControlUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Show resources."""
    client = _cluster(data_dir, url, api_key, "" if all_namespaces else namespace)
    client.show(kind, name, output=output, selector=selector)


def delete(
    kind: Annotated[
        str | None, typer.Argument(metavar="KIND", show_default=False, help="Kind of resource.")
    ] = None,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", show_default=False, help="Name of the resource.")
    ] = None,
    filename: Annotated[
        list[Path] | None,
        typer.Option(
            "--filename",
            "-f",
            metavar="FILE",
            show_default=False,
            help="Delete the resources that a file names, instead.",
        ),
    ] = None,
    namespace: Namespace = "default",
    data_dir: DataDir = None,
    url: ControlUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Delete resources."""
    from inferno.cli import cluster

    if filename is None and (kind is None or name is None):
        raise CommandFailed("give KIND and NAME, or -f FILE", exit_code=2)
    if filename is not None and kind is not None:
        raise CommandFailed("give KIND and NAME or -f FILE, not both", exit_code=2)
    client = _cluster(data_dir, url, api_key, namespace)
    for document in cluster.documents(filename or []):
        print(f"{client.delete_document(document)} deleted")
    if kind is not None and name is not None:
        print(f"{client.delete(kind, name)} deleted")


def kubeconfig(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            show_default=False,
            help="File for it, which only you can read. Default: standard output.",
        ),
    ] = None,
    namespace: Namespace = "default",
    data_dir: DataDir = None,
    url: ControlUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Print a kubeconfig for `kubectl` and other Kubernetes clients.

    It holds the API key: keep it as you keep that.
    """
    from inferno.cli import kubeconfig as written

    text = written.text(_settings(data_dir), url, api_key, namespace)
    if output is None:
        print(text, end="")
    else:
        written.keep(text, output)
        print(f"Wrote {output}.", file=sys.stderr)


def _settings(data_dir: Path | None) -> Any:
    from inferno import settings

    return settings.load({"data_dir": data_dir})


def _cluster(data_dir: Path | None, url: str | None, api_key: str | None, namespace: str) -> Any:
    from inferno.cli import cluster, discovery

    client = discovery.control_plane(_settings(data_dir), url, api_key)
    return cluster.Cluster(client, namespace)
