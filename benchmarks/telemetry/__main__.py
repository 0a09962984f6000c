"""Run with `python -m benchmarks.telemetry`; takes about 15 seconds.

Costs per inference on the event loop, in one process and without sockets. The kinds take turns, so
that all meet the same disturbances; each figure is the median of the rounds, less that of an empty
call. The peers do the same with the usual libraries: prometheus-client's children, resolved
beforehand, and spans of the OpenTelemetry SDK that nobody exports.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.startup.processes import load_average
from inferno.core.inferences import Inference, Journey, TraceContext
from inferno.telemetry.exposition import render
from inferno.telemetry.metrics_inferences import DURATIONS, TOKEN_TIMES, WAITS, InferenceMetrics
from inferno.telemetry.traces import Sampling, Tracer

ROUNDS = 40
CALLS = 5_000
MODELS = 20
METRICS_AIM = 3.0
OFF_AIM = 0.2

HEADERS = [
    (b"host", b"127.0.0.1:8080"),
    (b"authorization", b"Bearer inf_0123456789"),
    (b"content-type", b"application/json"),
    (b"user-agent", b"benchmark"),
    (b"content-length", b"128"),
]
SCOPE = {"type": "http", "headers": HEADERS}
TRACED = {
    "type": "http",
    "headers": [
        *HEADERS,
        (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ],
}


def inference() -> Inference:
    """Return an inference that is over."""
    journey = Journey(
        queued=1.0,
        picked=1.001,
        first=1.1,
        ended=2.0,
        endpoint="tiny-abc",
        attempts=1,
        prompt_tokens=20,
        cached_tokens=4,
        completion_tokens=64,
    )
    done = Inference("req_1", "chat", "model-0", "acme", "u", "k", True, False, [journey])
    done.begun, done.ended = 1.0, 2.0
    return done


def kinds() -> dict[str, Callable[[], Any]]:
    """Return what is measured."""
    counted, untraced = InferenceMetrics(lambda _: True, max_names=100), inference()
    off = Tracer(Sampling(0.0, follow=False), ring=1000)
    unlucky = Tracer(Sampling(0.0), ring=1000)
    on = Tracer(Sampling(), ring=1000)
    exported = Tracer(Sampling(), ring=1000, sinks=[lambda _: None])

    def traced(tracer: Tracer, scope: dict[str, Any]) -> Callable[[], None]:
        done = inference()

        def trace() -> None:
            done.trace = tracer.begin(scope)
            if done.trace is not None:
                assert isinstance(done.trace, TraceContext)
                assert done.trace.traceparent
            tracer(done)

        return trace

    return {
        "an empty call": lambda: None,
        "metrics": lambda: counted(untraced),
        "metrics, prometheus-client": prometheus_client(untraced),
        "traces, off": traced(off, SCOPE),
        "traces, on and not sampled": traced(unlucky, SCOPE),
        "traces, sampled": traced(on, SCOPE),
        "traces, sampled, the caller's": traced(on, TRACED),
        "traces, sampled and queued for export": traced(exported, SCOPE),
        "traces, OpenTelemetry SDK": opentelemetry(),
    }


def prometheus_client(done: Inference) -> Callable[[], None]:
    """Return what counts an inference with the usual library."""
    from prometheus_client import CollectorRegistry, Counter, Histogram

    registry = CollectorRegistry()

    def counter(name: str, *labels: str) -> Any:
        made = Counter(name, name, [f"l{n}" for n, _ in enumerate(labels)], registry=registry)
        return made.labels(*labels)

    def histogram(name: str, bounds: Any) -> Any:
        return Histogram(name, name, ["model"], registry=registry, buckets=bounds).labels("m")

    requests, tokens = counter("a", "m"), [counter(f"t{n}", "m") for n in range(3)]
    tenant = [counter(f"u{n}", "t", "m") for n in range(3)]
    duration, wait = histogram("d", DURATIONS), histogram("w", WAITS)
    first, each = histogram("f", WAITS), histogram("e", TOKEN_TIMES)
    (journey,) = done.journeys
    assert journey.picked is not None
    assert journey.first is not None
    assert journey.ended is not None
    picked, begun, ended = journey.picked, journey.first, journey.ended

    def count() -> None:
        requests.inc()
        duration.observe(done.ended - done.begun)
        wait.observe(picked - journey.queued)
        first.observe(begun - done.begun)
        each.observe((ended - begun) / (journey.completion_tokens - 1))
        tokens[0].inc(journey.prompt_tokens)
        tokens[1].inc(journey.cached_tokens)
        tokens[2].inc(journey.completion_tokens)
        tenant[0].inc()
        tenant[1].inc(journey.prompt_tokens)
        tenant[2].inc(journey.completion_tokens)

    return count


def opentelemetry() -> Callable[[], None]:
    """Return what makes an inference's four spans with the SDK; nobody exports them."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import set_span_in_context

    tracer = TracerProvider().get_tracer("benchmark")

    def trace() -> None:
        root = tracer.start_span("chat", attributes={"gen_ai.request.model": "m"})
        context = set_span_in_context(root)
        for name in ("queue", "time_to_first_token", "generate"):
            tracer.start_span(name, context=context).end()
        root.set_attribute("gen_ai.usage.output_tokens", 64)
        root.end()

    return trace


def measure(call: Callable[[], Any]) -> float:
    """Return what a call takes, in microseconds."""
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - start) / CALLS * 1e6


def page() -> tuple[float, int]:
    """Return what a page for several models takes, in milliseconds, and its size."""
    counted = InferenceMetrics(lambda _: True, max_names=100)
    for number in range(MODELS):
        done = inference()
        done.model = f"model-{number}"
        counted(done)
    times = []
    for _ in range(10):
        start = time.perf_counter()
        text = render(list(counted.measured()), "").body
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times), len(text)


def main() -> None:
    """Measure and report."""
    times: dict[str, list[float]] = {}
    for name, call in kinds().items():
        times[name] = [measure(call)]  # warms up, and is measured again below
    running = kinds()
    for _ in range(ROUNDS):
        for name, call in running.items():
            times[name].append(measure(call))
    medians = {name: statistics.median(found[1:]) for name, found in times.items()}
    empty = medians.pop("an empty call")
    costs = {name: median - empty for name, median in medians.items()}
    print("| per inference, on the event loop | µs |\n|---|---|")
    for name, cost in costs.items():
        print(f"| {name} | {cost:.2f} |")
    counted, peer = costs["metrics"], costs["metrics, prometheus-client"]
    sampled, sdk = costs["traces, sampled"], costs["traces, OpenTelemetry SDK"]
    off = costs["traces, off"]
    print(f"\nmetrics to prometheus-client's: {counted / peer:.2f}")
    print(f"a sampled trace to the SDK's: {sampled / sdk:.3f}; off to on: {off / sampled:.3f}")
    milliseconds, size = page()
    print(f"a page for {MODELS} models: {milliseconds:.1f} ms in a thread, {size / 1024:.0f} KiB")
    print(f"metrics under {METRICS_AIM} µs: {'yes' if counted < METRICS_AIM else 'NO'}")
    print(f"traces, off, under {OFF_AIM} µs: {'yes' if off < OFF_AIM else 'NO'}")
    print(f"\n{ROUNDS} rounds, {load_average()}")


if __name__ == "__main__":
    main()
