"""Keys that replicas ask for, derived so that none is stored."""

from __future__ import annotations

import hashlib
import hmac


def replica_key(secret: bytes, uid: str) -> str:
    """Return the key that callers of a replica must present.

    Args:
        secret: the platform's secret.
        uid: of the replica's pod.
    """
    return hmac.new(secret, uid.encode(), hashlib.sha256).hexdigest()
