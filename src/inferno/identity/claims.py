"""What the claims of an outside issuer mean here: who calls, for which tenant, in which role.

Claims are taken as verified; what is malformed, for somebody else or of nobody is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from inferno.core.tenancy import ROLE_PERMISSIONS, LimitPolicy, Principal, Role
from inferno.identity.compact import MAX_TIME, Compact, TokenRefused
from inferno.identity.issuer_settings import TENANT_NAME, IssuerSettings

_MAX_TEXT = 256


def _claim(claims: Mapping[str, Any], path: str) -> object:
    """Return a claim by its name or its dotted path; None where there is none."""
    if path in claims:
        return cast("object", claims[path])
    value: object = claims
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _text(claims: Mapping[str, Any], path: str) -> str | None:
    """Return a claim that is a short line of text; None where there is none.

    Raises:
        TokenRefused: it is something else. Control characters would forge lines of a log.
    """
    value = _claim(claims, path)
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT or not value.isprintable():
        raise TokenRefused("malformed claim")
    return value


def time_of(claims: Mapping[str, Any], name: str) -> float | None:
    """Return a NumericDate (RFC 7519 §2), which may have a fraction; None where there is none.

    Raises:
        TokenRefused: it is something else.
    """
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_TIME:
        raise TokenRefused("malformed time")
    return value


def _audience(claims: Mapping[str, Any]) -> tuple[str, ...]:
    value = claims.get("aud")
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in values):
        raise TokenRefused("malformed audience")
    return tuple(values)


def role_of(settings: IssuerSettings, claims: Mapping[str, Any]) -> Role:
    """Return our role for what a token says.

    Raises:
        TokenRefused: the claim is neither a text nor a list of texts.
    """
    value = _claim(claims, settings.role_claim)
    names = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(name, str) for name in names):
        raise TokenRefused("malformed role")
    roles = {role for name in names if (role := _own_role(settings, str(name))) is not None}
    return max(roles, key=lambda role: len(ROLE_PERMISSIONS[role]), default=settings.default_role)


def _own_role(settings: IssuerSettings, name: str) -> Role | None:
    mapped = settings.role_map.get(name)
    if mapped is not None:
        return mapped
    # Somebody else's "admin" is not ours.
    return Role(name) if name in set(Role) - {Role.ADMIN} else None


def _tenant_of(settings: IssuerSettings, claims: Mapping[str, Any]) -> str:
    tenant = _text(claims, settings.tenant_claim) or settings.default_tenant
    if tenant is None or not TENANT_NAME.fullmatch(tenant):
        raise TokenRefused("no tenant")
    if settings.tenants and tenant not in settings.tenants:
        raise TokenRefused("a tenant that the issuer may not speak for")
    return tenant


@dataclass(frozen=True, slots=True)
class OutsideIdentity:
    """Whom a token of an outside issuer stands for.

    Args:
        principal: in our terms. Its user id is the issuer's name and the subject: nobody else's
            subject can pass for one of our users.
        issuer: who issued the token.
        subject: the user's id there.
        audience: whom the token is for.
        expires_at: seconds since 1970.
    """

    principal: Principal
    issuer: str
    subject: str
    audience: tuple[str, ...]
    expires_at: int


def identity_of(
    settings: IssuerSettings, claims: Mapping[str, Any], parts: Compact
) -> OutsideIdentity:
    """Return whom claims stand for, once they are known to be the issuer's own.

    Raises:
        TokenRefused: for somebody else, or of nobody.
    """
    audience = _audience(claims)
    if not set(audience) & set(settings.audiences):
        raise TokenRefused("wrong audience")
    subject = _text(claims, "sub")
    if subject is None:
        raise TokenRefused("no subject")
    role = role_of(settings, claims)
    tenant = _tenant_of(settings, claims)
    # Not the digest of the whole: one ECDSA signature can be turned into another without the key.
    unnamed = hashlib.sha256(parts.signing_input).hexdigest()[:32]
    user_id = f"{settings.issuer}#{subject}"
    principal = Principal(
        user_id=user_id,
        username=_text(claims, settings.username_claim) or subject,
        tenant=tenant,
        role=role,
        permissions=ROLE_PERMISSIONS[role],
        credential="issuer",
        credential_id=_text(claims, "jti") or unnamed,
        limits=LimitPolicy(),
    )
    expires_at = int(time_of(claims, "exp") or 0)
    return OutsideIdentity(principal, settings.issuer, subject, audience, expires_at)
