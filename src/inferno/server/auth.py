"""`/auth/…`: signing in and out, API keys, users, limits.

Callers see their own keys. Whoever may manage users sees all of them, and names users by id or
username. What a caller may not see is not there: it gets the 404 that a made-up id gets. Nobody
makes, changes or takes over a key or a user that may do more than itself: a key with few
permissions is no way to one with more.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from inferno.core.errors import (
    InfernoError,
    InvalidRequest,
    NotFound,
    PermissionDenied,
)
from inferno.core.tenancy import ROLE_PERMISSIONS, LimitOverrides, Permission, Principal, Role
from inferno.identity.tokens import TokenPair
from inferno.server.operation import Services, Visited
from inferno.server.recording import record
from inferno.telemetry.audit import AuditEvent
from inferno.tenancy.access import bearer, require_held
from inferno.tenancy.types import (
    ApiKey,
    ApiKeyChange,
    GraceSeconds,
    NewApiKey,
    NewUser,
    Password,
    User,
    UserChange,
    Username,
)
from inferno.web.exchange import decode_body


class LoginRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`POST /auth/login`."""

    username: Username
    password: Password


class PasswordRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`POST /auth/password`."""

    current_password: Password
    new_password: Password


class RefreshRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`POST /auth/refresh`."""

    refresh_token: str


