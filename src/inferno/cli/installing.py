"""Installing a model, with a progress bar where somebody watches."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from inferno.cli import catalog
from inferno.cli.errors import INTERRUPTED, CommandFailed
from inferno.cli.output import human_size, print_json
from inferno.models.folder import ModelFile, ModelsFolder
from inferno.models.install import Progress
from inferno.models.install import install as install_model


def install(
    folder: Path,
    source: str,
    *,
    name: str | None,
    sha256: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Install a model into a folder, and say what it is called."""
    watched = not as_json and sys.stderr.isatty()
    with _progress_bar() if watched else _silence() as progress:
        installing = install_model(
            source, ModelsFolder(folder), name=name, sha256=sha256, force=force, progress=progress
        )
        try:
            model = asyncio.run(installing)
        except KeyboardInterrupt:
            raise CommandFailed(
                "interrupted; what came so far is kept, and the same command goes on from there",
                exit_code=INTERRUPTED,
            ) from None
    _report(model, as_json)


def _report(model: ModelFile, as_json: bool) -> None:
    if as_json:
        print_json(catalog.described(model))
    else:
        print(f"Installed {model.name} ({human_size(model.size_bytes)}).")


@contextmanager
def _silence() -> Iterator[None]:
    yield None


@contextmanager
def _progress_bar() -> Iterator[Callable[[Progress], None]]:
    """Show a bar on the terminal; yield what moves it."""
    from rich import progress as bars
    from rich.console import Console

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.DownloadColumn(binary_units=True),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("looking", total=None)

        def move(state: Progress) -> None:
            shown.update(task, description=state.phase, completed=state.done, total=state.total)

        yield move
