"""`inferno security`: users, keys, tokens, limits and the audit trail, from the machine itself."""

from __future__ import annotations

import typer

from inferno.cli import (
    security_audit,
    security_keys,
    security_limits,
    security_tokens,
    security_users,
)
from inferno.cli.options import DataDir, Json
from inferno.cli.security_session import load_settings

app = typer.Typer(
    help="Manage users, keys, tokens, limits; read the audit trail.\n\n"
    "Works on the platform in DATA_DIR, whether it runs or not, for whoever can write there. A "
    "running platform heeds a change within half a second.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def init(as_json: Json = False, data_dir: DataDir = None) -> None:
    """Make the data folder, the admin user and its first API key.

    Shows them this once, and keeps them in DATA_DIR/credentials.json. INFERNO_ADMIN_PASSWORD and
    INFERNO_API_KEY choose them. Where there is a platform already, nothing changes.
    """
    import asyncio

    from inferno.cli.output import print_facts, print_json
    from inferno.tenancy.administration import initialise

    settings = load_settings(data_dir)
    first = asyncio.run(
        initialise(
            settings.data_dir,
            settings.database,
            password=settings.admin_password,
            api_key=settings.api_key,
        )
    )
    file = str(settings.data_dir / "credentials.json")
    shown: dict[str, str] = {}
    if first is not None:
        # What the environment chose is known there, and is shown nowhere else.
        shown["username"] = first.username
        if settings.admin_password is None:
            shown["password"] = first.password
        if settings.api_key is None:
            shown["api_key"] = first.api_key
    if as_json:
        print_json({"created": first is not None, "data_dir": str(settings.data_dir), **shown})
    elif first is None:
        print(f"There is a platform in {settings.data_dir} already; nothing was changed.")
    else:
        titles = {"username": "Username", "password": "Password", "api_key": "API key"}
        print_facts((titles[name], text) for name, text in shown.items())
        if len(shown) > 1:
            print(f"These are shown once, and kept in {file}.")


app.add_typer(security_users.app, name="user")
app.add_typer(security_keys.app, name="api-key")
app.add_typer(security_tokens.app, name="token")
app.add_typer(security_limits.app, name="rate-limit")
app.command("audit")(security_audit.audit)
