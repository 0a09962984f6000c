"""From a model's `storageUri` to a file on this machine."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from inferno.core.errors import InvalidRequest


def local_file(uri: str) -> Path:
    """Return the path that a `file://` address or a plain absolute path names.

    Raises:
        InvalidRequest: it names no local file.
    """
    if uri.startswith("/"):
        return Path(uri)
    parts = urlsplit(uri)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path:
        return Path(unquote(parts.path))
    raise InvalidRequest(
        "A replica on this machine needs a local model file (file:///…).", field="storageUri"
    )
