"""Signing in, API keys, users, limits, the audit trail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import msgspec

from inferno.client.calls import Call, delete, get, given, member, post, query, reader, segment

T = TypeVar("T")

Limits = Mapping[str, int | None]
"""`requests_per_minute`, `requests_per_hour`, `tokens_per_minute`, `concurrent_requests`."""


class SignedInUser(msgspec.Struct, frozen=True, kw_only=True):
    """The user that tokens are for."""

    id: str
    username: str
    role: str
    tenant: str
    email: str | None = None
    last_login: str | None = None


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """What signing in gives: `Client(api_key=tokens.token)` uses it."""

    token: str
    refresh_token: str
    expires_at: int
    expires_in: int
    user: SignedInUser
    token_type: str = "bearer"  # noqa: S105 - the kind, not a token


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who the caller is, what it may do, and how it stands with its limits."""

    id: str
    username: str
    role: str
    tenant: str
    credential: str
    permissions: list[str]
    limits: dict[str, int | None]
    used: Any = None


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """An API key, without the key."""

    id: str
    user_id: str
    username: str
    name: str
    prefix: str
    permissions: list[str]
    limits: dict[str, int | None]
    created_at: str
    expires_at: str | None = None
    disabled: bool = False
    last_used_at: str | None = None


class NewApiKey(ApiKey, frozen=True, kw_only=True):
    """An API key with the key itself, which is shown this once."""

    api_key: str


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A user."""

    id: str
    username: str
    role: str
    tenant: str
    email: str | None = None
    disabled: bool = False
    limits: dict[str, int | None] = {}
    created_at: str = ""
    updated_at: str = ""
    last_login: str | None = None


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the audit trail."""

    seq: int
    at: str
    action: str
    outcome: str
    actor: str = ""
    actor_id: str = ""
    tenant: str = ""
    target: str = ""
    address: str = ""
    request_id: str = ""
    reason: str = ""
    details: dict[str, Any] = {}


class AuditVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the audit trail is as it was written."""

    intact: bool
    events: int
    last_hash: str
    broken_at: int | None = None


_read_tokens = reader(Tokens)
_read_caller = reader(Caller)
_read_key = reader(ApiKey)
_read_new_key = reader(NewApiKey)
_read_keys = member("api_keys", list[ApiKey])
_read_user = reader(User)
_read_users = member("users", list[User])
_read_events = member("events", list[AuditEvent])
_read_verdict = reader(AuditVerdict)
_read_json = reader(dict[str, Any])


def login(username: str, password: str) -> Call[Tokens]:
    """Sign in. Raises NotAuthenticated; RateLimited after too many wrong passwords."""
    return post("/auth/login", _read_tokens, {"username": username, "password": password})


def refresh(refresh_token: str) -> Call[Tokens]:
    """Return new tokens for a refresh token, which works this once."""
    return post("/auth/refresh", _read_tokens, {"refresh_token": refresh_token})


def logout() -> Call[dict[str, Any]]:
    """End the session of the client's token."""
    return post("/auth/logout", _read_json)


def change_password(current_password: str, new_password: str) -> Call[dict[str, Any]]:
    """Change the caller's own password."""
    body = {"current_password": current_password, "new_password": new_password}
    return post("/auth/password", _read_json, body)


def me() -> Call[Caller]:
    """Return who the caller is."""
    return get("/auth/me", _read_caller)


def list_keys() -> Call[list[ApiKey]]:
    """Return the caller's API keys; all of them for those who manage users."""
    return get("/auth/api-keys", _read_keys)


def get_key(key_id: str) -> Call[ApiKey]:
    """Return an API key."""
    return get(f"/auth/api-keys/{segment(key_id)}", _read_key)


def create_key(
    name: str,
    *,
    permissions: Sequence[str] | None = None,
    expires_in_days: int | None = None,
    limits: Limits | None = None,
    user: str | None = None,
) -> Call[NewApiKey]:
    """Create an API key.

    Args:
        name: for people.
        permissions: what it may do; all that its user may, where not given.
        expires_in_days: 1 to 365; never where not given.
        limits: its own.
        user: id or name of another user whose key it is to be.
    """
    body = given(
        name=name,
        permissions=permissions,
        expires_in_days=expires_in_days,
        limits=limits,
        user=user,
    )
    return post("/auth/api-keys", _read_new_key, body)


