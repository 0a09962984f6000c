"""`inferno security rate-limit`: how much who may ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple
from urllib.parse import quote

import typer

from inferno.cli.errors import CommandFailed
from inferno.cli.options import ApiKey as ServerKey
from inferno.cli.options import DataDir, Json, Url
from inferno.cli.security_session import Owner, administer, load_settings

if TYPE_CHECKING:
    from inferno.core.tenancy import LimitOverrides
    from inferno.settings import Settings
    from inferno.tenancy.administration import Administration
    from inferno.tenancy.overrides import Scope
    from inferno.tenancy.types import ApiKey, User

app = typer.Typer(
    help="Show and set rate limits, and forget what was used of them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

NAMES = ("requests_per_minute", "requests_per_hour", "tokens_per_minute", "concurrent_requests")
MOST = 2**53

OfUser = Annotated[
    str | None,
    typer.Option(
        "--user", "-u", metavar="USER", show_default=False, help="Of a user (id or name)."
    ),
]
OfKey = Annotated[
    str | None,
    typer.Option("--key-id", metavar="KEY_ID", show_default=False, help="Of an API key."),
]


class Source(NamedTuple):
    """Limits that are set somewhere.

    Args:
        scope: `tenant`, `role`, `user` or `key`.
        name: whose they are.
        limits: what is set.
    """

    scope: str
    name: str
    limits: LimitOverrides


@app.command()
def status(
    user: OfUser = None, key_id: OfKey = None, as_json: Json = False, data_dir: DataDir = None
) -> None:
    """Show the limits in force for a user or a key, and where they are set; else all that are set.

    Of a role, a tenant, a user and a key, the narrower one that sets a limit decides: the key
    before the user, the user before the role, the role before the tenant, and that before the
    settings. What has been used is counted by the running server, which says it on every answer
    (X-RateLimit-Remaining) and to each caller at GET /auth/me.
    """
    settings = load_settings(data_dir)
    if user is None and key_id is None:
        _show_all(settings, as_json=as_json)
    else:
        _show_one(settings, user, key_id, as_json=as_json)


@app.command("set")
def set_limits(
    user: OfUser = None,
    key_id: OfKey = None,
    role: Annotated[
        str | None,
        typer.Option("--role", metavar="ROLE", show_default=False, help="Of all with a role."),
    ] = None,
    tenant: Annotated[
        str | None,
        typer.Option("--tenant", metavar="TENANT", show_default=False, help="Of all of a tenant."),
    ] = None,
    requests_per_minute: Annotated[
        int | None,
        typer.Option(
            "--requests-per-minute",
            metavar="N",
            min=-1,
            max=MOST,
            show_default=False,
            help="Requests per minute; -1 for no limit.",
        ),
    ] = None,
    requests_per_hour: Annotated[
        int | None,
        typer.Option(
            "--requests-per-hour",
            metavar="N",
            min=-1,
            max=MOST,
            show_default=False,
            help="Requests per hour; -1 for no limit.",
        ),
    ] = None,
    tokens_per_minute: Annotated[
        int | None,
        typer.Option(
            "--tokens-per-minute",
            metavar="N",
            min=-1,
            max=MOST,
            show_default=False,
            help="Tokens per minute; -1 for no limit.",
        ),
    ] = None,
    concurrent: Annotated[
        int | None,
        typer.Option(
            "--concurrent",
            metavar="N",
            min=-1,
            max=MOST,
            show_default=False,
            help="Requests at once; -1 for no limit.",
        ),
    ] = None,
    clear: Annotated[
        bool, typer.Option("--clear", help="Take away what is set here, before setting the rest.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Set limits of a user, a key, a role or a tenant; those that are not given stay."""
    given = dict(
        zip(
            NAMES,
            (requests_per_minute, requests_per_hour, tokens_per_minute, concurrent),
            strict=True,
        )
    )
    wanted = {name: value for name, value in given.items() if value is not None}
    targets = {"user": user, "key": key_id, "role": role, "tenant": tenant}
    named = [(scope, name) for scope, name in targets.items() if name is not None]
    if len(named) != 1:
        raise CommandFailed("give one of --user, --key-id, --role and --tenant", exit_code=2)
    if not wanted and not clear:
        raise CommandFailed("give at least one limit, or --clear", exit_code=2)
    scope, name = named[0]

    async def work(administration: Administration) -> None:
        await _set(administration, scope, name, wanted, clear=clear)

    administer(load_settings(data_dir), work)
    print(f"Set the limits of {scope} {name}.")


@app.command()
def reset(
    user: Owner, data_dir: DataDir = None, url: Url = None, api_key: ServerKey = None
) -> None:
    """Forget what a user and its keys have used.

    The running server counts that, so it has to run.
    """
    from inferno.cli import discovery

    settings = load_settings(data_dir)
    client = discovery.connect(settings, url, api_key)
    if client is None:
        raise CommandFailed(
            f"no server runs on {settings.data_dir}, and what was used is counted where it runs"
        )
    client.delete(f"/auth/rate-limits/usage/{quote(user, safe='')}")
    print(f"Reset what {user} has used.")


