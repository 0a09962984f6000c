from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from inferno.core.errors import InvalidRequest
from inferno.core.inferences import TraceContext
from inferno.telemetry.traces import MAX_MODEL_LENGTH, Sampling, Tracer, Wanted, parent_of
from tests.unit.telemetry.inferences import inference

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01".encode()
UNSAMPLED = f"00-{TRACE}-{SPAN}-00".encode()


def scope(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http", "headers": list(headers)}


def tracer(ratio: float = 1.0, *, follow: bool = True, ring: int = 10) -> Tracer:
    return Tracer(Sampling(ratio, follow=follow), ring=ring)


def test_a_trace_begins_where_the_caller_sends_none() -> None:
    first, second = tracer().begin(scope()), tracer().begin(scope())
    assert first is not None
    assert second is not None
    assert first.parent_id == ""
    assert (len(first.trace_id), len(first.span_id)) == (32, 16)
    assert first.trace_id != second.trace_id
    assert parent_of(first.traceparent, scope()) == TraceContext(first.trace_id, first.span_id)


def test_a_callers_trace_goes_on() -> None:
    context = tracer().begin(scope((b"traceparent", PARENT), (b"tracestate", b"a=1,b=2")))
    assert context is not None
    assert (context.trace_id, context.parent_id, context.state) == (TRACE, SPAN, "a=1,b=2")
    assert context.span_id != SPAN


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"00",
        PARENT[:-1],
        PARENT + b"0",
        PARENT + b"-more",
        PARENT.upper(),
        PARENT.replace(b"00-", b"ff-", 1),
        PARENT.replace(TRACE.encode(), b"0" * 32),
        PARENT.replace(SPAN.encode(), b"0" * 16),
        b"\xff" * 55,
        b"00-" + b"g" * 32 + b"-" + SPAN.encode() + b"-01",
    ],
)
def test_a_traceparent_that_is_none_begins_a_new_trace(given: bytes) -> None:
    context = tracer().begin(scope((b"traceparent", given)))
    assert context is not None
    assert context.parent_id == ""
    assert context.trace_id != TRACE


def test_later_versions_of_traceparent_are_understood() -> None:
    given = PARENT.replace(b"00-", b"01-", 1) + b"-more"
    context = parent_of(given, scope())
    assert context is not None
    assert context.trace_id == TRACE


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        ([b"a=1", b"b=2"], "a=1,b=2"),
        ([b" a=1 ,, b=2 "], "a=1,b=2"),
        ([b"tenant@vendor=x"], "tenant@vendor=x"),
        ([b"A=1"], ""),
        ([b"a=1\r\nx: y"], ""),
        ([b"nothing"], ""),
        ([b"a=" + b"x" * 600], ""),
        ([b",".join(b"k%d=1" % number for number in range(33))], ""),
    ],
)
def test_tracestate_is_passed_on_where_it_keeps_the_rules(lines: list[bytes], kept: str) -> None:
    context = parent_of(PARENT, scope(*((b"tracestate", line) for line in lines)))
    assert context is not None
    assert context.state == kept


def test_with_sampling_off_nothing_is_looked_at() -> None:
    off = tracer(0.0, follow=False)
    assert off.begin({}) is None
    assert off.begin(scope((b"traceparent", PARENT))) is None


def test_a_caller_that_traces_decides() -> None:
    sampled = tracer(0.0).begin(scope((b"traceparent", PARENT)))
    assert sampled is not None
    assert sampled.sampled
    unsampled = tracer(1.0).begin(scope((b"traceparent", UNSAMPLED)))
    assert unsampled is not None
    assert not unsampled.sampled
    # Nothing is recorded here, so what comes after us goes on from our caller.
    assert unsampled.traceparent == UNSAMPLED


def test_a_caller_that_traces_does_not_decide_where_it_is_not_asked() -> None:
    context = tracer(1.0, follow=False).begin(scope((b"traceparent", UNSAMPLED)))
    assert context is not None
    assert context.sampled


def test_the_share_that_is_wanted_is_traced() -> None:
    half = tracer(0.5)
    traced = sum(half.begin(scope()) is not None for _ in range(4000))
    assert 1700 < traced < 2300  # ten standard deviations


def test_the_trace_id_decides_so_that_all_decide_alike() -> None:
    few = tracer(0.25, follow=False)
    for last, sampled in ((b"3fffffffffffffff", True), (b"4000000000000000", False)):
        given = b"00-" + b"a" * 16 + last + b"-" + SPAN.encode() + b"-01"
        context = few.begin(scope((b"traceparent", given)))
        assert context is not None
        assert context.sampled is sampled


def test_the_ring_keeps_the_latest() -> None:
    kept = tracer(ring=3)
    for number in range(5):
        kept(inference(request_id=f"r{number}"))
    assert [record.request_id for record in kept.find(Wanted())] == ["r4", "r3", "r2"]


def test_what_is_not_traced_is_not_kept() -> None:
    kept = tracer()
    kept(inference(trace=None))
    kept(inference(trace=TraceContext(TRACE, SPAN, sampled=False)))
    assert list(kept.find(Wanted())) == []


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(), ["c", "b", "a"]),
        (Wanted(model="big"), ["b"]),
        (Wanted(status="error"), ["c"]),
        (Wanted(status="cancelled"), ["b"]),
        (Wanted(status="ok"), ["a"]),
        (Wanted(tenant="acme"), ["c", "b"]),
        (Wanted(request_id="a"), ["a"]),
        (Wanted(trace_id=TRACE), ["c", "b", "a"]),
        (Wanted(trace_id="0" * 32), []),
        (Wanted(min_duration_ms=11_000), ["c", "b"]),
        (Wanted(since=1_700_000_001.0), ["b"]),
        (Wanted(limit=2), ["c", "b"]),
    ],
)
def test_finds_what_is_wanted(wanted: Wanted, found: list[str]) -> None:
    kept = tracer()
    kept(inference(request_id="a", tenant="other", ended=100.5))
    kept(inference(request_id="b", model="big", outcome="cancelled", began_at=1_700_000_002.0))
    kept(inference(request_id="c", outcome="error", error=InvalidRequest("no")))
    assert [record.request_id for record in kept.find(wanted)] == found


def test_sinks_are_told() -> None:
    told: list[str] = []
    all_of = Tracer(Sampling(), ring=0, sinks=[lambda record: told.append(record.request_id)])
    all_of(inference(request_id="x"))
    assert told == ["x"]


def test_a_long_name_that_somebody_made_up_is_cut() -> None:
    kept = tracer()
    kept(inference(model="x" * 10_000_000))
    (record,) = kept.find(Wanted())
    assert record.model == "x" * MAX_MODEL_LENGTH


def test_errors_are_named_and_not_held() -> None:
    class Held(InvalidRequest):
        pass

    kept = tracer()
    error = Held("no")
    gone = weakref.ref(error)
    kept(inference(outcome="error", error=error))
    del error
    gc.collect()
    assert gone() is None
    (record,) = kept.find(Wanted())
    assert record.error == "Held"
