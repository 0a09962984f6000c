"""`inferno security token`: what people who have signed in show."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inferno.cli.errors import CommandFailed
from inferno.cli.options import DataDir, Json
from inferno.cli.security_session import (
    Owner,
    administer,
    checked_secret,
    load_settings,
    read_secret,
    working_user,
)

if TYPE_CHECKING:
    from inferno.identity.tokens import Claims, TokenIssuer, TokenPair
    from inferno.settings import Settings
    from inferno.tenancy.administration import Administration

app = typer.Typer(
    help="Generate, verify and revoke tokens.", no_args_is_help=True, rich_markup_mode=None
)


@app.command()
def generate(user: Owner, as_json: Json = False, data_dir: DataDir = None) -> None:
    """Generate an access token for a user, as a login would.

    Prints the token on standard output, and what is to be known of it on standard error.
    """
    from inferno.cli.output import print_json

    settings = load_settings(data_dir)

    async def work(administration: Administration) -> TokenPair:
        owner = await working_user(administration, user)
        return await administration.issue_tokens(owner, _issuer(settings))

    pair = administer(settings, work)
    claims = pair.access_claims
    if as_json:
        print_json({"token": pair.access, **_document(claims)})
        return
    print(pair.access)
    print(f"Expires {_date(claims.expires_at)}. Id (jti): {claims.jti}", file=sys.stderr)


@app.command()
def verify(
    token: Annotated[
        str | None,
        typer.Argument(
            metavar="TOKEN",
            show_default=False,
            help="The token. Left out, it is read from standard input; a terminal asks for it.",
        ),
    ] = None,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> int:
    """Say whether a token of the platform's own would be let in, and what it says.

    Exit code 0 if it would, 1 if not. Tokens of outside issuers are not known here.
    """
    from inferno.cli.output import print_facts, print_json

    settings = load_settings(data_dir)
    shown = checked_secret(read_secret("Token") if token is None else token, "the token").strip()

    async def work(administration: Administration) -> tuple[Claims | None, str]:
        return await _verdict(administration, _issuer(settings), shown)

    claims, reason = administer(settings, work)
    document = None if claims is None else _document(claims)
    if as_json:
        print_json({"valid": not reason, "reason": reason or None, "claims": document})
    else:
        facts = [("State", f"not valid: {reason}" if reason else "valid")]
        print_facts([*facts, *((name, str(value)) for name, value in (document or {}).items())])
    return 1 if reason else 0


@app.command()
def revoke(
    jti: Annotated[
        str,
        typer.Option(
            "--jti", metavar="JTI", help="Id of the token (jti), or of its session (fam)."
        ),
    ],
    data_dir: DataDir = None,
) -> None:
    """Refuse a token, or all tokens of a session, from now on."""
    if not 1 <= len(checked_secret(jti, "--jti")) <= 256:
        raise CommandFailed("--jti: 1 to 256 characters", exit_code=2)
    settings = load_settings(data_dir)
    # How long the token lives is not known from its id: as long as any could.
    longest = max(settings.token_lifetime, settings.refresh_token_lifetime)

    async def work(administration: Administration) -> None:
        await administration.revoke_token(jti, until=time.time() + longest)

    administer(settings, work)
    print(f"Revoked {jti}.")


@app.command("list-revoked")
def list_revoked(
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="At most so many.")
    ] = 50,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """List revoked tokens that have not expired by themselves, those that expire last first.

    Refresh tokens that were used are among them: each can be used once.
    """
    from inferno.cli.output import print_json, print_table

    async def work(administration: Administration) -> dict[str, float]:
        return await administration.accounts.revocations.all()

    revoked = administer(load_settings(data_dir), work)
    newest = sorted(revoked.items(), key=lambda entry: entry[1], reverse=True)[:limit]
    rows = [(jti, _date(until)) for jti, until in newest if until > time.time()]
    if as_json:
        print_json({"revoked": [{"jti": jti, "expires_at": until} for jti, until in rows]})
    else:
        print_table(("JTI", "EXPIRES"), rows)


def _issuer(settings: Settings) -> TokenIssuer:
    """Return what signs tokens as the platform does."""
    from inferno.data_dir import DataDir as Folder
    from inferno.identity.tokens import TokenIssuer
    from inferno.tenancy.sessions import signing_secret

    return TokenIssuer(
        signing_secret(settings.jwt_secret, Folder(settings.data_dir).secret()),
        lifetime_seconds=settings.token_lifetime,
        refresh_lifetime_seconds=settings.refresh_token_lifetime,
    )


async def _verdict(
    administration: Administration, issuer: TokenIssuer, token: str
) -> tuple[Claims | None, str]:
    """Return what a token says, where it is genuine, and why it is refused, where it is."""
    from inferno.core.errors import AuthenticationFailed, NotFound

    issuer.revocations.load((await administration.accounts.revocations.all()).items())
    try:
        claims = issuer.verify(token)
    except AuthenticationFailed as error:
        return None, str(error.__cause__ or error.message)
    try:
        user = await administration.accounts.users.get(claims.subject)
    except NotFound:
        return claims, "the user is gone"
    return claims, "the user is disabled" if user.disabled else ""


def _document(claims: Claims) -> dict[str, Any]:
    """Return what a token says, with dates."""
    return {
        "user_id": claims.subject,
        "username": claims.username,
        "role": claims.role.value,
        "tenant": claims.tenant,
        "jti": claims.jti,
        "fam": claims.family,
        "issued_at": _date(claims.issued_at),
        "expires_at": _date(claims.expires_at),
    }


def _date(moment: float) -> str:
    date = datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
    return date.replace("+00:00", "Z")
