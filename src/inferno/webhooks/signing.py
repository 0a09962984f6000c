"""What a receiver is sent: the body, and the signatures that prove where it comes from.

Two signatures, both HMAC-SHA256:

`signature` in the body (seed 001), as `sha256=` and lower-case hexadecimal. Its key is the
secret's text in UTF-8. It covers the body's bytes without the member itself: the body with
`,"signature":"…"`, which is always the last member, cut out.

`webhook-signature` in the headers (Standard Webhooks), over `webhook-id.webhook-timestamp.body`.
Its key is what the secret's text after `whsec_` says in base64; a secret that does not begin with
`whsec_` is a free text, whose key is that text in UTF-8 (`standard_form` writes it as `whsec_…`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from inferno.core.errors import InvalidRequest

PREFIX = "whsec_"
KEY_BYTES = 32
USER_AGENT = "Inferno-Webhooks/1"


def generate() -> str:
    """Return a new secret in the form of Standard Webhooks."""
    return standard_text(secrets.token_bytes(KEY_BYTES))


def standard_text(key: bytes) -> str:
    """Return a key as `whsec_…`."""
    return PREFIX + base64.b64encode(key).decode("ascii")


def standard_form(secret: str) -> str:
    """Return a secret as libraries for Standard Webhooks take it: `whsec_` and base64."""
    return standard_text(key_of(secret))


def key_of(secret: str) -> bytes:
    """Return the key that Standard Webhooks signs with.

    Raises:
        ValueError: the secret begins with `whsec_`, and no base64 follows.
    """
    if not secret.startswith(PREFIX):
        return secret.encode("utf-8")
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError("no base64 after 'whsec_'")
    return key


def check_secret(secret: str, *, field: str = "secret") -> None:
    """Refuse a secret that the two schemes would understand differently.

    Raises:
        InvalidRequest: names the field.
    """
    try:
        key_of(secret)
    except ValueError:
        raise InvalidRequest(
            f"'{field}' begins with 'whsec_', so base64 must follow; any other text may be a "
            "secret as it is.",
            field=field,
        ) from None


def payload_of(event: str, at: datetime, data: dict[str, Any]) -> str:
    """Return the body without its signature; these very bytes are signed.

    Args:
        event: its name.
        at: when it happened.
        data: what happened.
    """
    timestamp = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    content = {"event": event, "timestamp": timestamp, "data": data}
    return msgspec.json.encode(content).decode("utf-8")


def body_of(payload: str, secret: str) -> str:
    """Return the body as it is sent: the payload, its signature appended as the last member."""
    digest = hmac.new(secret.encode("utf-8"), payload.encode("utf-8"), hashlib.sha256).hexdigest()
    return f'{payload[:-1]},"signature":"sha256={digest}"}}'


def headers_of(
    delivery_id: str, body: str, keyed: Sequence[str], *, at: datetime
) -> dict[str, str]:
    """Return the headers of one attempt.

    Args:
        delivery_id: the same for all attempts, so that receivers can tell repetitions.
        body: what is sent.
        keyed: the secrets to sign with: the present one, and one that was just replaced.
        at: when this attempt is made.
    """
    from standardwebhooks import Webhook

    at = at.astimezone(UTC)
    signatures = [Webhook(key_of(secret)).sign(delivery_id, at, body) for secret in keyed]
    return {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": delivery_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
