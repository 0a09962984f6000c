"""Who calls, and what they may do: roles, permissions, principals, limits.

Roles and permission names are those of the original security model; `originals.md`'s limits are
superseded by seed 001's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

import msgspec

DEFAULT_TENANT = "default"


class Permission(StrEnum):
    """One thing that a caller may be allowed to do."""

    READ_MODELS = "read_models"
    WRITE_MODELS = "write_models"
    DELETE_MODELS = "delete_models"
    RUN_INFERENCE = "run_inference"
    MANAGE_CACHE = "manage_cache"
    READ_METRICS = "read_metrics"
    WRITE_CONFIG = "write_config"
    MANAGE_USERS = "manage_users"
    VIEW_AUDIT_LOGS = "view_audit_logs"
    USE_STREAMING = "use_streaming"
    USE_DISTRIBUTED = "use_distributed"
    MANAGE_QUEUE = "manage_queue"


class Role(StrEnum):
    """A named set of permissions."""

    ADMIN = "admin"
    USER = "user"
    SERVICE = "service"
    GUEST = "guest"


ROLE_PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.ADMIN: frozenset(Permission),
    Role.USER: frozenset(
        {Permission.READ_MODELS, Permission.RUN_INFERENCE, Permission.USE_STREAMING}
    ),
    Role.SERVICE: frozenset(
        {
            Permission.READ_MODELS,
            Permission.WRITE_MODELS,
            Permission.RUN_INFERENCE,
            Permission.USE_STREAMING,
            Permission.USE_DISTRIBUTED,
            Permission.READ_METRICS,
            Permission.MANAGE_QUEUE,
        }
    ),
    Role.GUEST: frozenset({Permission.READ_MODELS}),
}
"""What each role may do."""

Limit = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class LimitOverrides(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Limits set for a key, a user, a role or a tenant; None leaves the next wider one in force.

    -1 stands for no limit.
    """

    requests_per_minute: Annotated[int, msgspec.Meta(ge=-1)] | None = None
    requests_per_hour: Annotated[int, msgspec.Meta(ge=-1)] | None = None
    tokens_per_minute: Annotated[int, msgspec.Meta(ge=-1)] | None = None
    concurrent_requests: Annotated[int, msgspec.Meta(ge=-1)] | None = None


class LimitPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The limits in force for one caller; None is no limit. Defaults: seed 001."""

    requests_per_minute: int | None = 60
    requests_per_hour: int | None = 1000
    tokens_per_minute: int | None = 10_000
    concurrent_requests: int | None = 10

    @property
    def is_unlimited(self) -> bool:
        """Whether nothing is limited."""
        return (
            self.requests_per_minute is None
            and self.requests_per_hour is None
            and self.tokens_per_minute is None
            and self.concurrent_requests is None
        )


UNLIMITED = LimitPolicy(
    requests_per_minute=None,
    requests_per_hour=None,
    tokens_per_minute=None,
    concurrent_requests=None,
)


def policy_of(default: LimitPolicy, *overrides: LimitOverrides | None) -> LimitPolicy:
    """Return the limits in force.

    Args:
        default: where nothing else is said.
        overrides: from the widest (tenant) to the narrowest (key); the narrowest that says
            something wins, limit by limit.
    """
    limits = msgspec.structs.asdict(default)
    for override in overrides:
        if override is None:
            continue
        for name, value in msgspec.structs.asdict(override).items():
            if value is not None:
                limits[name] = None if value < 0 else value
    return LimitPolicy(**limits)


Credential = Literal["api_key", "token", "issuer", "none"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling.

    Args:
        user_id: whom the credentials stand for.
        username: its name.
        tenant: whose it is.
        role: its role.
        permissions: what it may do: its role's, narrowed by the scopes of its key.
        credential: what was shown.
        credential_id: the API key's id or the token's `jti`.
        limits: in force for it.
    """

    user_id: str
    username: str
    tenant: str
    role: Role
    permissions: frozenset[Permission]
    credential: Credential
    credential_id: str
    limits: LimitPolicy

    @property
    def limit_subject(self) -> str:
        """Whom requests count against: the key, else the user."""
        if self.credential == "api_key":
            return f"key:{self.credential_id}"
        return f"user:{self.tenant}/{self.user_id}"


ANONYMOUS = Principal(
    user_id="anonymous",
    username="anonymous",
    tenant=DEFAULT_TENANT,
    role=Role.ADMIN,
    permissions=ROLE_PERMISSIONS[Role.ADMIN],
    credential="none",
    credential_id="",
    limits=UNLIMITED,
)
"""Everybody, where authentication is switched off."""
