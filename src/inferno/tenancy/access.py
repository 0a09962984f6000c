"""Access: who is calling, whether they may, and how much they have left.

Nothing here waits for a database: users and keys are in the roster, limits in the limiter.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from typing import Protocol, Self

import msgspec
from starlette.types import Scope

from inferno.core.errors import AuthenticationFailed, PermissionDenied
from inferno.core.tenancy import ANONYMOUS, LimitPolicy, Permission, Principal
from inferno.identity.tokens import TokenIssuer
from inferno.limits.base import Admission, InstantLimiter, Limiter, Refused
from inferno.limits.tally import Tally
from inferno.telemetry.audit import AuditEvent, AuditTrail
from inferno.tenancy.roster import Roster
from inferno.tenancy.users import is_outdated
from inferno.web.address import Network, client_address, limit_subject
from inferno.web.exchange import header_of
from inferno.web.handshake import check_origin

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""They change nothing (RFC 9110, 9.2.1), so pages of other sites gain nothing by sending them:
browsers do not show them the answer."""

BASIC_PATHS = frozenset({"/docs", "/openapi.json"})
"""Where a key may come as a password: a browser goes on sending it by itself, so nowhere else."""

MAX_LIMITED = 10_000
"""Callers whose use of a limit is recorded in one minute."""

MISSING = "Credentials are missing: send 'Authorization: Bearer YOUR_API_KEY'."
WRONG = "The credentials are not valid."


class Visit(msgspec.Struct):
    """A request that was let in.

    Args:
        principal: who is calling.
        address: from where.
        admission: what it holds of its limits.
        tallies: tokens of its calls to replicas.
    """

    principal: Principal
    address: str
    admission: Admission
    tallies: list[Tally] = []

    @property
    def tokens(self) -> int | None:
        """Tokens used; None where the request had nothing to do with tokens."""
        if len(self.tallies) == 1:
            return self.tallies[0].used
        return sum(tally.used for tally in self.tallies) if self.tallies else None


@dataclass(frozen=True, slots=True)
class Badge:
    """By what a caller is recognised again on a connection that stays open.

    Args:
        digest: of what it showed; an API key itself is not kept.
        token: that, where it is a token: tokens say themselves how long they are valid.
    """

    digest: bytes = field(repr=False)
    token: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(cls, credential: bytes) -> Self:
        """Return the badge for a key or a token."""
        token = credential if credential.count(b".") == 2 else None
        return cls(hashlib.sha256(credential).digest(), token)


class TokenVerifier(Protocol):
    """Tells tokens of outside issuers from all others."""

    async def verify(self, token: bytes) -> Principal:
        """Return whom a token stands for. Raises AuthenticationFailed."""


