"""Tokens of outside issuers: whose they are, and whom they stand for here.

An identity provider signs JSON Web Tokens (RFC 7519) with keys that it publishes as a JWK Set
(RFC 7517). The issuer is picked among the configured ones alone; its keys and algorithms come from
the settings, never from the token (RFC 8725 §3). Keys are fetched off the event loop, at a pace
that callers cannot quicken. Import this module only where issuers are configured: the
cryptography behind it takes longer to load than the rest of a command.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import ipaddress
import re
import threading
import time
import urllib.request
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, Any, TypeAlias, cast
from urllib.error import HTTPError
from urllib.parse import urlsplit

import msgspec
import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm, get_default_algorithms
from jwt.exceptions import InvalidKeyError

from inferno.core.errors import AuthenticationFailed, ConfigurationError
from inferno.core.tenancy import ROLE_PERMISSIONS, LimitPolicy, Principal, Role
from inferno.identity.tokens import (
    EXPIRED,
    MAX_TIME,
    Compact,
    Header,
    TokenRefused,
    decode_segment,
    read_header,
    split,
    strict_object,
    to_bytes,
)

log = structlog.get_logger(__name__)

PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"})
"""What an issuer may sign with. A shared secret (HS256) is no way to trust somebody else."""

MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
"""Longer keys make each verification cost milliseconds."""

MAX_KEYS = 64
MAX_KEYS_BYTES = 1 << 20
MAX_LEEWAY = 300

REFRESH_SECONDS = 600.0
"""Keys are looked at again after ten minutes of use."""

RETRY_SECONDS = 10.0
"""Between two fetches, whatever asks for them."""

MAX_AGE_SECONDS = 86_400.0
"""How long keys are trusted while their source does not answer."""


# --- settings -----------------------------------------------------------------------------------


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
            bool(settings.jwks_url) and not _is_safe_url(settings.jwks_url or ""),
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
            not all(_TENANT.fullmatch(tenant) for tenant in tenants),
            "a tenant's name has up to 63 letters, digits, dots, dashes and underscores.",
        ),
        (
            not 0 <= settings.leeway_seconds <= MAX_LEEWAY,
            f"leeway_seconds must be 0 to {MAX_LEEWAY}.",
        ),
    )
    return next((problem for is_wrong, problem in checks if is_wrong), None)


def _is_safe_url(url: str) -> bool:
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


# --- keys ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key of an issuer.

    Args:
        key_id: its name; None matches every name.
        algorithms: those that it may be used with.
        key: the key itself.
    """

    key_id: str | None
    algorithms: frozenset[str]
    key: PublicKey

    def matches(self, header: Header) -> bool:
        """Return whether a token with this header may have been signed with the key."""
        if header.algorithm not in self.algorithms:
            return False
        return self.key_id is None or header.key_id is None or self.key_id == header.key_id

    def verifies(self, token: Compact, algorithm: str, signature: bytes) -> bool:
        """Return whether the key signed the token."""
        verifier = _verifiers()[algorithm]
        return bool(verifier.verify(token.signing_input, self.key, signature))


@functools.cache
def _verifiers() -> Mapping[str, Any]:
    return {name: it for name, it in get_default_algorithms().items() if name in ALGORITHMS}


def algorithms_of(key: object) -> frozenset[str]:
    """Return the algorithms that a key can be used with safely; none for keys that are too weak.

    Binding algorithms to the type of the key is what prevents confusion of the two (RFC 8725
    §3.1).
    """
    if isinstance(key, RSAPublicKey) and MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        return frozenset({"RS256", "RS384", "RS512", "PS256"})
    if isinstance(key, EllipticCurvePublicKey):
        return _BY_CURVE.get(type(key.curve), frozenset())
    return frozenset({"EdDSA"} if isinstance(key, Ed25519PublicKey) else ())


_BY_CURVE = {SECP256R1: frozenset({"ES256"}), SECP384R1: frozenset({"ES384"})}
_READERS: dict[str, Callable[[dict[str, Any]], object]] = {
    "RSA": RSAAlgorithm.from_jwk,
    "EC": ECAlgorithm.from_jwk,
    "OKP": OKPAlgorithm.from_jwk,
}
_PUBLIC_MEMBERS = ("kty", "n", "e", "crv", "x", "y")


def read_key_set(data: bytes) -> tuple[VerificationKey, ...]:
    """Read a JWK Set (RFC 7517 §5). Keys that cannot be used are left out.

    Raises:
        ValueError: not a JWK Set, or one without a key that could be used.
    """
    entries = strict_object(data).get("keys")
    if not isinstance(entries, list):
        raise ValueError("no JWK Set")
    keys = [key for key in map(_read_key, entries[:MAX_KEYS]) if key is not None]
    if len(keys) > 1:
        # Among several, one without a name would match every token.
        keys = [key for key in keys if key.key_id is not None]
    if not keys:
        raise ValueError("no usable key")
    return tuple(keys)


