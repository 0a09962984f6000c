"""The `inferno` command: the application, and how errors become one line and an exit code."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from inferno.cli import batch, models, registry, resources, run, security, serve
from inferno.cli.errors import CommandFailed
from inferno.core.errors import InfernoError
from inferno.version import __version__

app = typer.Typer(
    name="inferno",
    no_args_is_help=True,
    # rich would take a third of the time that `inferno --help` may take.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.command("run")(run.run)
app.command("apply")(resources.apply)
app.command("get")(resources.get)
app.command("delete")(resources.delete)
app.command("kubeconfig")(resources.kubeconfig)
app.add_typer(models.app, name="models")
app.add_typer(batch.app, name="batch")
app.add_typer(registry.app, name="registry")
app.add_typer(security.app, name="security")


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"inferno {__version__}")
        raise typer.Exit


@app.callback()
def inferno(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Serve models, and talk to them.

    Start with `inferno serve`, or ask the bundled model something at once:
    `inferno run inferno-tiny "What is the capital of France?"`.

    Every setting is also an environment variable INFERNO_… and a key of the file that
    INFERNO_CONFIG names. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code of the process."""
    _tolerate_narrow_terminals()
    try:
        result = app(
            args=None if arguments is None else list(arguments),
            prog_name="inferno",
            standalone_mode=False,
        )
        return result if isinstance(result, int) else 0
    except (typer.TyperException, CommandFailed, InfernoError, typer.Abort, OSError) as error:
        return _report(error)
    except Exception as error:
        return _report_fault(error)


def _tolerate_narrow_terminals() -> None:
    """Print `?` for characters that the terminal's encoding lacks, rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _report(error: BaseException) -> int:
    """Print what went wrong, for a person, and return the exit code."""
    if isinstance(error, typer.TyperException):
        return _report_usage(error)
    if isinstance(error, CommandFailed):
        return _fail(error.message, error.exit_code)
    if isinstance(error, InfernoError):
        available = error.details.get("available_models")
        names = f" (available: {', '.join(available)})" if available else ""
        return _fail(error.message + names)
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        return _fail(f"{error.filename}: {reason}" if error.filename else reason)
    return _fail("aborted")


def _report_usage(error: typer.TyperException) -> int:
    message, context = error.format_message(), getattr(error, "ctx", None)
    if context is None:
        return _fail(message, error.exit_code)
    if message == context.get_help():  # a group without a command
        print(message, file=sys.stderr)
        return error.exit_code
    return _fail(f"{message.rstrip('.')} (see `{context.command_path} --help`)", error.exit_code)


def _report_fault(error: Exception) -> int:
    """Report a mistake of ours; the traceback is for those who ask for it."""
    if os.environ.get("INFERNO_LOG_LEVEL") == "debug":
        traceback.print_exc()
    return _fail(
        f"unexpected error: {type(error).__name__}: {error} (INFERNO_LOG_LEVEL=debug shows where)"
    )


def _fail(message: str, exit_code: int = 1) -> int:
    print(f"inferno: {' '.join(message.split())}", file=sys.stderr)
    return exit_code
