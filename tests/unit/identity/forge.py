"""Makes tokens of every shape, right and wrong, without the code under test."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

Sign: TypeAlias = Callable[[bytes], bytes]
Part: TypeAlias = Mapping[str, Any] | bytes
Private: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def segment(data: Part) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def token(header: Part, payload: Part, sign: Sign) -> str:
    signing_input = f"{segment(header)}.{segment(payload)}"
    return f"{signing_input}.{segment(sign(signing_input.encode()))}"


def hs256(secret: bytes) -> Sign:
    return lambda message: hmac.digest(secret, message, "sha256")


def rs256(key: rsa.RSAPrivateKey) -> Sign:
    return lambda message: key.sign(message, padding.PKCS1v15(), hashes.SHA256())


def ps256(key: rsa.RSAPrivateKey) -> Sign:
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=32)
    return lambda message: key.sign(message, pss, hashes.SHA256())


def es256(key: ec.EllipticCurvePrivateKey) -> Sign:
    return ecdsa(key, hashes.SHA256(), 32)


def es384(key: ec.EllipticCurvePrivateKey) -> Sign:
    return ecdsa(key, hashes.SHA384(), 48)


def ecdsa(key: ec.EllipticCurvePrivateKey, algorithm: hashes.HashAlgorithm, width: int) -> Sign:
    def sign(message: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(message, ec.ECDSA(algorithm)))
        return r.to_bytes(width, "big") + s.to_bytes(width, "big")

    return sign


def eddsa(key: ed25519.Ed25519PrivateKey) -> Sign:
    return key.sign


def constant(signature: bytes) -> Sign:
    return lambda _: signature


def pem(key: Private) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def der(key: Private) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def number(value: int, width: int | None = None) -> str:
    return segment(value.to_bytes(width or (value.bit_length() + 7) // 8, "big"))


def jwk(key: Private, **members: Any) -> dict[str, Any]:
    """Return the public part of a key as a JWK (RFC 7517, 7518 §6, 8037)."""
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.public_key().public_numbers()
        return {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e), **members}
    if isinstance(key, ec.EllipticCurvePrivateKey):
        point = key.public_key().public_numbers()
        width = (key.curve.key_size + 7) // 8
        curve = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}[key.curve.name]
        x, y = number(point.x, width), number(point.y, width)
        return {"kty": "EC", "crv": curve, "x": x, "y": y, **members}
    raw = key.public_key().public_bytes_raw()
    return {"kty": "OKP", "crv": "Ed25519", "x": segment(raw), **members}


def key_set(*keys: Mapping[str, Any]) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


def with_stray_bits(text: str) -> str:
    """Return another spelling of the same bytes: the unused bits of the last character are set."""
    assert len(text) % 4 in (2, 3)
    return text[:-1] + ALPHABET[ALPHABET.index(text[-1]) + 1]


def misspelt(good: str) -> dict[str, str]:
    """Return spellings and fragments of a good token, none of which is the token."""
    header, payload, signature = good.split(".")
    return {
        "empty": "",
        "dots": "..",
        "one part": header,
        "two parts": f"{header}.{payload}",
        "four parts": f"{good}.{signature}",
        "five parts, as if encrypted": f"{header}.{payload}.{signature}.{payload}.{signature}",
        "a dot behind": f"{good}.",
        "a dot before": f".{good}",
        "8,000 dots": "." * 8000,
        "no header": f".{payload}.{signature}",
        "no payload": f"{header}..{signature}",
        "no signature": f"{header}.{payload}.",
        "padded signature": f"{good}=",
        "padded header": f"{header}=.{payload}.{signature}",
        "padded payload": f"{header}.{payload}==.{signature}",
        "space behind": f"{good} ",
        "space before": f" {good}",
        "newline behind": f"{good}\n",
        "newline inside": f"{header}.{payload[:9]}\n{payload[9:]}.{signature}",
        "tab in the signature": f"{header}.{payload}.{signature[:9]}\t{signature[9:]}",
        "NUL behind": f"{good}\0",
        "NUL inside": f"{header}.{payload}.\0{signature}",
        "standard alphabet": f"{header}.{payload}.{signature[:-2]}+/",
        "stray bits": f"{header}.{payload}.{with_stray_bits(signature)}",
        "truncated by one": good[:-1],
        "truncated by half": good[: len(good) // 2],
        "unicode": f"{good}é",
        "full-width letters": good.replace("e", "ｅ"),
        "Cyrillic look-alike": good.replace("a", "а", 1),
        "surrogate": f"{good}\ud800",
        "quoted": f'"{good}"',
        "with its scheme": f"Bearer {good}",
        "repeated": good + good,
        "huge": good + "A" * 9000,
        "enormous": "A" * 10_000_000,
        "parts swapped": f"{payload}.{header}.{signature}",
        "JSON form": json.dumps({"payload": payload, "protected": header, "signature": signature}),
    }


def damaged(good: str) -> list[str]:
    """Return the token with every bit of every byte of its signature flipped, one at a time."""
    head, _, signature = good.rpartition(".")
    raw = decoded(signature)
    return [
        f"{head}.{segment(raw[:i] + bytes([raw[i] ^ 1 << bit]) + raw[i + 1 :])}"
        for i in range(len(raw))
        for bit in range(8)
    ]


STRANGE_HEADERS: dict[str, bytes] = {
    "not JSON": b"{",
    "empty": b"{}",
    "a list": b'[{"alg":"%s"}]',
    "a text": b'"%s"',
    "null": b"null",
    "byte order mark": b'\xef\xbb\xbf{"alg":"%s"}',
    "UTF-16": '{"alg":"RS256"}'.encode("utf-16"),
    "not UTF-8": b'{"alg":"%s","x":"\xff"}',
    "two algorithms": b'{"alg":"none","alg":"%s"}',
    "two algorithms, the other way": b'{"alg":"%s","alg":"none"}',
    "two names spelt differently": b'{"alg":"%s","\\u0061lg":"none"}',
    "a list of algorithms": b'{"alg":["%s","none"]}',
    "an object": b'{"alg":{"alg":"%s"}}',
    "null algorithm": b'{"alg":null}',
    "number": b'{"alg":256}',
    "not a number": b'{"alg":"%s","x":NaN}',
    "crit": b'{"alg":"%s","crit":["exp"],"exp":1}',
    "crit, empty": b'{"alg":"%s","crit":[]}',
    "unencoded payload": b'{"alg":"%s","b64":false,"crit":["b64"]}',
    "nested token": b'{"alg":"%s","cty":"JWT"}',
    "compressed": b'{"alg":"%s","zip":"DEF"}',
    "encrypted": b'{"alg":"%s","enc":"A128GCM"}',
    "another type": b'{"alg":"%s","typ":"dpop+jwt"}',
    "logout": b'{"alg":"%s","typ":"logout+jwt"}',
    "type is a number": b'{"alg":"%s","typ":1}',
    "type is null": b'{"alg":"%s","typ":null}',
    "key id is a number": b'{"alg":"%s","kid":1}',
    "key id is an object": b'{"alg":"%s","kid":{"$ne":""}}',
    "long key id": b'{"alg":"%s","kid":"' + b"k" * 257 + b'"}',
    "long": b'{"alg":"%s","x":"' + b"x" * 2048 + b'"}',
    "deeper than a token may be": b'{"alg":"%s","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}
"""Headers that no verifier may accept, for the algorithm that it does accept."""

WRONG_ALGORITHMS = (
    *("none", "None", "NONE", "nOnE", "none ", " none", "", "null"),
    *("hs256", "HS256 ", "HS384", "HS512", "ES512", "ES256K", "RS1", "dir", "RSA-OAEP", "A128KW"),
    *("rs256", "es256", "EDDSA", "Ed448", "HMAC-SHA256", "PBES2-HS256+A128KW", "__class__"),
)
"""Algorithms that no verifier here accepts."""

BAD_TIMES: dict[str, bytes] = {
    "text": b'"9999999999"',
    "exponent": b"1e400",
    "huge": b"9" * 400,
    "beyond the calendar": b"253402300800",
    "beyond 64 bits": b"18446744073709551616",
    "negative": b"-1",
    "negative zero as text": b'"-0"',
    "not a number": b"NaN",
    "infinity": b"Infinity",
    "true": b"true",
    "list": b"[9999999999]",
    "object": b'{"$gt":0}',
    "5,000 digits": b"1" * 5000,
}
"""Values that no time claim may have."""
