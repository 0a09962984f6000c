"""`inferno security api-key`: what programs show to be let in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from inferno.cli.errors import CommandFailed
from inferno.cli.options import DataDir, Json
from inferno.cli.security_session import (
    KeyIdOption,
    Owner,
    administer,
    checked_secret,
    load_settings,
    one_of,
    read_secret,
    valid,
    warn_of_visible_secret,
)

if TYPE_CHECKING:
    from inferno.tenancy.administration import Administration
    from inferno.tenancy.types import ApiKey, User

app = typer.Typer(
    help="Create, list, rotate, disable, revoke and test API keys.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

DAY = 86_400

KeyArgument = Annotated[
    str | None,
    typer.Argument(metavar="KEY_ID", show_default=False, help="Id of the key, as in the list."),
]
OfUser = Annotated[
    str | None,
    typer.Option(
        "--user", "-u", metavar="USER", show_default=False, help="Only of this user (id or name)."
    ),
]


@app.command()
def create(
    user: Owner,
    name: Annotated[str, typer.Option("--name", "-n", metavar="NAME", help="What the key is for.")],
    permissions: Annotated[
        str | None,
        typer.Option(
            "--permissions",
            metavar="A,B",
            show_default=False,
            help="What the key may do of what its user may. Default: all of that.",
        ),
    ] = None,
    expires_in: Annotated[
        int | None,
        typer.Option(
            "--expires-in",
            metavar="DAYS",
            min=1,
            max=365,
            show_default=False,
            help="Days until the key ends. Default: never.",
        ),
    ] = None,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Create an API key, and show it this once."""
    from inferno.tenancy.types import NewApiKey

    listed = [part.strip() for part in (permissions or "").split(",") if part.strip()]
    _require_known(listed)
    new = valid(NewApiKey, {"name": name, "permissions": listed, "expires_in_days": expires_in})

    async def work(administration: Administration) -> tuple[ApiKey, str]:
        return await administration.create_key(user, new)

    _show_new(*administer(load_settings(data_dir), work), as_json=as_json)


app.command("generate", help="The same as `create`.")(create)


@app.command("list")
def list_keys(user: OfUser = None, as_json: Json = False, data_dir: DataDir = None) -> None:
    """List the API keys; not the keys themselves, which nobody has kept."""
    from inferno.cli.output import print_json, print_table

    async def work(administration: Administration) -> list[ApiKey]:
        accounts = administration.accounts
        owner = None if user is None else (await accounts.users.get(user)).id
        return await accounts.keys.all(owner=owner)

    keys = administer(load_settings(data_dir), work)
    if as_json:
        print_json({"api_keys": [_document(key) for key in keys]})
        return
    columns = ("ID", "USER", "NAME", "BEGINS", "STATE", "EXPIRES", "LAST USED", "PERMISSIONS")
    print_table(columns, [_row(key) for key in keys])


@app.command()
def revoke(
    key: KeyArgument = None,
    key_id: KeyIdOption = None,
    user: OfUser = None,
    data_dir: DataDir = None,
) -> None:
    """Delete an API key; it is refused from then on."""
    chosen = one_of(key, key_id, "KEY_ID")

    async def work(administration: Administration) -> ApiKey:
        return await administration.revoke_key(chosen, user=user)

    revoked = administer(load_settings(data_dir), work)
    print(f"Revoked {revoked.name} of {revoked.username}.")