class Access:
    """The way in.

    Args:
        roster: users and keys.
        tokens: issues and checks our own tokens.
        issuers: checks those of others; None where none is configured.
        limiter: keeps callers within their limits.
        audit: told of refusals.
        strangers: limits of an address that shows no valid credentials.
        proxies: whose `X-Forwarded-For` is believed.
        origins: web origins whose pages may call, beside our own.
        enabled: whether callers need credentials at all.
        on_refusal: told of each refusal by its reason: a limit's name, `authentication`,
            `permission`.
    """

    def __init__(
        self,
        roster: Roster,
        tokens: TokenIssuer,
        issuers: TokenVerifier | None,
        limiter: Limiter,
        audit: AuditTrail,
        *,
        strangers: LimitPolicy,
        proxies: Sequence[Network],
        origins: Sequence[str],
        enabled: bool,
        on_refusal: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.roster = roster
        self.tokens = tokens
        self.limiter = limiter
        self._instant: InstantLimiter | None = limiter.instant
        self.audit = audit
        self._issuers = issuers
        self._strangers = strangers
        self._proxies = tuple(proxies)
        self._minute = 0
        self._limited: set[tuple[str, str]] = set()
        self.enabled = enabled
        self._on_refusal = on_refusal
        self._origins = tuple(origins)

    async def enter(self, scope: Scope, badge: Badge | None = None) -> Visit:
        """Let a request in; give the visit back with `leave`.

        Args:
            scope: of the request; its rate-limit standing is left in `scope["state"]`.
            badge: from `present`, for a request on a connection that stays open; else the
                request's headers say who is calling.

        Raises:
            PermissionDenied: a page of another site sent it.
            AuthenticationFailed: nobody knows the caller.
            Refused: a limit is used up.
        """
        if scope["method"] not in SAFE_METHODS:
            check_origin(scope, self._origins)
        address = client_address(scope, self._proxies)
        try:
            principal = await (self.recognise(badge) if badge else self.identify(scope))
        except AuthenticationFailed as error:
            await self._turn_away(scope, address, error)
            raise
        try:
            admission = await self.limiter.admit(principal.limit_subject, principal.limits)
        except Refused as refused:
            scope["state"]["standing"] = refused.standing
            self._note_limit(scope, principal, address, refused)
            raise
        scope["state"]["standing"] = admission.standing
        return Visit(principal, address, admission)

    async def present(self, scope: Scope, credential: bytes | None = None) -> Badge:
        """Find out who opens a connection that stays open, and what it is recognised by.

        No request is counted for it.

        Args:
            scope: of the connection.
            credential: what was shown; None where the headers have it.

        Raises:
            AuthenticationFailed: nobody that is known.
            Refused: the address has guessed too often.
        """
        if not self.enabled:
            return Badge(b"")
        try:
            if credential is None:
                credential = bearer(header_of(scope, b"authorization"))
            badge = Badge.of(credential)
            principal = await self.recognise(badge)
        except AuthenticationFailed as error:
            await self._turn_away(scope, client_address(scope, self._proxies), error)
            raise
        return Badge(badge.digest) if principal.credential == "api_key" else badge

    async def knock(self, scope: Scope) -> str:
        """Count a request of somebody unknown against its address, and return that.

        Raises:
            Refused: the address has knocked too often.
        """
        check_origin(scope, self._origins)
        address = client_address(scope, self._proxies)
        try:
            admission = await self.limiter.admit(limit_subject(address), self._strangers)
        except Refused as refused:
            scope["state"]["standing"] = refused.standing
            self._note_limit(scope, None, address, refused)
            raise
        scope["state"]["standing"] = admission.standing
        await self.limiter.settle(admission, None)
        return address

    async def reserve(self, scope: Scope, visit: Visit, tallies: Sequence[Tally]) -> None:
        """Count the tokens that a request's calls may take; `leave` settles what they took.

        A request that alone may take more than the limit has to have all of it.

        Raises:
            Refused: they do not fit; the request is as if it had never been.
        """
        limit = visit.principal.limits.tokens_per_minute
        if limit is None:
            return
        tokens = sum(tally.expected for tally in tallies)
        try:
            await self.limiter.reserve(visit.admission, min(tokens, limit))
            visit.tallies.extend(tallies)
        except Refused as refused:
            scope["state"]["standing"] = refused.standing
            self._note_limit(scope, visit.principal, visit.address, refused)
            raise

    async def leave(self, visit: Visit) -> None:
        """Give a visit's place back, and settle its tokens."""
        await self.limiter.settle(visit.admission, visit.tokens)

    # The same for those whom nothing has to be asked about

    @property
    def is_instant(self) -> bool:
        """Whether requests with a known key can be let in without waiting for anything."""
        return self.enabled and self._instant is not None

    def known(self, scope: Scope) -> Principal | None:
        """Return whose API key a request shows; None where that takes `enter` to find out."""
        authorization = header_of(scope, b"authorization")
        if authorization is None or authorization[:7].lower() != b"bearer ":
            return None
        return self.roster.ring.find(authorization[7:].strip())

    def enter_now(self, scope: Scope, principal: Principal) -> Visit:
        """Let a request of somebody `known` in, as `enter` does; it comes from no page.

        Raises:
            Refused: a limit is used up. Nothing was counted, and nothing noted: `enter` does that.
        """
        assert self._instant is not None  # noqa: S101 - `is_instant` was asked
        admission = self._instant.admit_now(principal.limit_subject, principal.limits)
        scope["state"]["standing"] = admission.standing
        return Visit(principal, client_address(scope, self._proxies), admission)

    def reserve_now(self, visit: Visit, tally: Tally) -> None:
        """Count the tokens that a request's one call may take, as `reserve` does.

        Raises:
            Refused: they do not fit. The request is as if it had never been; nothing was noted.
        """
        limit = visit.principal.limits.tokens_per_minute
        if limit is not None and self._instant is not None:
            self._instant.reserve_now(visit.admission, min(tally.expected, limit))
            visit.tallies.append(tally)

    def leave_now(self, visit: Visit) -> None:
        """Give a visit's place back, and settle its tokens."""
        if self._instant is not None:
            self._instant.settle_now(visit.admission, visit.tokens)

    async def identify(self, scope: Scope) -> Principal:
        """Return who sent a request.

        Raises:
            AuthenticationFailed: nobody that is known.
        """
        if not self.enabled:
            return ANONYMOUS
        basic = scope["path"] in BASIC_PATHS
        shown = bearer(header_of(scope, b"authorization"), basic=basic)
        return self.roster.ring.find(shown) or await self.recognise(Badge.of(shown))

    async def recognise(self, badge: Badge) -> Principal:
        """Return whom a badge stands for now.

        Raises:
            AuthenticationFailed: nobody, or nobody any more.
        """
        if not self.enabled:
            return ANONYMOUS
        principal = self.roster.ring.find_digest(badge.digest)
        if principal is not None:
            return principal
        if badge.token is not None:
            return await self._token_holder(badge.token)
        await self.roster.look()
        principal = self.roster.ring.find_digest(badge.digest)
        if principal is None:
            raise AuthenticationFailed(WRONG)
        return principal

    async def _token_holder(self, token: bytes) -> Principal:
        """Return whom a JWT stands for: our own first, then those of configured issuers."""
        try:
            claims = self.tokens.verify(token)
        except AuthenticationFailed:
            if self._issuers is None:
                raise
            return await self._issuers.verify(token)
        user = self.roster.user(claims.subject)
        if user is None:
            await self.roster.look()
            user = self.roster.user(claims.subject)
        if user is None or is_outdated(user, claims.issued_at):
            raise AuthenticationFailed(WRONG)
        return self.roster.principal_of(user, "token", claims.jti)

    async def _turn_away(self, scope: Scope, address: str, error: AuthenticationFailed) -> None:
        """Count a stranger's request against its address, so that guessing has an end.

        Raises:
            Refused: the address has guessed too often.
        """
        await self.knock(scope)
        self._on_refusal("authentication")
        self.audit.note(
            AuditEvent(
                action="authenticate",
                outcome="refused",
                target=f"{scope['method']} {scope['path']}",
                address=address,
                request_id=scope["state"]["request_id"],
                reason=type(error.__cause__ or error).__name__,
            )
        )

    def note_denial(self, scope: Scope, visit: Visit, error: PermissionDenied) -> None:
        """Record that a caller was refused what it may not do."""
        self._on_refusal("permission")
        reason = error.details.get("permission", type(error).__name__)
        self._note(scope, visit.principal, visit.address, "permission", reason)

    def note_change(self, scope: Scope, visit: Visit, action: str, target: str) -> None:
        """Record that a caller changed something."""
        self.audit.note(
            AuditEvent(
                action=action,
                outcome="success",
                actor=visit.principal.username,
                actor_id=visit.principal.user_id,
                tenant=visit.principal.tenant,
                target=target,
                address=visit.address,
                request_id=scope["state"]["request_id"],
            )
        )

    def _note_limit(
        self, scope: Scope, principal: Principal | None, address: str, refused: Refused
    ) -> None:
        """Record that a limit was used up: once a minute for each caller and limit.

        Whoever goes on asking is refused thousands of times, and must not fill the trail.
        """
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            self._minute, self._limited = minute, set()
        limit = str(refused.details["limit"])
        self._on_refusal(limit)
        caller = principal.limit_subject if principal is not None else limit_subject(address)
        if (caller, limit) not in self._limited and len(self._limited) < MAX_LIMITED:
            self._limited.add((caller, limit))
            self._note(scope, principal, address, "limit", limit)

    def _note(
        self, scope: Scope, principal: Principal | None, address: str, what: str, reason: str
    ) -> None:
        """Record a refusal."""
        self.audit.note(
            AuditEvent(
                action=what,
                outcome="refused",
                actor=principal.username if principal else "",
                actor_id=principal.user_id if principal else "",
                tenant=principal.tenant if principal else "",
                target=f"{scope['method']} {scope['path']}",
                address=address,
                request_id=scope["state"]["request_id"],
                reason=reason,
            )
        )


def require(principal: Principal, permission: Permission) -> None:
    """Refuse a caller that may not do something. Raises PermissionDenied."""
    if permission not in principal.permissions:
        raise PermissionDenied(
            f"This needs the permission '{permission.value}', which the caller does not have.",
            permission=permission.value,
        )


def require_held(principal: Principal, permissions: Set[Permission]) -> None:
    """Refuse a caller that would give or take over more than it has. Raises PermissionDenied."""
    missing = permissions - principal.permissions
    if missing:
        raise PermissionDenied(
            f"This needs permissions that the caller does not have: {', '.join(sorted(missing))}.",
            permission=min(missing).value,
        )


def bearer(authorization: bytes | None, *, basic: bool = False) -> bytes:
    """Return the credential in an `Authorization` header.

    Args:
        authorization: `Bearer` with a key or a token (RFC 6750).
        basic: whether `Basic` (RFC 7617) is taken too, with a key as the password under any name:
            browsers can ask for that.

    Raises:
        AuthenticationFailed: there is none.
    """
    if authorization is None:
        raise AuthenticationFailed(MISSING)
    scheme, _, credential = authorization.partition(b" ")
    scheme = scheme.lower()
    if scheme == b"bearer":
        if not credential.strip():
            raise AuthenticationFailed("The key after 'Bearer' is empty.")
        return credential.strip()
    if scheme == b"basic" and basic:
        try:
            _, _, password = base64.b64decode(credential, validate=True).partition(b":")
        except binascii.Error:
            raise AuthenticationFailed(WRONG) from None
        return password
    raise AuthenticationFailed("Unknown authorization scheme; use 'Bearer'.")