def _read_key(entry: object) -> VerificationKey | None:
    """Return a key of a JWK Set, or None where it is not for us to verify with."""
    if not isinstance(entry, dict) or not _is_for_signatures(entry):
        return None
    key_id, declared = entry.get("kid"), entry.get("alg")
    if not isinstance(key_id, str | None) or not isinstance(declared, str | None):
        return None
    # Only public members are read: a private key published by mistake stays a public one here.
    members = {name: entry[name] for name in _PUBLIC_MEMBERS if name in entry}
    if not all(isinstance(member, str) for member in members.values()):
        return None
    try:
        key = _READERS[members["kty"]](members)
    except (KeyError, ValueError, InvalidKeyError, UnsupportedAlgorithm):
        return None
    algorithms = algorithms_of(key)
    if declared is not None:
        algorithms &= {_NAMES.get(declared, declared)}
    return VerificationKey(key_id, algorithms, cast("PublicKey", key)) if algorithms else None


_NAMES = {"Ed25519": "EdDSA"}
"""RFC 9864 names the curve where RFC 8037 named the family."""


def _is_for_signatures(entry: dict[str, Any]) -> bool:
    if entry.get("use", "sig") != "sig":
        return False
    operations = entry.get("key_ops", ["verify"])
    return isinstance(operations, list) and "verify" in operations


def read_pem(data: bytes) -> tuple[VerificationKey, ...]:
    """Read a public key, or the certificate that holds one.

    Raises:
        ValueError: neither, or a key that could not be used.
    """
    try:
        if b"-----BEGIN CERTIFICATE" in data:
            key: object = load_pem_x509_certificate(data).public_key()
        else:
            key = load_pem_public_key(data)
    except UnsupportedAlgorithm as problem:
        raise ValueError(str(problem)) from None
    algorithms = algorithms_of(key)
    if not algorithms:
        raise ValueError(
            f"only RSA of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, P-256, P-384 and Ed25519 work"
        )
    return (VerificationKey(None, algorithms, cast("PublicKey", key)),)


# --- fetching -----------------------------------------------------------------------------------

FETCH_TIMEOUT = 5.0
"""Seconds without an answer, or a byte more of one."""

FETCH_DEADLINE = 15.0
"""Seconds for all of it."""