def change_key(
    key_id: str,
    *,
    name: str | None = None,
    disabled: bool | None = None,
    limits: Limits | None = None,
) -> Call[ApiKey]:
    """Rename, disable or limit an API key; what is not given stays."""
    body = given(name=name, disabled=disabled, limits=limits)
    return _change(f"/auth/api-keys/{segment(key_id)}", _read_key, body)


def rotate_key(key_id: str, *, grace_seconds: int | None = None) -> Call[NewApiKey]:
    """Replace an API key; the old one works for another day, or as long as is said."""
    body = given(grace_seconds=grace_seconds)
    return post(f"/auth/api-keys/{segment(key_id)}/rotate", _read_new_key, body)


def revoke_key(key_id: str) -> Call[dict[str, Any]]:
    """Revoke an API key, at once and for good."""
    return delete(f"/auth/api-keys/{segment(key_id)}", _read_json)


def list_users() -> Call[list[User]]:
    """Return all users."""
    return get("/auth/users", _read_users)


def get_user(user: str) -> Call[User]:
    """Return a user by id or name."""
    return get(f"/auth/users/{segment(user)}", _read_user)


def create_user(
    username: str,
    password: str,
    *,
    role: Literal["admin", "user", "service", "guest"] | None = None,
    tenant: str | None = None,
    email: str | None = None,
) -> Call[User]:
    """Create a user."""
    body = given(username=username, password=password, role=role, tenant=tenant, email=email)
    return post("/auth/users", _read_user, body)


def change_user(
    user: str,
    *,
    password: str | None = None,
    role: Literal["admin", "user", "service", "guest"] | None = None,
    tenant: str | None = None,
    email: str | None = None,
    disabled: bool | None = None,
    limits: Limits | None = None,
) -> Call[User]:
    """Change a user; what is not given stays."""
    body = given(
        password=password, role=role, tenant=tenant, email=email, disabled=disabled, limits=limits
    )
    return _change(f"/auth/users/{segment(user)}", _read_user, body)


def delete_user(user: str) -> Call[dict[str, Any]]:
    """Delete a user with its keys."""
    return delete(f"/auth/users/{segment(user)}", _read_json)


def list_limits() -> Call[dict[str, Any]]:
    """Return the limits that are set for roles and tenants."""
    return get("/auth/rate-limits", _read_json)


def set_limits(scope: Literal["role", "tenant"], name: str, limits: Limits) -> Call[dict[str, Any]]:
    """Set the limits of a role or tenant; `{}` takes them away."""
    path = f"/auth/rate-limits/{segment(scope)}/{segment(name)}"
    return post(path, _read_json, limits, method="PUT", repeatable=True)


def usage(user: str) -> Call[dict[str, Any]]:
    """Return what a user and its keys have used of their limits."""
    return get(f"/auth/rate-limits/usage/{segment(user)}", _read_json)


def reset_usage(user: str) -> Call[dict[str, Any]]:
    """Forget what a user and its keys have used."""
    return delete(f"/auth/rate-limits/usage/{segment(user)}", _read_json)


def audit_events(
    *,
    user: str | None = None,
    action: str | None = None,
    outcome: Literal["success", "refused", "failed"] | None = None,
    failures_only: bool | None = None,
    since: str | None = None,
    until: str | None = None,
    before: int | None = None,
    limit: int | None = None,
) -> Call[list[AuditEvent]]:
    """Return events of the audit trail, newest first.

    Args:
        user: who did it.
        action: what was done.
        outcome: how it ended.
        failures_only: leave out what succeeded.
        since: not before this time, RFC 3339.
        until: not after it.
        before: the `seq` of the last event of the page before.
        limit: 1 to 1000.
    """
    asked = query(
        user=user,
        action=action,
        outcome=outcome,
        failures_only=failures_only,
        since=since,
        until=until,
        before=before,
        limit=limit,
    )
    return get(f"/audit{asked}", _read_events)


def verify_audit() -> Call[AuditVerdict]:
    """Check that the audit trail is as it was written."""
    return get("/audit/verify", _read_verdict)


def _change(path: str, read: Callable[[bytes], T], body: dict[str, Any]) -> Call[T]:
    return post(path, read, body, method="PATCH", repeatable=True)