async def _set(
    administration: Administration, scope: str, name: str, wanted: dict[str, int], *, clear: bool
) -> None:
    """Set limits somewhere, over those that are set there."""
    from inferno.core.tenancy import LimitOverrides
    from inferno.tenancy.types import ApiKeyChange, UserChange

    accounts = administration.accounts
    if scope == "user":
        held = (await accounts.users.get(name)).limits
        change = UserChange(limits=_merged(held, wanted, clear=clear))
        await administration.change_user(name, change)
    elif scope == "key":
        held = (await accounts.keys.get(name)).limits
        key_change = ApiKeyChange(limits=_merged(held, wanted, clear=clear))
        await administration.change_key(name, key_change)
    else:
        where: Scope = "role" if scope == "role" else "tenant"
        held = (await accounts.overrides.all()).get((where, name), LimitOverrides())
        await administration.set_limits(where, name, _merged(held, wanted, clear=clear))


def _merged(held: LimitOverrides, wanted: dict[str, int], *, clear: bool) -> LimitOverrides:
    import msgspec

    from inferno.core.tenancy import LimitOverrides

    return msgspec.structs.replace(LimitOverrides() if clear else held, **wanted)


def _show_one(settings: Settings, user: str | None, key_id: str | None, *, as_json: bool) -> None:
    """Show the limits in force for one caller."""
    import msgspec

    from inferno.cli.output import print_json, print_table
    from inferno.core.tenancy import policy_of
    from inferno.tenancy.roster import default_of

    async def work(administration: Administration) -> tuple[User, ApiKey | None, list[Source]]:
        return await _sources_of(administration, user, key_id)

    owner, key, sources = administer(settings, work)
    default = default_of(owner.role, settings.default_limits)
    policy = policy_of(default, *(source.limits for source in sources))
    set_by = {name: _set_by(name, sources) for name in NAMES}
    if as_json:
        document = {"user": owner.username, "key_id": None if key is None else key.id}
        print_json({**document, "limits": msgspec.to_builtins(policy), "set_by": set_by})
        return
    rows = [(_title(name), _shown(getattr(policy, name)), set_by[name]) for name in NAMES]
    print_table(("LIMIT", "IN FORCE", "SET BY"), rows)


def _show_all(settings: Settings, *, as_json: bool) -> None:
    """Show the defaults, and all that is set anywhere."""
    import msgspec

    from inferno.cli.output import print_json, print_table

    sources = administer(settings, _all_sources)
    defaults = settings.default_limits
    if as_json:
        shown = [
            {"scope": scope, "name": name, "limits": msgspec.to_builtins(limits)}
            for scope, name, limits in sources
        ]
        print_json({"defaults": msgspec.to_builtins(defaults), "overrides": shown})
        return
    rows = [("default", "", *(_shown(getattr(defaults, name)) for name in NAMES))]
    for scope, name, limits in sources:
        values = (getattr(limits, limit) for limit in NAMES)
        rows.append((scope, name, *("" if v is None else _shown(v) for v in values)))
    print_table(("SCOPE", "NAME", *(_title(name).upper() for name in NAMES)), rows)


async def _sources_of(
    administration: Administration, user: str | None, key_id: str | None
) -> tuple[User, ApiKey | None, list[Source]]:
    """Return a caller, and where its limits are set: the widest first."""
    accounts = administration.accounts
    key = None
    if key_id is not None:
        owner_id = None if user is None else (await accounts.users.get(user)).id
        key = await accounts.keys.get(key_id, owner=owner_id)
    owner = await accounts.users.get(key.user_id if key is not None else user or "")
    overrides = await accounts.overrides.all()
    wider = [("tenant", owner.tenant), ("role", owner.role.value)]
    sources = [Source(*at, overrides[at]) for at in wider if at in overrides]
    sources.append(Source("user", owner.username, owner.limits))
    if key is not None:
        sources.append(Source("key", key.id, key.limits))
    return owner, key, sources


async def _all_sources(administration: Administration) -> list[Source]:
    """Return all places where limits are set."""
    from inferno.core.tenancy import LimitOverrides

    accounts = administration.accounts
    overrides = sorted((await accounts.overrides.all()).items())
    sources = [Source(*at, limits) for at, limits in overrides]
    sources += [Source("user", user.username, user.limits) for user in await accounts.users.all()]
    sources += [Source("key", key.id, key.limits) for key in await accounts.keys.all()]
    return [source for source in sources if source.limits != LimitOverrides()]


def _set_by(limit: str, sources: list[Source]) -> str:
    """Return what sets a limit: the narrowest that does."""
    for source in reversed(sources):
        if getattr(source.limits, limit) is not None:
            return f"{source.scope} {source.name}"
    return "default"


def _title(limit: str) -> str:
    return limit.replace("_", " ")


def _shown(value: int | None) -> str:
    return "none" if value is None or value < 0 else str(value)