class _SameOrigin(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not to where the settings do not trust."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if (old.scheme, old.netloc) != (new.scheme, new.netloc):
            raise HTTPError(req.full_url, code, "redirected to another host", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(url: str) -> urllib.request.OpenerDirector:
    # Put together by hand: the usual one opens file:, ftp: and data: as well.
    opener = urllib.request.OpenerDirector()
    for handler in (
        # What is asked of this machine in clear text stays on it.
        urllib.request.ProxyHandler({} if url.startswith("http:") else None),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _SameOrigin(),
    ):
        opener.add_handler(handler)
    return opener


def fetch_over_http(url: str) -> bytes:
    """Return what is at a URL; blocks, with bounds on time and size.

    Raises:
        OSError: no answer, an answer of failure, or one that is too slow.
        ValueError: the URL is not a safe one, or the answer is larger than 1 MiB.
    """
    if not _is_safe_url(url):
        raise ValueError("the URL is not https")
    deadline = time.monotonic() + FETCH_DEADLINE
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310
    try:
        with _opener(url).open(request, timeout=FETCH_TIMEOUT) as response:
            return _body(response, deadline)
    except HTTPError as answer:
        answer.close()  # it holds the connection
        raise


def _body(response: HTTPResponse, deadline: float) -> bytes:
    body = b""
    # Read piece by piece: each may take the whole timeout, all of them may not.
    while chunk := response.read1(65_536):
        body += chunk
        if len(body) > MAX_KEYS_BYTES:
            raise ValueError("the answer is larger than 1 MiB")
        if time.monotonic() > deadline:
            raise TimeoutError("the answer takes too long")
    return body


Fetch: TypeAlias = Callable[[str], bytes]


class KeySource:
    """The keys of one issuer, kept fresh; to be used on one event loop.

    A fetch begins when keys are ten minutes old or a token names a key that is not there, never
    more often than every ten seconds, and never twice at a time. Callers whose key is at hand do
    not wait; the others wait for the fetch that is under way, within bounds.

    Args:
        name: the issuer, for the log.
        read: returns what holds the keys; blocks; runs in a thread.
        parse: makes keys of it.
        wait: seconds that callers wait for a fetch, counted from its start.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[], bytes],
        parse: Callable[[bytes], tuple[VerificationKey, ...]],
        *,
        wait: float,
        clock: Callable[[], float],
    ) -> None:
        self._name = name
        self._read = read
        self._parse = parse
        self._wait = wait
        self._clock = clock
        self._keys: tuple[VerificationKey, ...] = ()
        self._loaded_at = float("-inf")
        self._tried_at = float("-inf")
        self._under_way: asyncio.Event | None = None
        self._is_fetching = False
        self.version = 0
        """Changes when the keys do."""

    def load(self) -> None:
        """Read the keys now.

        Raises:
            ConfigurationError: they cannot be read.
        """
        try:
            keys = self._parse(self._read())
        except (OSError, ValueError) as problem:
            raise ConfigurationError(
                f"Token issuer '{self._name}': its keys cannot be read: {problem}"
            ) from problem
        self._accept(keys)

    def look(self) -> int | None:
        """Return the version of the keys in use, or None where there are none to be trusted.

        Begins to fetch them anew in the background when they are old.
        """
        now = self._clock()
        age = now - self._loaded_at
        if age >= REFRESH_SECONDS and self._may_fetch(now):
            self._begin(now)
        return self.version if age < MAX_AGE_SECONDS else None

    async def find(self, header: Header) -> Sequence[VerificationKey]:
        """Return the keys that may have signed a token with this header."""
        found = self._matching(header)
        if found:
            return found
        now = self._clock()
        if self._may_fetch(now):
            self._begin(now)
        if self._under_way is not None:
            await self._under_way.wait()
            found = self._matching(header)
        return found

    def _matching(self, header: Header) -> Sequence[VerificationKey]:
        if self.look() is None or (header.key_id is None and len(self._keys) > 1):
            return ()
        return [key for key in self._keys if key.matches(header)]

    def _may_fetch(self, now: float) -> bool:
        return not self._is_fetching and now - self._tried_at >= RETRY_SECONDS

    def _begin(self, now: float) -> None:
        self._tried_at = now
        self._is_fetching = True
        loop = asyncio.get_running_loop()
        # One timer for all who wait, however many: after it nobody waits for this fetch.
        self._under_way = asyncio.Event()
        loop.call_later(self._wait, self._under_way.set)
        # A daemon, not the loop's executor: a source that hangs must not delay the way out.
        threading.Thread(
            target=self._fetch, args=(loop,), name=f"keys of {self._name}", daemon=True
        ).start()

    def _fetch(self, loop: asyncio.AbstractEventLoop) -> None:
        outcome: tuple[VerificationKey, ...] | Exception
        try:
            outcome = self._parse(self._read())
        except Exception as problem:
            outcome = problem  # whatever it is, those who wait must be woken
        try:
            loop.call_soon_threadsafe(self._end, outcome)
        except RuntimeError:
            return  # the loop is closed: nobody waits

    def _end(self, outcome: tuple[VerificationKey, ...] | Exception) -> None:
        self._is_fetching = False
        if isinstance(outcome, Exception):
            expected = isinstance(outcome, OSError | ValueError | HTTPException)
            log.warning(
                "keys of a token issuer could not be fetched",
                issuer=self._name,
                problem=str(outcome) if expected else type(outcome).__name__,
            )
        else:
            self._accept(outcome)
        if self._under_way is not None:
            self._under_way.set()

    def _accept(self, keys: tuple[VerificationKey, ...]) -> None:
        self._loaded_at = self._clock()
        if keys != self._keys:
            self._keys = keys
            self.version += 1


# --- claims -------------------------------------------------------------------------------------

_TENANT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
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


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    """Return a NumericDate (RFC 7519 §2), which may have a fraction; None where there is none."""
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
    if tenant is None or not _TENANT.fullmatch(tenant):
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


Limits: TypeAlias = Callable[[str, Role, str], LimitPolicy]
"""The limits in force for a tenant, a role and a user id."""


def default_limits(tenant: str, role: Role, user_id: str) -> LimitPolicy:
    """Return the limits of callers of whom nothing else is said."""
    return LimitPolicy()


# --- issuers ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Issuer:
    settings: IssuerSettings
    keys: KeySource


@dataclass(frozen=True, slots=True)
class _Verified:
    """A token that was verified before, and with which keys."""

    issuer: _Issuer
    version: int
    expires_at: float
    identity: OutsideIdentity


class OutsideIssuers:
    """Tells tokens of trusted issuers from all others; to be used on one event loop.

    Args:
        settings: the issuers.
        fetch: returns what is at a URL; blocks; called in a thread.
        limits: fills in the limits of callers.
        clock: seconds since 1970.
        monotonic: seconds, monotonic.
        wait: seconds that a token whose key is unknown may wait for the issuer's keys.
        remember: how many verified tokens need no second look at their signature.

    Raises:
        ConfigurationError: two issuers of one name, or keys in a file or the settings that cannot
            be read. Keys at a URL are fetched when they are first needed.
    """

    def __init__(
        self,
        settings: Iterable[IssuerSettings],
        fetch: Fetch = fetch_over_http,
        *,
        limits: Limits = default_limits,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        wait: float = 2.0,
        remember: int = 4096,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._remember = remember
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()
        self._issuers: dict[str, _Issuer] = {}
        for one in settings:
            if one.issuer in self._issuers:
                raise ConfigurationError(f"Token issuer '{one.issuer}' is configured twice.")
            read, parse = _source(one, fetch)
            keys = KeySource(one.issuer, read, parse, wait=wait, clock=monotonic)
            if one.jwks_url is None:
                keys.load()
            self._issuers[one.issuer] = _Issuer(one, keys)

    @property
    def remembered(self) -> int:
        """How many verified tokens are remembered."""
        return len(self._verified)

    async def verify(self, token: str | bytes) -> Principal:
        """Return who a token stands for.

        Raises:
            AuthenticationFailed: see `identify`.
        """
        return (await self.identify(token)).principal

    async def identify(self, token: str | bytes) -> OutsideIdentity:
        """Return who a token stands for, and what it says of itself.

        Raises:
            AuthenticationFailed: it is not from a trusted issuer, not for us, not valid now, or
                names no tenant. The cause is a `TokenRefused`, which says why.
        """
        try:
            data = to_bytes(token)
            digest = hashlib.sha256(data).digest()
            identity = self._recall(digest)
            if identity is None:
                identity = await self._verify(data, digest)
        except TokenRefused as refused:
            raise AuthenticationFailed(refused.answer) from refused
        return self._with_limits(identity)

    def _recall(self, digest: bytes) -> OutsideIdentity | None:
        """Return a token's identity where it was verified with the keys in force."""
        known = self._verified.get(digest)
        if known is None:
            return None
        if self._clock() >= known.expires_at or known.issuer.keys.look() != known.version:
            del self._verified[digest]
            return None
        self._verified.move_to_end(digest)
        return known.identity

    async def _verify(self, token: bytes, digest: bytes) -> OutsideIdentity:
        parts = split(token)
        header = read_header(parts.header)
        signature = decode_segment(parts.signature)
        try:
            claims = strict_object(decode_segment(parts.payload))
        except ValueError:
            raise TokenRefused("malformed claims") from None
        issuer = self._issuer_of(claims)
        if header.algorithm not in issuer.settings.algorithms:
            raise TokenRefused("wrong algorithm")
        keys = await issuer.keys.find(header)
        if not any(key.verifies(parts, header.algorithm, signature) for key in keys):
            raise TokenRefused("wrong signature" if keys else "unknown key")
        expires_at = self._check_times(issuer.settings, claims)
        identity = _identity(issuer.settings, claims, parts)
        self._keep(digest, _Verified(issuer, issuer.keys.version, expires_at, identity))
        return identity

    def _issuer_of(self, claims: Mapping[str, Any]) -> _Issuer:
        name = claims.get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise TokenRefused("unknown issuer")
        return issuer

    def _check_times(self, settings: IssuerSettings, claims: Mapping[str, Any]) -> float:
        """Check when a token is valid, and return when it ceases to be."""
        leeway, now = settings.leeway_seconds, self._clock()
        expires_at = _time(claims, "exp")
        if expires_at is None:
            raise TokenRefused("never expires")
        if max(_time(claims, "nbf") or 0, _time(claims, "iat") or 0) > now + leeway:
            raise TokenRefused("not valid yet")
        if now >= expires_at + leeway:
            raise TokenRefused("expired", EXPIRED)
        return expires_at + leeway

    def _keep(self, digest: bytes, verified: _Verified) -> None:
        self._verified[digest] = verified
        while len(self._verified) > self._remember:
            self._verified.popitem(last=False)

    def _with_limits(self, identity: OutsideIdentity) -> OutsideIdentity:
        """Return an identity with the limits of this moment."""
        principal = identity.principal
        limits = self._limits(principal.tenant, principal.role, principal.user_id)
        if limits == principal.limits:
            return identity
        return replace(identity, principal=replace(principal, limits=limits))


def _source(
    settings: IssuerSettings, fetch: Fetch
) -> tuple[Callable[[], bytes], Callable[[bytes], tuple[VerificationKey, ...]]]:
    """Return how the keys of an issuer are read, and how they are understood."""
    if settings.jwks_url:
        return functools.partial(fetch, settings.jwks_url), read_key_set
    if settings.jwks_file:
        return Path(settings.jwks_file).read_bytes, read_key_set
    if settings.public_key_file:
        return Path(settings.public_key_file).read_bytes, read_pem
    return (settings.public_key or "").encode, read_pem


def _identity(
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
    expires_at = int(_time(claims, "exp") or 0)
    return OutsideIdentity(principal, settings.issuer, subject, audience, expires_at)
