"""Users and API keys, as the platform shows them; no secret is in them."""

from __future__ import annotations

from typing import Annotated

import msgspec

from inferno.core.tenancy import DEFAULT_TENANT, LimitOverrides, Permission, Role

# `$` alone lets a newline at the end pass, and `\Z` is nothing that JSON Schema knows.
Username = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]*$(?!\n)"),
]
TenantName = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$(?!\n)"),
]
Password = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
KeyName = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Email = Annotated[str, msgspec.Meta(max_length=320, pattern=r"^[^@\s]+@[^@\s]+$(?!\n)")]
ExpiryDays = Annotated[int, msgspec.Meta(ge=1, le=365)]
GraceSeconds = Annotated[int, msgspec.Meta(ge=0, le=30 * 86400)]


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A person or service that signs in. Times are RFC 3339.

    Tokens from before `password_changed_at` are no longer accepted.
    """

    id: str
    username: str
    role: Role
    tenant: str
    email: str | None
    disabled: bool
    limits: LimitOverrides
    created_at: str
    updated_at: str
    last_login: str | None
    password_changed_at: str | None


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """An API key, without the key. `prefix` is its readable beginning."""

    id: str
    user_id: str
    username: str
    name: str
    prefix: str
    permissions: list[Permission]
    limits: LimitOverrides
    created_at: str
    expires_at: str | None
    disabled: bool
    last_used_at: str | None


class NewUser(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user to create."""

    username: Username
    password: Password
    role: Role = Role.USER
    tenant: TenantName = DEFAULT_TENANT
    email: Email | None = None


class UserChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a user; None leaves it as it is."""

    password: Password | None = None
    role: Role | None = None
    tenant: TenantName | None = None
    email: Email | None = None
    disabled: bool | None = None
    limits: LimitOverrides | None = None


class NewApiKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to create. Without permissions it may do all that its user's role may."""

    name: KeyName
    permissions: list[Permission] = []
    expires_in_days: ExpiryDays | None = None
    limits: LimitOverrides = LimitOverrides()


class ApiKeyChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a key; None leaves it as it is."""

    name: KeyName | None = None
    disabled: bool | None = None
    limits: LimitOverrides | None = None
