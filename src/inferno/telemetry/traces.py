"""Traces: which inferences are traced, what is kept of them, and how they are found again.

Nothing is measured for a trace while an inference runs: its moments are taken down anyway, and
spans are made of them when somebody asks. So an inference that is traced costs two random numbers
and a record; one that is not costs a look for the caller's `traceparent`, and with tracing off
not even that. W3C Trace Context (Level 1) is spoken to callers and to replicas.
"""

from __future__ import annotations

import random
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
from starlette.types import Scope

from inferno.core.errors import InfernoError
from inferno.core.inferences import Inference, Journey, Outcome, TraceContext

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?")
_STATE_MEMBER = re.compile(
    rb"([a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    rb"=[ -+\--<>-~]{0,255}[!-+\--<>-~]"
)
MAX_STATE_BYTES = 512
MAX_MODEL_LENGTH = 200
"""A name that somebody made up can be as long as a request."""
MAX_STATE_MEMBERS = 32


NAMED = "inferno.named"
"""In a request's scope, where none of its headers was sent twice: the headers by their names."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a traced inference; nothing that its caller wrote but the model's name.

    The fields are those of `Inference`; `error` is the name of the error's class.
    """

    trace: TraceContext
    request_id: str
    operation: str
    model: str
    tenant: str
    user_id: str
    streamed: bool
    background: bool
    journeys: list[Journey]
    began_at: float
    begun: float
    ended: float
    outcome: Outcome
    error: str

    @property
    def duration_ms(self) -> float:
        """How long it took, in milliseconds."""
        return (self.ended - self.begun) * 1000

    @property
    def status(self) -> str:
        """`ok`, `error` or `cancelled`."""
        return "ok" if self.outcome == "success" else self.outcome

    def at_ns(self, moment: float) -> int:
        """Return a moment of `time.perf_counter` as nanoseconds since the epoch."""
        return int((self.began_at + (moment - self.begun)) * 1e9)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which traces to show, newest first; empty fields match all.

    Args:
        model: exact.
        status: exact.
        tenant: exact.
        trace_id: exact.
        request_id: exact.
        min_duration_ms: those that took at least so long.
        since: those that began then or later, in seconds since the epoch.
        limit: at most so many.
    """

    model: str = ""
    status: str = ""
    tenant: str = ""
    trace_id: str = ""
    request_id: str = ""
    min_duration_ms: float = 0.0
    since: float = 0.0
    limit: int = 100

    def matches(self, record: Record) -> bool:
        """Return whether a trace is wanted."""
        return (
            (not self.model or record.model == self.model)
            and (not self.status or record.status == self.status)
            and (not self.tenant or record.tenant == self.tenant)
            and (not self.trace_id or record.trace.trace_id == self.trace_id)
            and (not self.request_id or record.request_id == self.request_id)
            and record.duration_ms >= self.min_duration_ms
            and record.began_at >= self.since
        )


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which inferences are traced.

    Args:
        ratio: share of those whose caller does not trace, 0 to 1.
        follow: whether a caller that traces decides for those it sends.
    """

    ratio: float = 1.0
    follow: bool = True

    @property
    def is_off(self) -> bool:
        """Whether nothing is ever traced."""
        return self.ratio <= 0 and not self.follow


class Tracer:
    """Begins traces and keeps the latest; it is an `Observer`.

    Args:
        sampling: which inferences are traced.
        ring: how many are kept.
        sinks: told of each traced inference as well.
    """

    def __init__(
        self,
        sampling: Sampling,
        *,
        ring: int,
        sinks: Sequence[Callable[[Record], None]] = (),
    ) -> None:
        self._sampling = sampling
        self._bound = round(sampling.ratio * 2**64)
        self._kept: deque[Record] = deque(maxlen=ring)
        self._sinks = sinks
        # Ids have to differ, not to be unpredictable; the operating system's generator is slower.
        self._bits = random.Random().getrandbits  # noqa: S311

    def begin(self, scope: Scope) -> TraceContext | None:
        """Return where a request stands in a trace; None where it is in none."""
        sampling = self._sampling
        if sampling.is_off:
            return None
        named = scope.get(NAMED)
        given = _traceparent(scope) if named is None else named.get(b"traceparent")
        parent = None if given is None else parent_of(given, scope)
        if parent is not None:
            return self._child(parent)
        trace_id = self._bits(128) or 1
        # As OpenTelemetry's TraceIdRatioBased: all who know the trace's id decide alike.
        if trace_id & 0xFFFF_FFFF_FFFF_FFFF >= self._bound:
            return None
        return TraceContext(f"{trace_id:032x}", self._span_id())

    def _child(self, parent: TraceContext) -> TraceContext:
        """Return the context of an inference under a caller's span."""
        if self._sampling.follow:
            sampled = parent.sampled
        else:
            sampled = int(parent.trace_id[16:], 16) < self._bound
        if not sampled:
            parent.sampled = False
            return parent
        return TraceContext(parent.trace_id, self._span_id(), parent.span_id, parent.state)

    def _span_id(self) -> str:
        return f"{self._bits(64) or 1:016x}"

    def __call__(self, inference: Inference) -> None:
        """Keep a traced inference."""
        trace = inference.trace
        if trace is None or not trace.sampled:
            return
        record = Record(
            trace=trace,
            request_id=inference.request_id,
            operation=inference.operation,
            model=inference.model[:MAX_MODEL_LENGTH],
            tenant=inference.tenant,
            user_id=inference.user_id,
            streamed=inference.streamed,
            background=inference.background,
            journeys=inference.journeys,
            began_at=inference.began_at,
            begun=inference.begun,
            ended=inference.ended,
            outcome=inference.outcome,
            error=_name_of(inference.error, inference.outcome),
        )
        self._kept.append(record)
        for sink in self._sinks:
            sink(record)

    def find(self, wanted: Wanted) -> Iterator[Record]:
        """Return kept traces, newest first."""
        left = wanted.limit
        for record in reversed(list(self._kept)):
            if left and wanted.matches(record):
                left -= 1
                yield record


def _name_of(error: InfernoError | None, outcome: Outcome) -> str:
    """Name an error; holding the error itself would hold the request that it was raised for."""
    if error is not None:
        return type(error).__name__
    return "InternalError" if outcome == "error" else ""


def _traceparent(scope: Scope) -> bytes | None:
    return next((value for name, value in scope["headers"] if name == b"traceparent"), None)


def parent_of(traceparent: bytes, scope: Scope) -> TraceContext | None:
    """Return the caller's place in its trace; None where what it sent means nothing.

    Args:
        traceparent: its header.
        scope: of the request, which may have `tracestate` too.
    """
    found = _TRACEPARENT.fullmatch(traceparent.strip())
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    if not trace_id.strip(b"0") or not span_id.strip(b"0"):
        return None
    sampled = bool(int(flags, 16) & 1)
    return TraceContext(trace_id.decode(), span_id.decode(), state=state_of(scope), sampled=sampled)


def state_of(scope: Scope) -> str:
    """Return the caller's `tracestate`, its lines joined; nothing where it breaks the rules."""
    given = b",".join(value for name, value in scope["headers"] if name == b"tracestate")
    members = [part.strip(b" \t") for part in given.split(b",") if part.strip(b" \t")]
    joined = b",".join(members)
    if len(joined) > MAX_STATE_BYTES or len(members) > MAX_STATE_MEMBERS:
        return ""
    if not all(_STATE_MEMBER.fullmatch(member) for member in members):
        return ""
    return joined.decode("ascii")
