"""What the `inferno security` commands share: settings, the open platform, values, secrets."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from inferno.cli.errors import CommandFailed

if TYPE_CHECKING:  # none of these is needed for `--help`
    from inferno.settings import Settings
    from inferno.tenancy.administration import Administration
    from inferno.tenancy.types import User

T = TypeVar("T")

Id = Annotated[
    str | None,
    typer.Option("--id", metavar="USER", show_default=False, help="The user, as an option."),
]
KeyIdOption = Annotated[
    str | None,
    typer.Option("--key-id", metavar="KEY_ID", show_default=False, help="The key, as an option."),
]
Owner = Annotated[
    str,
    typer.Option("--user", "-u", metavar="USER", help="Id or username of the user."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

RIGHT = {
    "username": "letters, digits and . _ @ + -, 64 at most, the first a letter or a digit",
    "tenant": "small letters, digits and -, 63 at most, not - at the ends",
    "email": "an address such as ada@example.com",
    "name": "1 to 255 characters",
    "password": "1 to 1024 characters",
    "expires_in_days": "1 to 365 days",
}
"""What a value may be, by field."""

OPTIONS = {"expires_in_days": "expires-in"}
"""Fields whose option has another name."""


def load_settings(data_dir: Path | None) -> Settings:
    """Return the settings, with the data folder that was chosen."""
    from inferno import settings

    return settings.load({"data_dir": data_dir})


def administer(settings: Settings, work: Callable[[Administration], Awaitable[T]]) -> T:
    """Do some work on the open platform, and return what it returns."""
    import asyncio

    from inferno.tenancy.administration import administering

    async def run() -> T:
        async with administering(settings.database) as administration:
            return await work(administration)

    return asyncio.run(run())


def valid(kind: type[T], values: Mapping[str, Any]) -> T:
    """Make a request of a kind from options; those that are None are left out.

    Raises:
        CommandFailed: a value is not allowed; names the option and what is.
    """
    import msgspec

    given = {name: value for name, value in values.items() if value is not None}
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$.")
        field = path.rstrip("`").partition("[")[0]
        option = OPTIONS.get(field, field.replace("_", "-"))
        raise CommandFailed(f"--{option}: {RIGHT.get(field, problem)}", exit_code=2) from None


def one_of(argument: str | None, option: str | None, name: str) -> str:
    """Return what was given as an argument or as an option.

    Raises:
        CommandFailed: neither was, or both were and differ.
    """
    chosen = {value for value in (argument, option) if value is not None}
    if len(chosen) != 1:
        raise CommandFailed(f"give one {name}", exit_code=2)
    return chosen.pop()


def confirm(question: str) -> None:
    """Ask before something is deleted."""
    if not sys.stdin.isatty():
        raise CommandFailed("give --yes to delete without being asked", exit_code=2)
    typer.confirm(question, abort=True)


def read_secret(prompt: str, *, again: bool = False) -> str:
    """Return a secret from the terminal, where it is not shown, else from standard input.

    Args:
        prompt: what the terminal asks for.
        again: whether it has to be typed twice.
    """
    if sys.stdin.isatty():
        secret: str = typer.prompt(
            prompt, hide_input=True, default="", show_default=False, confirmation_prompt=again
        )
        return secret
    return sys.stdin.readline().rstrip("\r\n")


def checked_secret(secret: str, name: str) -> str:
    """Return a secret that is text. Raises CommandFailed."""
    try:
        secret.encode()
    except UnicodeEncodeError:
        raise CommandFailed(f"{name} is not text in UTF-8", exit_code=2) from None
    return secret


def warn_of_visible_secret(option: str, instead: str) -> None:
    """Say that a secret on the command line is no secret."""
    print(
        f"inferno: warning: other users of this machine can see {option} in the list of "
        f"processes; use {instead}",
        file=sys.stderr,
    )


async def working_user(administration: Administration, reference: str) -> User:
    """Return a user who may act. Raises NotFound, CommandFailed."""
    user = await administration.accounts.users.get(reference)
    if user.disabled:
        raise CommandFailed(f"the user '{user.username}' is disabled")
    return user