@app.command()
def rotate(
    key: KeyArgument = None,
    key_id: KeyIdOption = None,
    grace: Annotated[
        int,
        typer.Option(
            "--grace",
            metavar="SECONDS",
            min=0,
            max=30 * DAY,
            help="How long the old key still works; 0 ends it at once.",
        ),
    ] = DAY,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Replace an API key by a new one of the same rights, and show that this once."""
    chosen = one_of(key, key_id, "KEY_ID")

    async def work(administration: Administration) -> tuple[ApiKey, str]:
        return await administration.rotate_key(chosen, grace_seconds=grace)

    _show_new(*administer(load_settings(data_dir), work), as_json=as_json)


@app.command()
def disable(key: KeyArgument = None, key_id: KeyIdOption = None, data_dir: DataDir = None) -> None:
    """Refuse an API key until it is enabled again."""
    changed = _set_disabled(one_of(key, key_id, "KEY_ID"), True, data_dir)
    print(f"Disabled {changed.name} of {changed.username}.")


@app.command()
def enable(key: KeyArgument = None, key_id: KeyIdOption = None, data_dir: DataDir = None) -> None:
    """Accept an API key again that was disabled."""
    changed = _set_disabled(one_of(key, key_id, "KEY_ID"), False, data_dir)
    print(f"Enabled {changed.name} of {changed.username}.")


@app.command("test")
def try_key(
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            "-k",
            metavar="KEY",
            show_default=False,
            help="The key. Better left out: it is then read from standard input, and a terminal "
            "asks for it and does not show it.",
        ),
    ] = None,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> int:
    """Say whether an API key would be let in, and whom it stands for.

    Exit code 0 if it would, 1 if not.
    """
    from inferno.cli.output import print_facts, print_json

    settings = load_settings(data_dir)
    if key is not None:
        warn_of_visible_secret("--key", "standard input")
    secret = checked_secret(read_secret("API key") if key is None else key, "the key")

    async def work(administration: Administration) -> tuple[ApiKey, User] | None:
        accounts = administration.accounts
        found = await accounts.keys.with_secret(secret)
        return None if found is None else (found, await accounts.users.get(found.user_id))

    found = administer(settings, work)
    state = "unknown" if found is None else _standing(*found)
    if as_json:
        shown = None if found is None else _document(found[0])
        print_json({"valid": state == "valid", "state": state, "api_key": shown})
    else:
        print_facts([("State", state), *(() if found is None else _facts(*found))])
    return 0 if state == "valid" else 1


def _set_disabled(key_id: str, disabled: bool, data_dir: DataDir) -> ApiKey:
    from inferno.tenancy.types import ApiKeyChange

    async def work(administration: Administration) -> ApiKey:
        return await administration.change_key(key_id, ApiKeyChange(disabled=disabled))

    return administer(load_settings(data_dir), work)


def _require_known(permissions: list[str]) -> None:
    from inferno.core.tenancy import Permission

    known = [permission.value for permission in Permission]
    unknown = [permission for permission in permissions if permission not in known]
    if unknown:
        raise CommandFailed(
            f"--permissions: no permission '{unknown[0]}'; there are {', '.join(known)}",
            exit_code=2,
        )


def _show_new(key: ApiKey, secret: str, *, as_json: bool) -> None:
    """Show a key that was made, with the key itself."""
    from inferno.cli.output import print_facts, print_json

    if as_json:
        print_json({**_document(key), "api_key": secret})
        return
    facts = [("API key", secret), ("Id", key.id), ("Name", key.name), ("User", key.username)]
    print_facts([*facts, ("Expires", key.expires_at or "")])
    print("The key is shown once.")


def _document(key: ApiKey) -> dict[str, object]:
    """Return a key as JSON has it."""
    import msgspec

    document: dict[str, object] = msgspec.to_builtins(key)
    return document


def _row(key: ApiKey) -> tuple[str, ...]:
    return (
        key.id,
        key.username,
        key.name,
        key.prefix,
        _state(key),
        key.expires_at or "",
        key.last_used_at or "",
        ", ".join(key.permissions),
    )


def _facts(key: ApiKey, user: User) -> list[tuple[str, str]]:
    return [
        ("User", user.username),
        ("Role", user.role.value),
        ("Tenant", user.tenant),
        ("Id", key.id),
        ("Name", key.name),
        ("Permissions", ", ".join(key.permissions)),
        ("Expires", key.expires_at or ""),
    ]


def _state(key: ApiKey) -> str:
    from inferno.tenancy.ledger import now_text

    if key.disabled:
        return "disabled"
    return "expired" if key.expires_at is not None and key.expires_at <= now_text() else "active"


def _standing(key: ApiKey, user: User) -> str:
    """Return `valid`, or why a key is not let in."""
    state = _state(key)
    if state == "active":
        return "user disabled" if user.disabled else "valid"
    return state
