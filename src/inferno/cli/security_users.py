"""`inferno security user`: who may sign in."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from inferno.cli.errors import CommandFailed
from inferno.cli.options import DataDir, Json
from inferno.cli.security_session import (
    Id,
    Yes,
    administer,
    checked_secret,
    confirm,
    load_settings,
    one_of,
    read_secret,
    valid,
    warn_of_visible_secret,
)

if TYPE_CHECKING:
    from inferno.tenancy.administration import Administration
    from inferno.tenancy.types import User

app = typer.Typer(
    help="Create, list, modify and delete users.", no_args_is_help=True, rich_markup_mode=None
)

RoleName = Literal["admin", "user", "service", "guest"]

UserArgument = Annotated[
    str | None,
    typer.Argument(metavar="USER", show_default=False, help="Id or username of the user."),
]
Password = Annotated[
    str | None,
    typer.Option(
        "--password",
        metavar="PASSWORD",
        show_default=False,
        help="The password. Other users of the machine can see command lines: better not.",
    ),
]
PasswordStdin = Annotated[
    bool,
    typer.Option(
        "--password-stdin",
        help="Read the password from standard input; a terminal asks for it and does not show it.",
    ),
]
Generate = Annotated[
    bool, typer.Option("--generate-password", help="Generate a password, and show it this once.")
]
Tenant = Annotated[
    str | None,
    typer.Option("--tenant", metavar="TENANT", show_default=False, help="Tenant of the user."),
]
Email = Annotated[
    str | None,
    typer.Option("--email", "-e", metavar="ADDRESS", show_default=False, help="Mail address."),
]


@app.command()
def create(
    username: Annotated[
        str, typer.Option("--username", metavar="NAME", help="Name to sign in with.")
    ],
    password: Password = None,
    password_stdin: PasswordStdin = False,
    generate_password: Generate = False,
    role: Annotated[RoleName, typer.Option("--role", "-r", help="What the user may do.")] = "user",
    tenant: Tenant = None,
    email: Email = None,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Create a user.

    Without an option for the password, a terminal asks for it. Where nobody can be asked, or
    nothing is typed, one is generated and shown this once.
    """
    from inferno.cli.output import print_facts, print_json
    from inferno.identity.passwords import generate_password as generated_password
    from inferno.tenancy.types import NewUser

    settings = load_settings(data_dir)
    given = _password(password, password_stdin, generate_password)
    if given is None and not generate_password and sys.stdin.isatty():
        given = read_secret("Password (empty: one is generated)", again=True) or None
    generated = generated_password() if given is None else None
    values = {
        "username": username,
        "password": generated if given is None else given,
        "role": role,
        "tenant": tenant,
        "email": email,
    }
    new = valid(NewUser, values)

    async def work(administration: Administration) -> User:
        return await administration.create_user(new)

    user = administer(settings, work)
    if as_json:
        print_json(_document(user, generated))
        return
    print_facts([("User", user.username), ("Id", user.id), ("Password", generated or "")])
    if generated:
        print("The password is shown once.")


@app.command("list")
def list_users(
    tenant: Annotated[
        str | None,
        typer.Option("--tenant", metavar="TENANT", show_default=False, help="Of one tenant only."),
    ] = None,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """List the users."""
    from inferno.cli.output import print_json, print_table

    async def work(administration: Administration) -> list[User]:
        return await administration.accounts.users.all(tenant=tenant)

    users = administer(load_settings(data_dir), work)
    if as_json:
        print_json({"users": [_document(user) for user in users]})
        return
    columns = ("ID", "USERNAME", "ROLE", "TENANT", "STATE", "EMAIL", "LAST LOGIN")
    print_table(columns, [_row(user) for user in users])


@app.command()
def modify(
    user: UserArgument = None,
    user_id: Id = None,
    role: Annotated[
        RoleName | None,
        typer.Option("--role", "-r", show_default=False, help="What the user may do."),
    ] = None,
    tenant: Tenant = None,
    email: Email = None,
    enable: Annotated[
        bool | None,
        typer.Option(
            "--enable/--disable",
            show_default=False,
            help="Whether the user may act. Disabling ends its keys and tokens at once.",
        ),
    ] = None,
    password: Password = None,
    password_stdin: PasswordStdin = False,
    generate_password: Generate = False,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Change a user; what is not given stays as it is."""
    from inferno.cli.output import print_json
    from inferno.identity.passwords import generate_password as generated_password
    from inferno.tenancy.types import UserChange

    reference = one_of(user, user_id, "USER")
    generated = generated_password() if generate_password else None
    given = _password(password, password_stdin, generate_password)
    values = {
        "role": role,
        "tenant": tenant,
        "email": email,
        "disabled": None if enable is None else not enable,
        "password": generated if given is None else given,
    }
    if all(value is None for value in values.values()):
        raise CommandFailed("give at least one thing to change", exit_code=2)
    change = valid(UserChange, values)

    async def work(administration: Administration) -> User:
        return await administration.change_user(reference, change)

    changed = administer(load_settings(data_dir), work)
    if as_json:
        print_json(_document(changed, generated))
        return
    print(f"Changed {changed.username}.")
    if generated:
        print(f"Password: {generated}\nThe password is shown once.")


@app.command()
def delete(
    user: UserArgument = None,
    user_id: Id = None,
    yes: Yes = False,
    data_dir: DataDir = None,
) -> None:
    """Delete a user with its API keys."""
    reference = one_of(user, user_id, "USER")
    settings = load_settings(data_dir)
    if not yes:
        confirm(f"Delete the user {reference} and all its API keys?")

    async def work(administration: Administration) -> User:
        return await administration.delete_user(reference)

    print(f"Deleted {administer(settings, work).username}.")


def _password(given: str | None, from_stdin: bool, generate: bool) -> str | None:
    """Return the password that was given in one of three ways; None where in none of them."""
    if sum((given is not None, from_stdin, generate)) > 1:
        raise CommandFailed(
            "--password, --password-stdin and --generate-password exclude each other", exit_code=2
        )
    if given is not None:
        warn_of_visible_secret("--password", "--password-stdin")
        return checked_secret(given, "--password")
    if from_stdin:
        return checked_secret(read_secret("Password", again=True), "the password")
    return None


def _document(user: User, password: str | None = None) -> dict[str, object]:
    """Return a user as JSON has it, with a password that was generated."""
    import msgspec

    document: dict[str, object] = msgspec.to_builtins(user)
    return document if password is None else {**document, "password": password}


def _row(user: User) -> tuple[str, ...]:
    state = "disabled" if user.disabled else "active"
    named = (user.id, user.username, user.role.value, user.tenant, state)
    return (*named, user.email or "", user.last_login or "")
