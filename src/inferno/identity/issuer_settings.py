"""What is said about an outside issuer of tokens, and which of it is refused.

Settings are checked by themselves: no key is read, no address is called, and no cryptography is
loaded, so that this module costs a command next to nothing.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

import msgspec

from inferno.core.errors import ConfigurationError
from inferno.core.tenancy import Role

ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"})
"""What an issuer may sign with. A shared secret (HS256) is no way to trust somebody else."""

MAX_LEEWAY = 300

TENANT_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


class IssuerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An outside issuer that is trusted, and what its claims mean here.

    Claims are named by a dotted path; a claim that has the whole path as its name comes first,
    so that `https://example.com/tenant` works as well.

    Args:
        issuer: its `iss` claim, to the letter.
        audience: its tokens are for us when `aud` holds this, or one of these.
        jwks_url: where its keys are; https, or http on a loopback address.
        jwks_file: a file with its JWK Set; read again when it changes.
        public_key: its key, in PEM.
        public_key_file: a file with its key in PEM.
        algorithms: those that it may sign with.
        tenant_claim: holds the tenant.
        role_claim: holds the role, or a list of roles, of which the most powerful counts.
        username_claim: holds the name to show; `sub` where the claim is missing.
        role_map: its roles in our terms. `user`, `service` and `guest` mean themselves unless
            mapped; `admin` means nothing unless mapped.
        default_role: where the token names no role that we know.
        default_tenant: where the token names none; None refuses such tokens.
        tenants: those that it may speak for; empty is every tenant.
        leeway_seconds: by which its clock may differ.
    """

    issuer: str
    audience: str | tuple[str, ...]
    jwks_url: str | None = None
    jwks_file: str | None = None
    public_key: str | None = None
    public_key_file: str | None = None
    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
    tenant_claim: str = "tenant"
    role_claim: str = "role"
    username_claim: str = "preferred_username"
    role_map: dict[str, Role] = {}
    default_role: Role = Role.USER
    default_tenant: str | None = None
    tenants: tuple[str, ...] = ()
    leeway_seconds: int = 30

    @property
    def audiences(self) -> tuple[str, ...]:
        """Those that tokens may be for."""
        return (self.audience,) if isinstance(self.audience, str) else self.audience

    def __post_init__(self) -> None:
        """Refuse what cannot work or would not be safe.

        Raises:
            ConfigurationError: says which field, and what would be right.
        """
        problem = _problem(self)
        if problem is not None:
            raise ConfigurationError(f"Token issuer '{self.issuer}': {problem}")


def _problem(settings: IssuerSettings) -> str | None:
    """Return what is wrong with settings, as the rest of a sentence."""
    sources = (
        settings.jwks_url,
        settings.jwks_file,
        settings.public_key,
        settings.public_key_file,
    )
    unknown = sorted(set(settings.algorithms) - ALGORITHMS)
    tenants = [*settings.tenants, *([settings.default_tenant] if settings.default_tenant else [])]
    checks = (
        (not settings.issuer, "the issuer's name is empty."),
        (not settings.audiences or not all(settings.audiences), "the audience is empty."),
        (
            len([source for source in sources if source]) != 1,
            "set exactly one of jwks_url, jwks_file, public_key and public_key_file.",
        ),
        (
            bool(settings.jwks_url) and not is_safe_url(settings.jwks_url or ""),
            "jwks_url must start with https:// (http:// only on a loopback address).",
        ),
        (
            bool(unknown) or not settings.algorithms,
            f"algorithms {unknown} cannot be used; use some of {sorted(ALGORITHMS)}.",
        ),
        (
            settings.default_role == Role.ADMIN,
            "default_role must not be admin; map the role that stands for it in role_map.",
        ),
        (
            not all(TENANT_NAME.fullmatch(tenant) for tenant in tenants),
            "a tenant's name has up to 63 letters, digits, dots, dashes and underscores.",
        ),
        (
            not 0 <= settings.leeway_seconds <= MAX_LEEWAY,
            f"leeway_seconds must be 0 to {MAX_LEEWAY}.",
        ),
    )
    return next((problem for is_wrong, problem in checks if is_wrong), None)


def is_safe_url(url: str) -> bool:
    """Return whether keys may be fetched from a URL: https, or http on a loopback address."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    if not host or parts.username is not None:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