class NewKeyRequest(NewApiKey, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /auth/api-keys`; `user` (id or username) is for those who manage users."""

    user: str | None = None


class RotateRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`POST /auth/api-keys/{id}/rotate`: how long the old key still works, in seconds."""

    grace_seconds: GraceSeconds = 86_400


_logins = msgspec.json.Decoder(LoginRequest)
_passwords = msgspec.json.Decoder(PasswordRequest)
_refreshes = msgspec.json.Decoder(RefreshRequest)
_new_keys = msgspec.json.Decoder(NewKeyRequest)
_key_changes = msgspec.json.Decoder(ApiKeyChange)
_rotations = msgspec.json.Decoder(RotateRequest)
_new_users = msgspec.json.Decoder(NewUser)
_user_changes = msgspec.json.Decoder(UserChange)
_limits = msgspec.json.Decoder(LimitOverrides)


async def login(exchange: Visited, services: Services) -> None:
    """`POST /auth/login`: username and password for tokens."""
    address = await services.access.knock(exchange.scope)
    request: LoginRequest = decode_body(_logins, await exchange.body())
    event = AuditEvent(
        action="login",
        outcome="success",
        actor=request.username,
        address=address,
        request_id=exchange.request_id,
    )
    try:
        user, pair = await services.sessions.login(
            request.username, request.password, address=address
        )
    except InfernoError as error:
        reason = type(error).__name__
        refused = msgspec.structs.replace(event, outcome="refused", reason=reason)
        services.access.audit.note(refused)
        raise
    await services.access.audit.append(
        msgspec.structs.replace(event, actor_id=user.id, tenant=user.tenant)
    )
    await exchange.respond_json(shown_pair(pair, user), headers=[NO_STORE])


NO_STORE = (b"cache-control", b"no-store")
"""On every answer with a secret in it (RFC 6749, section 5.1)."""


def shown_pair(pair: TokenPair, user: User) -> dict[str, Any]:
    """Return tokens as login and refresh answer."""
    return {
        "token": pair.access,
        "token_type": "bearer",
        "expires_at": pair.expires_at,
        "expires_in": pair.expires_at - pair.access_claims.issued_at,
        "refresh_token": pair.refresh,
        "user": {
            "id": user.id,
            "username": user.username,
            "email": user.email,
            "role": user.role,
            "tenant": user.tenant,
            "last_login": user.last_login,
        },
    }


async def refresh(exchange: Visited, services: Services) -> None:
    """`POST /auth/refresh`: a refresh token, once, for a new pair."""
    address = await services.access.knock(exchange.scope)
    request: RefreshRequest = decode_body(_refreshes, await exchange.body())
    event = AuditEvent(
        action="refresh", outcome="success", address=address, request_id=exchange.request_id
    )
    try:
        user, pair = await services.sessions.refresh(request.refresh_token)
    except InfernoError as error:
        reason = type(error).__name__
        refused = msgspec.structs.replace(event, outcome="refused", reason=reason)
        services.access.audit.note(refused)
        raise
    services.access.audit.note(
        msgspec.structs.replace(event, actor=user.username, actor_id=user.id, tenant=user.tenant)
    )
    await exchange.respond_json(shown_pair(pair, user), headers=[NO_STORE])


async def logout(exchange: Visited, services: Services) -> None:
    """`POST /auth/logout`: end the session that the shown token belongs to."""
    await exchange.body()
    visit = exchange.visit
    if visit.principal.credential != "token":
        raise InvalidRequest("Only a token from /auth/login can be logged out.")
    claims = services.access.tokens.verify(bearer(exchange.header(b"authorization")))
    await services.sessions.logout(claims)
    await record(exchange, services, "logout", f"user:{visit.principal.username}")
    await exchange.respond_json({"status": "logged_out"})


async def change_password(exchange: Visited, services: Services) -> None:
    """`POST /auth/password`: a new password for the caller, who has to know the old one."""
    request: PasswordRequest = decode_body(_passwords, await exchange.body())
    visit = exchange.visit
    principal = visit.principal
    if principal.credential not in ("api_key", "token"):
        raise InvalidRequest("The caller has no password here.")
    try:
        await services.sessions.confirm(
            principal.username, request.current_password, address=visit.address
        )
    except InfernoError as error:
        services.access.audit.note(
            AuditEvent(
                action="user.password",
                outcome="refused",
                actor=principal.username,
                actor_id=principal.user_id,
                tenant=principal.tenant,
                target=f"user:{principal.username}",
                address=visit.address,
                request_id=exchange.request_id,
                reason=type(error).__name__,
            )
        )
        raise
    change = UserChange(password=request.new_password)
    await services.users.change(principal.user_id, change)
    await _conclude(exchange, services, "user.password", f"user:{principal.username}")
    await exchange.respond_json({"status": "changed"})


async def me(exchange: Visited, services: Services) -> None:
    """`GET /auth/me`: who the caller is, what it may do, and what it has left."""
    principal = exchange.visit.principal
    used = await services.access.limiter.standing(principal.limit_subject, principal.limits)
    await exchange.respond_json(
        {
            "id": principal.user_id,
            "username": principal.username,
            "role": principal.role,
            "tenant": principal.tenant,
            "credential": principal.credential,
            "permissions": sorted(principal.permissions),
            "limits": principal.limits,
            "used": used,
        }
    )


async def list_keys(exchange: Visited, services: Services) -> None:
    """`GET /auth/api-keys`: the caller's keys, or everybody's."""
    keys = await services.keys.all(owner=_owner(exchange.visit.principal))
    await exchange.respond_json({"api_keys": keys})


async def get_key(exchange: Visited, services: Services) -> None:
    """`GET /auth/api-keys/{key_id}`."""
    await exchange.respond_json(await _key(exchange, services))


async def create_key(exchange: Visited, services: Services) -> None:
    """`POST /auth/api-keys`: the answer shows the key, this once."""
    request: NewKeyRequest = decode_body(_new_keys, await exchange.body())
    principal = exchange.visit.principal
    if _manages(principal):
        user = await services.users.get(request.user or principal.user_id)
    else:
        _refuse_managing(principal, request)
        # By id: whom an outside issuer calls "admin" is not our admin.
        user = await services.users.get(principal.user_id)
    require_held(principal, effective(user, request.permissions))
    new = NewApiKey(
        name=request.name,
        permissions=request.permissions,
        expires_in_days=request.expires_in_days,
        limits=request.limits,
    )
    key, secret = await services.keys.create(user.id, new)
    await _conclude(exchange, services, "api_key.create", f"api_key:{key.id}", user=key.username)
    await exchange.respond_json(with_secret(key, secret), status=201, headers=[NO_STORE])


def _refuse_managing(principal: Principal, request: NewKeyRequest) -> None:
    """Refuse what needs a say over users."""
    if request.user not in (None, principal.user_id, principal.username):
        raise PermissionDenied("Keys of other users need the permission 'manage_users'.")
    if request.limits != LimitOverrides():
        raise PermissionDenied("Setting limits needs the permission 'manage_users'.")


def effective(user: User, scopes: Collection[Permission]) -> frozenset[Permission]:
    """Return what a user's key may do."""
    held = ROLE_PERMISSIONS[user.role]
    return held.intersection(scopes) if scopes else held


def with_secret(key: ApiKey, secret: str) -> dict[str, Any]:
    """Return a new key with the key itself."""
    return {**msgspec.structs.asdict(key), "api_key": secret}


async def change_key(exchange: Visited, services: Services) -> None:
    """`PATCH /auth/api-keys/{key_id}`: name, disabled, limits."""
    change: ApiKeyChange = decode_body(_key_changes, await exchange.body())
    principal = exchange.visit.principal
    if change.limits is not None and not _manages(principal):
        raise PermissionDenied("Setting limits needs the permission 'manage_users'.")
    key = await _managed_key(exchange, services)
    key = await services.keys.change(key.id, change, owner=_owner(principal))
    await _conclude(exchange, services, "api_key.change", f"api_key:{key.id}", user=key.username)
    await exchange.respond_json(key)


async def rotate_key(exchange: Visited, services: Services) -> None:
    """`POST /auth/api-keys/{key_id}/rotate`: a new key; the old one works a while longer."""
    body = await exchange.body()
    request = decode_body(_rotations, body) if body.strip() else RotateRequest()
    old = await _managed_key(exchange, services)
    key, secret = await services.keys.rotate(
        old.id, grace_seconds=request.grace_seconds, owner=_owner(exchange.visit.principal)
    )
    await _conclude(exchange, services, "api_key.rotate", f"api_key:{old.id}", new=key.id)
    await exchange.respond_json(with_secret(key, secret), status=201, headers=[NO_STORE])


async def revoke_key(exchange: Visited, services: Services) -> None:
    """`DELETE /auth/api-keys/{key_id}`."""
    await exchange.body()
    key = await _managed_key(exchange, services)
    await services.keys.revoke(key.id, owner=_owner(exchange.visit.principal))
    await _conclude(exchange, services, "api_key.revoke", f"api_key:{key.id}", user=key.username)
    await exchange.respond_json({"status": "revoked", "id": key.id})


async def list_users(exchange: Visited, services: Services) -> None:
    """`GET /auth/users`."""
    await exchange.respond_json({"users": await services.users.all()})


async def get_user(exchange: Visited, services: Services) -> None:
    """`GET /auth/users/{user}`."""
    await exchange.respond_json(await services.users.get(exchange.path_params["user"]))


async def create_user(exchange: Visited, services: Services) -> None:
    """`POST /auth/users`."""
    new: NewUser = decode_body(_new_users, await exchange.body())
    require_held(exchange.visit.principal, ROLE_PERMISSIONS[new.role])
    user = await services.users.create(new)
    await _conclude(exchange, services, "user.create", f"user:{user.username}", role=user.role)
    await exchange.respond_json(user, status=201)


async def change_user(exchange: Visited, services: Services) -> None:
    """`PATCH /auth/users/{user}`: password, role, tenant, email, disabled, limits."""
    change: UserChange = decode_body(_user_changes, await exchange.body())
    user = await _managed_user(exchange, services)
    if change.role is not None:
        require_held(exchange.visit.principal, ROLE_PERMISSIONS[change.role])
    user = await services.users.change(user.id, change)
    changed = [n for n, v in msgspec.structs.asdict(change).items() if v is not None]
    await _conclude(exchange, services, "user.change", f"user:{user.username}", fields=changed)
    await exchange.respond_json(user)


async def delete_user(exchange: Visited, services: Services) -> None:
    """`DELETE /auth/users/{user}`: the user goes with its keys."""
    await exchange.body()
    user = await _managed_user(exchange, services)
    await services.users.delete(user.id)
    await _conclude(exchange, services, "user.delete", f"user:{user.username}")
    await exchange.respond_json({"status": "deleted", "id": user.id})


async def list_limits(exchange: Visited, services: Services) -> None:
    """`GET /auth/rate-limits`: what is set for roles and tenants."""
    overrides = await services.overrides.all()
    shown = [{"scope": s, "name": n, "limits": o} for (s, n), o in sorted(overrides.items())]
    await exchange.respond_json({"defaults": services.default_limits, "overrides": shown})


async def set_limits(exchange: Visited, services: Services) -> None:
    """`PUT /auth/rate-limits/{scope}/{name}`: scope `role` or `tenant`; `{}` takes it away."""
    scope, name = exchange.path_params["scope"], exchange.path_params["name"]
    limits: LimitOverrides = decode_body(_limits, await exchange.body())
    if scope == "role":
        if name not in set(Role):
            raise NotFound(f"There is no role '{name}'.")
        await services.overrides.set("role", name, limits)
    elif scope == "tenant":
        await services.overrides.set("tenant", name, limits)
    else:
        raise NotFound(f"There is nothing at '{exchange.scope['path']}'.")
    await _conclude(exchange, services, "limits.set", f"{scope}:{name}")
    await exchange.respond_json({"scope": scope, "name": name, "limits": limits})


async def show_usage(exchange: Visited, services: Services) -> None:
    """`GET /auth/rate-limits/usage/{user}`: limits of a user and its keys, and what is used."""
    user = await services.users.get(exchange.path_params["user"])
    roster, limiter = services.access.roster, services.access.limiter
    policy = roster.limits_of(user.role, user.tenant, user.limits)
    subject = f"user:{user.tenant}/{user.id}"
    shown = {"limits": policy, "used": await limiter.standing(subject, policy)}
    keys = []
    for key in await services.keys.all(owner=user.id):
        policy = roster.limits_of(user.role, user.tenant, user.limits, key.limits)
        used = await limiter.standing(f"key:{key.id}", policy)
        keys.append({"id": key.id, "name": key.name, "limits": policy, "used": used})
    await exchange.respond_json({"user": user.username, **shown, "api_keys": keys})


async def reset_limits(exchange: Visited, services: Services) -> None:
    """`DELETE /auth/rate-limits/usage/{user}`: forget what a user and its keys have used."""
    await exchange.body()
    user = await services.users.get(exchange.path_params["user"])
    subjects = [f"key:{key.id}" for key in await services.keys.all(owner=user.id)]
    for subject in [f"user:{user.tenant}/{user.id}", *subjects]:
        await services.access.limiter.reset(subject)
    await record(exchange, services, "limits.reset", f"user:{user.username}")
    await exchange.respond_json({"status": "reset", "user": user.username})


def _manages(principal: Principal) -> bool:
    return Permission.MANAGE_USERS in principal.permissions


def _owner(principal: Principal) -> str | None:
    """Whose keys a caller sees: its own, or everybody's."""
    return None if _manages(principal) else principal.user_id


async def _key(exchange: Visited, services: Services) -> ApiKey:
    owner = _owner(exchange.visit.principal)
    return await services.keys.get(exchange.path_params["key_id"], owner=owner)


async def _conclude(
    exchange: Visited, services: Services, action: str, target: str, **details: Any
) -> None:
    """Record a change, and let the doors know of it, before its doer is told."""
    await record(exchange, services, action, target, **details)
    await services.access.roster.look()


async def _managed_key(exchange: Visited, services: Services) -> ApiKey:
    """Return the key that a call is about. Raises PermissionDenied where it may do too much."""
    key = await _key(exchange, services)
    user = await services.users.get(key.user_id)
    require_held(exchange.visit.principal, effective(user, key.permissions))
    return key


async def _managed_user(exchange: Visited, services: Services) -> User:
    """Return the user that a call is about. Raises PermissionDenied where it may do too much."""
    user = await services.users.get(exchange.path_params["user"])
    require_held(exchange.visit.principal, ROLE_PERMISSIONS[user.role])
    return user
