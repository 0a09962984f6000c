"""The roster: users and keys in memory, as the data plane asks for them.

It is read from the database whenever the ledger's version has changed: a look every half a second,
and one right away when somebody shows a key that is not known (a key may be a moment old), however
many do so at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import structlog

from inferno.core.errors import InfernoError
from inferno.core.tenancy import (
    ROLE_PERMISSIONS,
    UNLIMITED,
    Credential,
    LimitOverrides,
    LimitPolicy,
    Principal,
    Role,
    policy_of,
)
from inferno.identity.api_keys import KeyRing, KnownKey
from inferno.identity.revocation import RevocationList
from inferno.tenancy.keys import Keys
from inferno.tenancy.ledger import Ledger, in_turns
from inferno.tenancy.overrides import Overrides
from inferno.tenancy.revocations import Revocations
from inferno.tenancy.types import ApiKey, User
from inferno.tenancy.users import Users

LOOK_EVERY = 0.5
LOOK_AT_MOST_EVERY = 0.1
NOTE_EVERY = 10.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Picture:
    """What was read at one version.

    Args:
        version: of the ledger.
        users: users that are not disabled, by id.
        overrides: limits by (scope, name).
    """

    version: int
    users: Mapping[str, User]
    overrides: Mapping[tuple[str, str], LimitOverrides]

    def wider(self, role: Role, tenant: str) -> list[LimitOverrides | None]:
        """Return what is set for a tenant, and for a role: the wider one first."""
        return [self.overrides.get(("tenant", tenant)), self.overrides.get(("role", role.value))]


def default_of(role: Role, defaults: LimitPolicy) -> LimitPolicy:
    """Return the limits where none are set: admins have none."""
    return UNLIMITED if role is Role.ADMIN else defaults


class Roster:
    """Users, keys and revocations in memory.

    Args:
        ledger: where they are written.
        users: read from here.
        keys: read from here.
        overrides: read from here.
        revocations: read from here.
        defaults: limits where nothing else is said.
        tokens: told of revocations.
    """

    def __init__(
        self,
        ledger: Ledger,
        users: Users,
        keys: Keys,
        overrides: Overrides,
        revocations: Revocations,
        *,
        defaults: LimitPolicy,
        tokens: RevocationList,
    ) -> None:
        self._ledger = ledger
        self._users = users
        self._keys = keys
        self._overrides = overrides
        self._revocations = revocations
        self._defaults = defaults
        self._tokens = tokens
        self._picture = Picture(-1, {}, {})
        self._looking = asyncio.Lock()
        self._looked_at = float("-inf")
        self.ring = KeyRing()

    def user(self, user_id: str) -> User | None:
        """Return a user that is not disabled."""
        return self._picture.users.get(user_id)

    def limits_of(self, role: Role, tenant: str, *narrower: LimitOverrides) -> LimitPolicy:
        """Return the limits in force.

        Args:
            role: of the caller; admins have no limits unless some are set.
            tenant: of the caller.
            narrower: what is set for the user, and for its key.
        """
        default = default_of(role, self._defaults)
        return policy_of(default, *self._picture.wider(role, tenant), *narrower)

    def principal_of(self, user: User, credential: Credential, credential_id: str) -> Principal:
        """Return the principal of a user who showed something else than a key."""
        return Principal(
            user_id=user.id,
            username=user.username,
            tenant=user.tenant,
            role=user.role,
            permissions=ROLE_PERMISSIONS[user.role],
            credential=credential,
            credential_id=credential_id,
            limits=self.limits_of(user.role, user.tenant, user.limits),
        )

    async def look(self) -> None:
        """Read again if anything has changed.

        Calls that come while one looks wait for it, and share the next look.
        """
        asked = time.monotonic()
        async with self._looking:
            if self._looked_at > asked:
                return
            pause = self._looked_at + LOOK_AT_MOST_EVERY - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
            self._looked_at = time.monotonic()
            if await self._ledger.version() != self._picture.version:
                await self.read()

    async def read(self) -> None:
        """Read everything; what is known changes at once, or not at all where reading fails."""
        version = await self._ledger.version()
        users = {user.id: user for user in await self._users.all() if not user.disabled}
        overrides = await self._overrides.all()
        revoked = await self._revocations.all()
        keys = await self._keys.all()
        digests = await self._keys.digests()
        picture = Picture(version, users, overrides)
        known = [
            self._known(picture, key, digests[key.id])
            async for key in in_turns(keys)
            if not key.disabled and key.user_id in users and key.id in digests
        ]
        self._picture = picture
        self._tokens.load(revoked.items())
        self.ring.replace(known)

    def _known(self, picture: Picture, key: ApiKey, digest: bytes) -> KnownKey:
        user = picture.users[key.user_id]
        wider = picture.wider(user.role, user.tenant)
        default = default_of(user.role, self._defaults)
        held = ROLE_PERMISSIONS[user.role]
        principal = Principal(
            user_id=user.id,
            username=user.username,
            tenant=user.tenant,
            role=user.role,
            permissions=held & frozenset(key.permissions) if key.permissions else held,
            credential="api_key",
            credential_id=key.id,
            limits=policy_of(default, *wider, user.limits, key.limits),
        )
        expires = key.expires_at and datetime.fromisoformat(key.expires_at).timestamp()
        return KnownKey(digest, principal, expires or None)

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Keep the roster fresh while the block runs, and write down when keys were used."""
        await self.read()
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self._follow()), tasks.create_task(self._note())]
            try:
                yield
            finally:
                for task in running:
                    task.cancel()
        await self._note_once()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                await self.look()
            except InfernoError as error:
                # The data plane goes on with what it knows while the database is away.
                log.warning("roster_not_read", error=error.message)

    async def _note(self) -> None:
        while True:
            await asyncio.sleep(NOTE_EVERY)
            await self._note_once()

    async def _note_once(self) -> None:
        used = self.ring.take_last_used()
        if not used:
            return
        try:
            await self._keys.note_used(used)
        except InfernoError as error:
            log.warning("key_use_not_noted", error=error.message)
