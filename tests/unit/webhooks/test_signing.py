"""Signatures: the seed's, and those of Standard Webhooks, checked by its library."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from inferno.core.errors import InfernoError, InvalidRequest
from inferno.webhooks import signing
from inferno.webhooks.sealing import SecretSealer

AT = datetime(2024, 1, 1, 12, tzinfo=UTC)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=10,
)


def test_the_body_is_the_seeds() -> None:
    data = {"request_id": "req_123", "model": "llama-2-7b", "tokens_generated": 50}
    payload = signing.payload_of("inference.complete", AT, data)
    body = signing.body_of(payload, "webhook_secret_key")
    digest = hmac.new(b"webhook_secret_key", payload.encode(), hashlib.sha256).hexdigest()
    assert json.loads(body) == {
        "event": "inference.complete",
        "timestamp": "2024-01-01T12:00:00.000Z",
        "data": data,
        "signature": f"sha256={digest}",
    }


@given(st.dictionaries(TEXTS, JSON), TEXTS.filter(bool))
def test_receivers_can_check_the_signature_from_bytes_or_from_json(
    data: dict[str, Any], secret: str
) -> None:
    body = signing.body_of(signing.payload_of("e", AT, data), secret)
    cut, _, rest = body.rpartition(',"signature":"')
    content = json.loads(body)
    given_signature = content.pop("signature")
    assert rest == f'{given_signature}"}}'
    rewritten = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    for signed in (cut + "}", rewritten):
        digest = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).hexdigest()
        assert given_signature == f"sha256={digest}"


@given(TEXTS.filter(bool), st.dictionaries(TEXTS, JSON))
def test_the_library_verifies_any_secret(secret: str, data: dict[str, Any]) -> None:
    try:
        signing.check_secret(secret)
    except InvalidRequest:
        assert secret.startswith("whsec_")
        return
    body = signing.body_of(signing.payload_of("e", AT, data), secret)
    headers = signing.headers_of("msg_1", body, [secret], at=datetime.now(UTC))
    assert Webhook(signing.standard_form(secret)).verify(body, headers)["data"] == data
    with pytest.raises(WebhookVerificationError):
        Webhook(b"another").verify(body, headers)


def test_generated_secrets_are_of_the_standards_form() -> None:
    secret = signing.generate()
    assert signing.standard_form(secret) == secret
    assert len(signing.key_of(secret)) == 32
    assert secret != signing.generate()


@pytest.mark.parametrize("secret", ["whsec_", "whsec_?", "whsec_abc", "whsec_MfKQ9r8G\n"])
def test_secrets_that_could_be_read_in_two_ways_are_refused(secret: str) -> None:
    with pytest.raises(InvalidRequest, match="base64"):
        signing.check_secret(secret)


def test_old_attempts_are_recognised_as_such() -> None:
    """The time in the headers is the attempt's, so that receivers can refuse what is replayed."""
    body = signing.body_of(signing.payload_of("e", AT, {}), "s")
    old = signing.headers_of("msg_1", body, ["s"], at=datetime.now(UTC) - timedelta(minutes=6))
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(b"s").verify(body, old)


@given(TEXTS)
def test_sealed_secrets_open_only_in_their_place(secret: str) -> None:
    sealer = SecretSealer(b"k" * 32)
    sealed = sealer.seal(secret, "wh_1")
    assert sealer.open(sealed, "wh_1") == secret
    assert sealed != sealer.seal(secret, "wh_1")
    for other, place in ((sealer, "wh_2"), (SecretSealer(b"l" * 32), "wh_1")):
        with pytest.raises(InfernoError, match="platform secret"):
            other.open(sealed, place)
