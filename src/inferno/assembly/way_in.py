"""Who is let in: identity, limits, audit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec

from inferno.core.errors import ConfigurationError
from inferno.identity.issuer_settings import IssuerSettings
from inferno.identity.slowdown import LoginSlowdown
from inferno.identity.tokens import TokenIssuer
from inferno.limits.base import Limiter
from inferno.limits.memory import MemoryLimiter
from inferno.settings import Settings
from inferno.storage.database import Database
from inferno.telemetry.audit import AuditTrail
from inferno.tenancy.access import Access, TokenVerifier
from inferno.tenancy.accounts import Accounts
from inferno.tenancy.roster import Roster
from inferno.tenancy.sessions import Sessions, signing_secret
from inferno.web.address import networks


@dataclass(frozen=True, slots=True)
class Doors:
    """Who is let in, and how users sign in."""

    access: Access
    sessions: Sessions


@asynccontextmanager
async def way_in(
    settings: Settings,
    database: Database,
    accounts: Accounts,
    secret: bytes,
    *,
    on_refusal: Callable[[str], None],
) -> AsyncIterator[Doors]:
    """Wire identity, limits and audit, and keep the roster fresh while the block runs."""
    defaults = settings.default_limits
    tokens = TokenIssuer(
        signing_secret(settings.jwt_secret, secret),
        lifetime_seconds=settings.token_lifetime,
        refresh_lifetime_seconds=settings.refresh_token_lifetime,
    )
    roster = Roster(
        accounts.ledger,
        accounts.users,
        accounts.keys,
        accounts.overrides,
        accounts.revocations,
        defaults=defaults,
        tokens=tokens.revocations,
    )
    limiter = create_limiter(settings)
    audit = AuditTrail(database)
    access = Access(
        roster,
        tokens,
        outside_issuers(settings, roster),
        limiter,
        audit,
        strangers=defaults,
        proxies=networks(settings.trusted_proxies),
        origins=settings.cors_origins,
        enabled=settings.auth,
        on_refusal=on_refusal,
    )
    sessions = Sessions(
        accounts.users,
        accounts.revocations,
        tokens,
        LoginSlowdown(),
        refresh_lifetime=max(settings.token_lifetime, settings.refresh_token_lifetime),
    )
    try:
        async with audit.writing(), roster.following():
            yield Doors(access, sessions)
    finally:
        await limiter.close()


def create_limiter(settings: Settings) -> Limiter:
    """Return the limiter of this process, or the one that processes share in Redis."""
    if settings.redis_url is None:
        return MemoryLimiter()
    from inferno.limits.redis import RedisLimiter

    return RedisLimiter(
        settings.redis_url,
        on_failure=settings.redis_failure,
        # A process that was killed cannot give its places back; they end with the longest request.
        lease_seconds=settings.request_timeout + settings.load_timeout + settings.queue_timeout,
    )


def outside_issuers(settings: Settings, roster: Roster) -> TokenVerifier | None:
    """Return the outside issuers that are trusted, or None.

    Raises:
        ConfigurationError: an `[[issuers]]` table is wrong; names what.
    """
    if not settings.issuers:
        return None
    from inferno.identity.issuers import OutsideIssuers  # loads cryptography

    try:
        wanted = msgspec.convert(settings.issuers, list[IssuerSettings])
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"issuers: {error}") from None
    return OutsideIssuers(wanted, limits=lambda tenant, role, _: roster.limits_of(role, tenant))
