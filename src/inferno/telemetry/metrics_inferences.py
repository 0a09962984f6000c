"""Metrics of inferences: requests, tokens and times by model, requests and tokens by tenant.

Told of every inference on the event loop, so an observation costs a few microseconds at most:
each model has its accumulators ready. Models and tenants with series of their own are bounded;
the rest share one series.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from inferno.core.inferences import Inference, Journey
from inferno.telemetry.metrics import (
    OTHER,
    UNKNOWN,
    Distribution,
    Family,
    Histogram,
    Measured,
    Value,
    together,
)

DURATIONS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
)  # fmt: skip
WAITS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
TOKEN_TIMES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5)

BY_MODEL = ("model",)
BY_TENANT = ("tenant", "model")

REQUESTS = Family("inferno_inference_requests_total", "counter", "Inferences that ended.", BY_MODEL)
SUCCESSFUL = Family(
    "inferno_inference_requests_successful_total",
    "counter",
    "Inferences that ended well.",
    BY_MODEL,
)
FAILED = Family(
    "inferno_inference_requests_failed_total", "counter", "Inferences that failed.", BY_MODEL
)
CANCELLED = Family(
    "inferno_inference_requests_cancelled_total",
    "counter",
    "Inferences whose client left or cancelled them.",
    BY_MODEL,
)
BACKGROUND = Family(
    "inferno_inference_requests_background_total",
    "counter",
    "Inferences of batches, which give way to all others.",
    BY_MODEL,
)
ERRORS = Family(
    "inferno_inference_errors_total",
    "counter",
    "Inferences that failed, by what went wrong.",
    ("model", "error"),
)
DURATION = Family(
    "inferno_inference_duration_seconds",
    "histogram",
    "How long inferences that ended well took, of all models.",
)
MODEL_DURATION = Family(
    "inferno_model_inference_duration_seconds",
    "histogram",
    "How long inferences that ended well took.",
    BY_MODEL,
)
FIRST_TOKEN = Family(
    "inferno_time_to_first_token_seconds",
    "histogram",
    "From being let in to the first token.",
    BY_MODEL,
)
PER_TOKEN = Family(
    "inferno_time_per_output_token_seconds",
    "histogram",
    "Time per token after the first one.",
    BY_MODEL,
)
QUEUE_WAIT = Family(
    "inferno_queue_wait_seconds",
    "histogram",
    "How long calls waited for a replica, its loading included.",
    BY_MODEL,
)
RETRIES = Family(
    "inferno_replica_retries_total",
    "counter",
    "Calls that were sent to another replica because one was lost.",
    BY_MODEL,
)
TOKENS = Family(
    "inferno_inference_tokens_total", "counter", "Tokens that were generated.", BY_MODEL
)
PROMPT_TOKENS = Family(
    "inferno_prompt_tokens_total", "counter", "Tokens of prompts, cached ones included.", BY_MODEL
)
CACHED_TOKENS = Family(
    "inferno_cached_prompt_tokens_total",
    "counter",
    "Tokens of prompts that engines had in their cache.",
    BY_MODEL,
)
TENANT_REQUESTS = Family(
    "inferno_tenant_requests_total", "counter", "Inferences that ended.", BY_TENANT
)
TENANT_FAILED = Family(
    "inferno_tenant_requests_failed_total", "counter", "Inferences that failed.", BY_TENANT
)
TENANT_PROMPT_TOKENS = Family(
    "inferno_tenant_prompt_tokens_total", "counter", "Tokens of prompts.", BY_TENANT
)
TENANT_TOKENS = Family(
    "inferno_tenant_tokens_total", "counter", "Tokens that were generated.", BY_TENANT
)

FAMILIES = (
    REQUESTS, SUCCESSFUL, FAILED, CANCELLED, BACKGROUND, ERRORS, DURATION, MODEL_DURATION,
    FIRST_TOKEN, PER_TOKEN, QUEUE_WAIT, RETRIES, TOKENS, PROMPT_TOKENS, CACHED_TOKENS,
    TENANT_REQUESTS, TENANT_FAILED, TENANT_PROMPT_TOKENS, TENANT_TOKENS,
)  # fmt: skip

PAIRS_PER_NAME = 10
"""Pairs of tenant and model with series of their own, as a multiple of the bound on names."""


class TenantSeries:
    """What one tenant did with one model."""

    __slots__ = ("completion_tokens", "failed", "prompt_tokens", "requests")

    def __init__(self) -> None:
        self.requests = self.failed = self.prompt_tokens = self.completion_tokens = 0


class ModelSeries:
    """What was done with one model.

    Args:
        label: its name, or what stands for many names.
    """

    __slots__ = (
        "background",
        "cached_tokens",
        "cancelled",
        "completion_tokens",
        "duration",
        "errors",
        "failed",
        "first_token",
        "label",
        "per_token",
        "prompt_tokens",
        "queue_wait",
        "retries",
        "successful",
        "tenants",
    )

    def __init__(self, label: str) -> None:
        self.label = label
        self.successful = self.failed = self.cancelled = self.background = self.retries = 0
        self.prompt_tokens = self.cached_tokens = self.completion_tokens = 0
        self.errors: dict[str, int] = {}
        self.duration = Histogram(DURATIONS)
        self.first_token = Histogram(WAITS)
        self.per_token = Histogram(TOKEN_TIMES)
        self.queue_wait = Histogram(WAITS)
        self.tenants: dict[str, TenantSeries] = {}

    @property
    def requests(self) -> int:
        """Inferences that ended, however they did."""
        return self.successful + self.failed + self.cancelled


class InferenceMetrics:
    """Counts inferences; it is an `Observer`.

    Args:
        is_known: tells models that exist from names that somebody made up.
        max_names: models, and tenants, with series of their own.
    """

    def __init__(self, is_known: Callable[[str], bool], *, max_names: int) -> None:
        self._is_known = is_known
        self._max_names = max_names
        self._models: dict[str, ModelSeries] = {}
        self._unknown = ModelSeries(UNKNOWN)
        self._other = ModelSeries(OTHER)
        self._tenants: set[str] = set()
        self._pairs = 0

    def __call__(self, inference: Inference) -> None:
        """Count an inference."""
        series = self._models.get(inference.model) or self._series_of(inference.model)
        tenant = series.tenants.get(inference.tenant) or self._tenant_of(series, inference.tenant)
        tenant.requests += 1
        outcome = inference.outcome
        if outcome == "success":
            series.successful += 1
            series.duration.observe(inference.ended - inference.begun)
        elif outcome == "cancelled":
            series.cancelled += 1
        else:
            self._fail(series, tenant, inference)
        if inference.background:
            series.background += 1
        begun = inference.begun if inference.operation != "embeddings" else None
        for journey in inference.journeys:
            _count(series, tenant, journey, begun)

    def _fail(self, series: ModelSeries, tenant: TenantSeries, inference: Inference) -> None:
        series.failed += 1
        tenant.failed += 1
        name = type(inference.error).__name__ if inference.error is not None else "InternalError"
        series.errors[name] = series.errors.get(name, 0) + 1

    def _series_of(self, model: str) -> ModelSeries:
        """Return the series of a model that has none yet; a made-up name never gets one."""
        if model == UNKNOWN or not self._is_known(model):
            return self._unknown
        if model == OTHER:
            return self._other
        if len(self._models) >= self._max_names:
            self._forget_models()
        if len(self._models) >= self._max_names:
            return self._other
        series = self._models[model] = ModelSeries(model)
        return series

    def _forget_models(self) -> None:
        """Make room: the series of models that are gone end."""
        for gone in [name for name in self._models if not self._is_known(name)]:
            self._pairs -= len(self._models.pop(gone).tenants)

    def _tenant_of(self, series: ModelSeries, tenant: str) -> TenantSeries:
        """Return the series of a tenant that has none with this model yet."""
        is_full = self._pairs >= self._max_names * PAIRS_PER_NAME
        if is_full or (tenant not in self._tenants and len(self._tenants) >= self._max_names):
            tenant = OTHER
        else:
            self._tenants.add(tenant)
        found = series.tenants.get(tenant)
        if found is None:
            found = series.tenants[tenant] = TenantSeries()
            self._pairs += tenant != OTHER
        return found

    @property
    def models(self) -> dict[str, ModelSeries]:
        """The series of models, by label; those of made-up names and of the rest where used."""
        shared = {one.label: one for one in (self._unknown, self._other) if one.requests}
        return {**self._models, **shared}

    def measured(self) -> Iterator[Measured]:
        """Return all values; a `Source`."""
        models = list(self.models.values())
        for family, of in _COUNTERS:
            yield Measured(family, [((one.label,), of(one)) for one in models])
        yield Measured(
            ERRORS,
            [((one.label, name), count) for one in models for name, count in one.errors.items()],
        )
        yield Measured.one(DURATION, self.duration())
        for family, histogram in _HISTOGRAMS:
            held = [(one.label, histogram(one).now()) for one in models]
            yield Measured(family, [((label,), value) for label, value in held if value.count])
        pairs = [(name, one.label, its) for one in models for name, its in one.tenants.items()]
        for family, value in _TENANT_COUNTERS:
            yield Measured(family, [((name, model), value(its)) for name, model, its in pairs])

    def duration(self) -> Distribution:
        """Return how long inferences took, of all models."""
        return together(DURATIONS, (one.duration for one in self.models.values()))


def _count(
    series: ModelSeries, tenant: TenantSeries, journey: Journey, begun: float | None
) -> None:
    """Count a call to a replica.

    Args:
        series: of the model.
        tenant: whose it is.
        journey: the call.
        begun: when its inference began; None where there is no first token to wait for.
    """
    if journey.picked is None:
        return
    series.queue_wait.observe(journey.picked - journey.queued)
    if journey.attempts > 1:
        series.retries += journey.attempts - 1
    generated = journey.completion_tokens
    series.prompt_tokens += journey.prompt_tokens
    series.cached_tokens += journey.cached_tokens
    series.completion_tokens += generated
    tenant.prompt_tokens += journey.prompt_tokens
    tenant.completion_tokens += generated
    first = journey.first
    if first is not None and begun is not None:
        series.first_token.observe(first - begun)
        if generated > 1 and journey.ended is not None:
            series.per_token.observe((journey.ended - first) / (generated - 1))


_COUNTERS: tuple[tuple[Family, Callable[[ModelSeries], Value]], ...] = (
    (REQUESTS, lambda one: one.requests),
    (SUCCESSFUL, lambda one: one.successful),
    (FAILED, lambda one: one.failed),
    (CANCELLED, lambda one: one.cancelled),
    (BACKGROUND, lambda one: one.background),
    (RETRIES, lambda one: one.retries),
    (TOKENS, lambda one: one.completion_tokens),
    (PROMPT_TOKENS, lambda one: one.prompt_tokens),
    (CACHED_TOKENS, lambda one: one.cached_tokens),
)
_HISTOGRAMS: tuple[tuple[Family, Callable[[ModelSeries], Histogram]], ...] = (
    (MODEL_DURATION, lambda one: one.duration),
    (FIRST_TOKEN, lambda one: one.first_token),
    (PER_TOKEN, lambda one: one.per_token),
    (QUEUE_WAIT, lambda one: one.queue_wait),
)
_TENANT_COUNTERS: tuple[tuple[Family, Callable[[TenantSeries], Value]], ...] = (
    (TENANT_REQUESTS, lambda its: its.requests),
    (TENANT_FAILED, lambda its: its.failed),
    (TENANT_PROMPT_TOKENS, lambda its: its.prompt_tokens),
    (TENANT_TOKENS, lambda its: its.completion_tokens),
)
