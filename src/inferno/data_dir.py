"""The data folder: all that a running platform keeps, and who may have it."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from inferno.core.errors import ConfigurationError

SECRET_BYTES = 32


class DataDir:
    """The data folder, made where it is missing and held by one platform at a time.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def __enter__(self) -> Self:
        """Make the folder and take it.

        Raises:
            ConfigurationError: it cannot be written, or another platform has it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._release()
            raise ConfigurationError(
                f"Another inferno serves from {self.path}; stop it or choose another --data-dir."
            ) from None
        except OSError as error:
            self._release()
            raise ConfigurationError(
                f"The data folder {self.path} cannot be used: {error.strerror}."
            ) from None
        self.run_file.unlink(missing_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the folder back."""
        self.run_file.unlink(missing_ok=True)
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def run_file(self) -> Path:
        """Where a running platform says how to reach it."""
        return self.path / "run.json"

    @property
    def credentials_file(self) -> Path:
        """Where the first start leaves the credentials that it generated."""
        return self.path / "credentials.json"

    @property
    def certificates(self) -> Path:
        """Where certificates are kept that the platform makes for itself."""
        return self.path / "tls"

    def secret(self) -> bytes:
        """Return the platform's secret: 256 random bits, made at the first start.

        Raises:
            ConfigurationError: the file holds something else.
        """
        path = self.path / "secret.key"
        if not path.exists():
            write_private(path, secrets.token_hex(SECRET_BYTES))
        try:
            secret = bytes.fromhex(path.read_text("ascii"))
        except ValueError:
            secret = b""
        if len(secret) != SECRET_BYTES:
            raise ConfigurationError(
                f"{path} is damaged. Restore it, or delete it: a new one is made, and what was "
                "encrypted with the old one is lost."
            )
        return secret

    def registry_id(self) -> str:
        """Return the id of the platform's entry in registries, made when it is first asked for.

        It stays, so that a platform that starts again finds its entry rather than leave it behind.
        """
        path = self.path / "registry-id"
        try:
            return str(uuid.UUID(path.read_text("ascii").strip()))
        except (OSError, ValueError):
            made = str(uuid.uuid4())
        write_private(path, made)
        return made

    def credentials(self) -> dict[str, Any]:
        """Return what the first start left, or nothing where it is gone."""
        try:
            content = json.loads(self.credentials_file.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    partial.replace(path)
