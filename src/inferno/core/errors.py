"""Every error that Inferno raises on purpose, as one tree.

    InfernoError
    ├── InvalidRequest              the caller's input is wrong; names the field
    │   ├── ContextLengthExceeded   prompt and context sizes in tokens
    │   ├── PayloadTooLarge         body over the configured size
    │   └── Unsupported             a feature that the model or engine lacks, by name
    ├── AuthenticationFailed        no credentials, or wrong ones
    ├── PermissionDenied            known caller, not allowed
    ├── NotFound
    │   ├── ModelNotFound           lists the models that exist
    │   └── NoValidTarget           the model name is reserved, and stands for nothing
    ├── Conflict                    the thing changed, or exists already
    │   └── Expired                 a watch from a version that is no longer kept
    ├── RateLimitExceeded           says when to come back
    ├── ModelNotLoaded              known model, loading on demand is off
    ├── ModelLoadFailed             the replica could not start; says why
    ├── InferenceFailed             the replica failed while it worked
    │   ├── LoopDetected            the request was here before
    │   └── ReplicaLost             its connection broke off; another may do better
    ├── InstallFailed               a model could not be fetched (`models.transfer`)
    ├── Overloaded                  queues are full or the platform is draining
    │   ├── Preempted               background work made room for somebody who waits
    │   ├── QuotaExceeded           every server that fits has had its fill
    │   └── Shed                    there is no room for what matters so little
    ├── DeadlineExceeded            the time allowed for the request ran out
    └── ConfigurationError          settings that cannot work; raised at start

Core errors carry no HTTP status: each API maps them to its own envelope in one table.
"""

from __future__ import annotations

from typing import Any


class InfernoError(Exception):
    """Base of the tree.

    Args:
        message: one sentence for a person; never a stack trace, SQL or a path of the server.
        details: facts a program can use, JSON-encodable.
    """

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class InvalidRequest(InfernoError):
    """The input is malformed, of a wrong type or out of range.

    Args:
        message: what is wrong and what would be right.
        field: the JSON path of the offending field (`messages[0].content`), where there is one.
    """

    def __init__(self, message: str, *, field: str | None = None, **details: Any) -> None:
        if field is not None:
            details = {"field": field, **details}
        super().__init__(message, **details)
        self.field = field


class ContextLengthExceeded(InvalidRequest):
    """The prompt does not fit into the model's context.

    Args:
        prompt_tokens: length of the prompt, in tokens.
        context_size: what the model can hold for one request, in tokens.
        option: the option of the load call that says how much that is.
    """

    def __init__(
        self, *, prompt_tokens: int, context_size: int, option: str = "context_size"
    ) -> None:
        super().__init__(
            f"The prompt is {prompt_tokens} tokens long, but the model takes {context_size} "
            f"tokens. Shorten the prompt or load the model with a larger {option}.",
        )
        self.details = {"prompt_tokens": prompt_tokens, option: context_size}


class PayloadTooLarge(InvalidRequest):
    """The body is larger than the server accepts.

    Args:
        limit: the largest accepted body, in bytes.
    """

    def __init__(self, *, limit: int) -> None:
        super().__init__(f"The request body is larger than {limit} bytes.", limit_bytes=limit)


class Unsupported(InvalidRequest):
    """A parameter is valid in the API, but this model or engine cannot honour it."""


class AuthenticationFailed(InfernoError):
    """Credentials are missing or wrong."""


class PermissionDenied(InfernoError):
    """The caller is known and may not do this."""


class NotFound(InfernoError):
    """The named thing does not exist, or the caller may not know that it does."""


class ModelNotFound(NotFound):
    """No model has this name.

    Args:
        model: the name that was asked for.
        available: names the caller can use instead.
    """

    def __init__(self, model: str, available: list[str]) -> None:
        super().__init__(f"Model '{model}' not found", available_models=available)
        self.model = model


class NoValidTarget(NotFound):
    """The model name is known, but none of its targets has any weight (seed 002).

    Args:
        model: the name that was asked for.
    """

    def __init__(self, model: str) -> None:
        super().__init__(
            f"Model '{model}' has no valid target: the weights of its targets are all 0.",
            model=model,
        )
        self.model = model


class Conflict(InfernoError):
    """The thing was changed by somebody else meanwhile, or exists already."""


class Expired(Conflict):
    """The version to watch from is older than the history kept; list again."""


class RateLimitExceeded(InfernoError):
    """A limit is used up.

    Args:
        retry_after: seconds until the next request can succeed.
    """

    def __init__(self, *, retry_after: int, **details: Any) -> None:
        super().__init__(
            f"Rate limit exceeded. Please retry after {retry_after} seconds.", **details
        )
        self.retry_after = retry_after


class ModelNotLoaded(InfernoError):
    """The model exists, but is not in memory, and loading on demand is off."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f"Model '{model}' is not loaded. Load it with POST /models/{model}/load.", model=model
        )


class ModelLoadFailed(InfernoError):
    """No replica of the model could be started.

    Args:
        model: the model's name.
        reason: a CamelCase word for programs (`FileMissing`, `NotGGUF`, `OutOfMemory`, …).
        message: what happened, so that a person can act on it.
    """

    def __init__(self, model: str, *, reason: str, message: str) -> None:
        super().__init__(f"Model '{model}' could not be loaded: {message}", reason=reason)
        self.reason = reason


class InferenceFailed(InfernoError):
    """The replica failed while it worked on the request."""


class ReplicaLost(InferenceFailed):
    """The connection to the replica broke off before the answer was whole."""


class LoopDetected(InferenceFailed):
    """The request came back to the gateway that had sent it on."""

    def __init__(self) -> None:
        super().__init__(
            "The request came back to where it had been: a pool has this platform, or one that "
            "sends requests here, among its servers."
        )


class Overloaded(InfernoError):
    """Nothing can take the request now.

    Args:
        message: what is full or missing.
        retry_after: seconds after which trying again makes sense.
    """

    def __init__(self, message: str, *, retry_after: int = 1, **details: Any) -> None:
        super().__init__(message, **details)
        self.retry_after = retry_after


class Preempted(Overloaded):
    """Background work was stopped to make room for work that somebody waits for."""

    def __init__(self) -> None:
        super().__init__("The work made room for requests that somebody waits for.")


class QuotaExceeded(Overloaded):
    """No server that fits takes one more such request: the quotas that it set are used up.

    Args:
        quota: which, as the registry names it (`requests_per_second_total`).
        limit: how many requests that is.
        retry_after: seconds until one is free again.
    """

    def __init__(self, quota: str, *, limit: int, retry_after: int) -> None:
        super().__init__(
            f"The servers of this model take no more such requests now: {quota} is {limit}. "
            f"Retry after {retry_after} s.",
            retry_after=retry_after,
            reason="quota_exceeded",
            quota=quota,
            limit=limit,
        )


class Shed(Overloaded):
    """Under pressure, what matters least is refused.

    Args:
        reason: a word for programs: `saturated` (no endpoint has room) or `displaced` (one that
            matters more took its place).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(
            "The servers are saturated, and requests of this importance are refused first.",
            retry_after=2,
            reason=reason,
        )
        self.reason = reason


class DeadlineExceeded(InfernoError):
    """The time allowed for the request ran out."""


class ConfigurationError(InfernoError):
    """Settings or files that the platform cannot start with; says how to mend them."""
