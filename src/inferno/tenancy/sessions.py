"""Signing in, staying signed in, signing out."""

from __future__ import annotations

import asyncio
import hmac
import time

from inferno.core.errors import AuthenticationFailed, NotFound, RateLimitExceeded
from inferno.identity.slowdown import LoginSlowdown
from inferno.identity.tokens import Claims, TokenIssuer, TokenPair
from inferno.tenancy.revocations import Revocations
from inferno.tenancy.types import User
from inferno.tenancy.users import Users, is_outdated

CONCURRENT_CHECKS = 2
"""Passwords checked at once: argon2 takes 64 MiB and most of a core for each."""

REFUSED = "Invalid username or password."
ENDED = "The session has ended; sign in again."


def signing_secret(given: str | None, platform_secret: bytes) -> str | bytes:
    """Return what the platform's tokens are signed with.

    Args:
        given: the setting, where there is one.
        platform_secret: the data folder's; replicas' keys come from it too, and a secret has one
            purpose, so another one is derived.
    """
    return given or hmac.digest(platform_secret, b"tokens", "sha256")


class TooManyLogins(RateLimitExceeded):
    """An account or an address has failed too often of late."""


class Sessions:
    """Logins and their tokens.

    Args:
        users: who may sign in.
        revocations: tokens that have ended early.
        tokens: issues and checks them.
        slowdown: slows down whoever guesses.
        refresh_lifetime: seconds that a refresh token lives: no token of a session lives longer.
    """

    def __init__(
        self,
        users: Users,
        revocations: Revocations,
        tokens: TokenIssuer,
        slowdown: LoginSlowdown,
        *,
        refresh_lifetime: int,
    ) -> None:
        self._users = users
        self._revocations = revocations
        self._tokens = tokens
        self._slowdown = slowdown
        self._refresh_lifetime = refresh_lifetime
        self._checking = asyncio.Semaphore(CONCURRENT_CHECKS)

    async def login(self, username: str, password: str, *, address: str) -> tuple[User, TokenPair]:
        """Sign a user in.

        Raises:
            AuthenticationFailed: the name, the password or both are wrong, or the user is
                disabled; the answer does not tell which.
            TooManyLogins: too many failures of late.
        """
        user = await self.confirm(username, password, address=address)
        await self._users.note_login(user.id)
        return user, self._pair(user, None)

    async def confirm(self, username: str, password: str, *, address: str) -> User:
        """Return the user that a name and a password belong to. Raises as `login` does."""
        wait = self._slowdown.check(username, address)
        if wait > 0:
            raise TooManyLogins(retry_after=max(1, round(wait + 0.5)), limit="logins")
        async with self._checking:
            user = await self._users.with_password(username, password)
        if user is None:
            self._slowdown.failed(username, address)
            raise AuthenticationFailed(REFUSED)
        self._slowdown.succeeded(username, address)
        return user

    async def refresh(self, refresh_token: str) -> tuple[User, TokenPair]:
        """Return a new pair of tokens for a refresh token, which is spent by that.

        A refresh token that comes a second time was stolen, before or after: the whole family of
        tokens that came from its login is revoked (RFC 9700, section 4.14).

        Raises:
            AuthenticationFailed: it is not valid, or was spent before.
        """
        claims = self._tokens.verify(refresh_token, "refresh", check_revoked=False)
        try:
            await self._revocations.spend(claims.jti, until=claims.expires_at)
        except AuthenticationFailed:
            await self._end(claims)
            raise
        if self._tokens.revocations.is_revoked(claims.family):
            raise AuthenticationFailed(ENDED)
        try:
            user = await self._users.get(claims.subject)
        except NotFound:
            raise AuthenticationFailed(ENDED) from None
        if user.disabled or is_outdated(user, claims.issued_at):
            raise AuthenticationFailed(ENDED)
        return user, self._pair(user, claims.family)

    async def logout(self, claims: Claims) -> None:
        """End the session that a token belongs to, its refresh tokens included."""
        await self._end(claims)

    async def _end(self, claims: Claims) -> None:
        # The newest token of the family may be a moment old, however old the one at hand is.
        until = max(claims.expires_at, time.time() + self._refresh_lifetime)
        await self._revocations.revoke(claims.family, until=until)
        self._tokens.revocations.revoke(claims.family, until)

    def _pair(self, user: User, family: str | None) -> TokenPair:
        return self._tokens.issue(
            user.id, username=user.username, tenant=user.tenant, role=user.role, family=family
        )
