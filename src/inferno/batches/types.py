"""What batches are made of."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

import msgspec

from inferno.core.errors import InfernoError
from inferno.core.tenancy import Credential, Principal, Role


class Status(StrEnum):
    """The states of a batch; those of OpenAI's API."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    DELETED = "deleted"

    @property
    def is_active(self) -> bool:
        """Whether there is still work to do on it."""
        return self in ACTIVE


ACTIVE = frozenset({Status.VALIDATING, Status.IN_PROGRESS, Status.FINALIZING, Status.CANCELLING})

Api = Literal["native", "openai"]

Part = Literal["output", "error"]
"""The results of a batch that are answers, and those that are not."""


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """As whom the requests of a batch run: who handed it in.

    Args:
        user_id: its id.
        username: its name.
        tenant: whose it is.
        role: its role then.
        permissions: what it might do then; it may do no more later.
        credential: what was shown.
        credential_id: the API key's id.
    """

    user_id: str
    username: str
    tenant: str
    role: Role
    permissions: list[str]
    credential: Credential
    credential_id: str

    @classmethod
    def of(cls, principal: Principal) -> Owner:
        """Return the owner that a principal becomes by handing in a batch."""
        return cls(
            user_id=principal.user_id,
            username=principal.username,
            tenant=principal.tenant,
            role=principal.role,
            permissions=sorted(principal.permissions),
            credential=principal.credential,
            credential_id=principal.credential_id,
        )


class LineError(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with one line of an input file, as OpenAI's API lists it."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Details(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a batch has besides what queries ask for.

    Args:
        metadata: the caller's notes.
        webhook_url: told of the end.
        output_seconds: how long the files with its results are kept; None for the platform's time.
        errors: why its input was refused.
    """

    metadata: dict[str, str] | None = None
    webhook_url: str | None = None
    output_seconds: int | None = None
    errors: list[LineError] = []


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch as it is stored; times are text, RFC 3339 in UTC."""

    id: str
    tenant: str
    owner_id: str
    owner: Owner
    api: Api
    endpoint: str
    model: str
    status: Status
    details: Details
    expires_at: str
    created_at: str
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    input_bytes: int = 0
    started_at: str | None = None
    finalizing_at: str | None = None
    cancelling_at: str | None = None
    ended_at: str | None = None

    @property
    def answered(self) -> int:
        """How many of its requests have a result."""
        return self.completed + self.failed


@dataclass(frozen=True, slots=True)
class Item:
    """One request of a batch.

    Args:
        number: its place in the input, from 0.
        custom_id: what the caller calls it.
        endpoint: path of the operation that answers it.
        body: JSON, as that operation takes it.
    """

    number: int
    custom_id: str
    endpoint: str
    body: bytes

    @property
    def model(self) -> str:
        """The name of the model that it asks for; empty where it says none."""
        try:
            return _heads.decode(self.body).model
        except (msgspec.DecodeError, UnicodeDecodeError):
            return ""


class _Head(msgspec.Struct):
    model: str = ""


_heads: msgspec.json.Decoder[_Head] = msgspec.json.Decoder(_Head)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one try to answer a request.

    Args:
        status_code: as HTTP would have it.
        request_id: under which logs speak of it.
        body: JSON: the answer, or the error's envelope.
        error: what went wrong; None where nothing did.
        prompt_tokens: tokens of the prompt, as the engine counted them.
        completion_tokens: tokens generated.
    """

    status_code: int
    request_id: str
    body: bytes
    error: InfernoError | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """A request with the answer that is stored for it.

    Args:
        number: place in the input.
        custom_id: what the caller calls it.
        status_code: as HTTP would have it; None where the batch ended before it was answered.
        request_id: under which logs speak of it.
        body: JSON: the answer, or the error's envelope.
    """

    number: int
    custom_id: str
    status_code: int | None
    request_id: str
    body: bytes

    @property
    def is_failed(self) -> bool:
        """Whether there is an error in place of an answer."""
        return self.status_code is None or self.status_code >= 400


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it is stored.

    Args:
        id: `file-…`.
        tenant: whose it is.
        owner_id: who uploaded it.
        filename: the caller's name for it; never a path of ours.
        purpose: `batch`, or `batch_output`.
        bytes: its size.
        created_at: when.
        expires_at: when it is deleted; None for never.
        batch_id: the batch whose results it shows.
        batch_part: which of them.
    """

    id: str
    tenant: str
    owner_id: str
    filename: str
    purpose: str
    bytes: int
    created_at: str
    expires_at: str | None = None
    batch_id: str | None = None
    batch_part: Part | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What callers may hand in, and how it is worked on. Times are in seconds, sizes in bytes.

    Args:
        items: requests of one batch.
        file_bytes: size of one file, or of one batch that is uploaded.
        tenant_bytes: what a tenant's files and batches may take together.
        active: batches of one tenant that are not finished.
        in_flight: requests of batches that are worked on or wait for a replica, in this process.
        attempts: tries at a request that fails for reasons that may pass.
        window: time after which what is not answered is given up.
        retention: time that finished batches are kept; 0 for ever.
        grace: time that running requests get at a shutdown.
    """

    items: int = 100_000
    file_bytes: int = 200 * 2**20
    tenant_bytes: int = 10 * 2**30
    active: int = 100
    in_flight: int = 64
    attempts: int = 5
    window: float = 86_400.0
    retention: float = 30 * 86_400.0
    grace: float = 30.0


MAX_ITEM_BYTES = 2 * 2**20
"""Of one request: so many are in memory as are worked on, and each may be as large as this."""


def new_id(prefix: str) -> str:
    """Return a new id that nobody can guess."""
    return prefix + secrets.token_hex(12)


def now_text(seconds_from_now: float = 0.0) -> str:
    """Return a time as it is stored: RFC 3339 in UTC with milliseconds, so that text sorts."""
    moment = datetime.now(UTC) + timedelta(seconds=seconds_from_now)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def epoch(text: str | None) -> int | None:
    """Return a stored time as seconds since the epoch."""
    return None if text is None else int(datetime.fromisoformat(text).timestamp())


def encoded(value: Any) -> str:
    """Return a value as the JSON text that is stored."""
    return msgspec.json.encode(value).decode()
