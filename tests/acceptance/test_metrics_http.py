"""`/metrics` of a real platform, read by Prometheus' own tools."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from inferno.gateway import gauges
from inferno.telemetry import metrics_inferences, metrics_process, metrics_requests
from tests.acceptance.access import NO_MODEL, as_caller, make_caller
from tests.acceptance.clients import STREAM, Connection, connections
from tests.acceptance.metrics import chat, scrape
from tests.acceptance.platform import MODEL, Platform, wait_until
from tests.acceptance.random_models import slow_model

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def openmetrics(text: str) -> list[Metric]:
    """Read a page as strictly as the format is defined."""
    return list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]


def test_promtool_has_nothing_to_say(platform: Platform) -> None:
    with platform.http() as client:
        assert chat(client).status_code == 200
        assert chat(client, model="no-such-model").status_code == 404
        report = {"name": "promtool_check", "value": 1, "labels": {"text": 'a"b\\c'}}
        assert client.post("/metrics/custom", json=report).status_code == 200
        page = client.get("/metrics")
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=page.content, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_the_seeds_lines_are_there(platform: Platform) -> None:
    with platform.http() as client:
        chat(client).raise_for_status()
        page = client.get("/metrics")
    assert page.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "# TYPE inferno_inference_requests_total counter\n" in page.text
    assert re.search(
        rf'^inferno_inference_requests_total{{model="{MODEL}"}} \d', page.text, re.MULTILINE
    )
    assert "# TYPE inferno_inference_duration_seconds histogram\n" in page.text
    for bound in ("0.1", "0.5", "1.0"):
        assert f'inferno_inference_duration_seconds_bucket{{le="{bound}"}} ' in page.text


def test_every_metric_is_there_from_the_start(platform: Platform) -> None:
    families = (
        *metrics_inferences.FAMILIES,
        *metrics_process.FAMILIES,
        *metrics_requests.FAMILIES,
        *gauges.FAMILIES,
    )
    with platform.http() as client:
        shown = client.get("/metrics").text
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", shown, re.MULTILINE))
    for family in families:
        assert types[family.name] == family.kind.replace("unknown", "untyped"), family.name


def test_openmetrics_is_spoken_to_those_who_ask(platform: Platform) -> None:
    with platform.http() as client:
        page = client.get("/metrics", headers={"accept": f"{OPENMETRICS},text/plain;q=0.3"})
    assert page.headers["content-type"].startswith(OPENMETRICS)
    assert page.headers["vary"] == "accept"
    assert page.text.endswith("# EOF\n")
    names = {family.name for family in openmetrics(page.text)}
    assert {"inferno_inference_requests", "inferno_inference_duration_seconds"} <= names


@pytest.mark.parametrize("accept", ["text/html", f"{OPENMETRICS[:-5]}x", "\xe9;q=\xe9", ";,;q="])
def test_whatever_is_accepted_something_is_answered(platform: Platform, accept: str) -> None:
    with platform.http() as client:
        page = client.get("/metrics", headers={b"accept": accept.encode("latin-1")})
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/plain")


def test_tokens_and_requests_are_counted(platform: Platform) -> None:
    before = scrape(platform)
    with platform.http() as client:
        usage = chat(client).json()["usage"]
        streamed = chat(client, stream=True, stream_options={"include_usage": True})
        assert streamed.status_code == 200
        embedded = client.post("/v1/embeddings", json={"model": MODEL, "input": "Hello"})
        assert embedded.status_code == 200
    after = scrape(platform)

    def grew(name: str, **labels: str) -> float:
        return after.value(name, **labels) - before.value(name, **labels)

    assert grew("inferno_inference_requests_total", model=MODEL) == 3
    assert grew("inferno_inference_requests_successful_total", model=MODEL) == 3
    assert grew("inferno_inference_duration_seconds_count") == 3
    assert grew("inferno_queue_wait_seconds_count", model=MODEL) == 3
    assert grew("inferno_time_to_first_token_seconds_count", model=MODEL) == 2
    assert grew("inferno_time_per_output_token_seconds_count", model=MODEL) == 2
    tokens = 2 * usage["completion_tokens"]
    assert grew("inferno_inference_tokens_total", model=MODEL) == tokens
    prompts = 2 * usage["prompt_tokens"] + embedded.json()["usage"]["prompt_tokens"]
    assert grew("inferno_prompt_tokens_total", model=MODEL) == prompts
    assert grew("inferno_tenant_requests_total", tenant="default", model=MODEL) == 3
    assert grew("inferno_tenant_tokens_total", tenant="default", model=MODEL) == tokens


def test_made_up_names_make_no_series(platform: Platform) -> None:
    with platform.http() as client:
        assert chat(client, model="made-up").status_code == 404
        client.get("/made-up")
        client.request("BREW", "/made-up")
        before = scrape(platform)
        for number in range(10):
            assert chat(client, model=f"made-up-{number}").status_code == 404
            client.get(f"/made-up/{number}")
            client.get(f"/models/made-up-{number}")
    after = scrape(platform)
    grown = {name for name, _ in after.samples.keys() - before.samples.keys()}
    assert grown <= {"inferno_http_requests_total"}  # GET /models/{model_id} may be new
    assert not any("made-up" in str(key) for key in after.samples)
    failed = "inferno_inference_errors_total"
    labels = {"model": "unknown", "error": "ModelNotFound"}
    assert after.value(failed, **labels) - before.value(failed, **labels) == 10


def test_http_requests_are_counted_by_operation_and_status(platform: Platform) -> None:
    labels = {"api": "inference", "method": "GET", "operation": "/models/{model_id}"}
    name = "inferno_http_requests_total"
    before = scrape(platform)
    with platform.http() as client:
        assert client.get(f"/models/{MODEL}").status_code == 200
        assert client.get("/models/nothing").status_code == 404
        assert client.get(f"{platform.management_url}/health").status_code == 200
    after = scrape(platform)
    for status in ("200", "404"):
        counted = after.value(name, status=status, **labels)
        assert counted - before.value(name, status=status, **labels) == 1
    health = {"api": "management", "method": "GET", "operation": "/health", "status": "200"}
    assert after.value(name, **health) == before.value(name, **health) + 1


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with a slow model of one slot, loaded."""
    data = tmp_path_factory.mktemp("slow") / "data"
    (data / "models").mkdir(parents=True)
    (data / "models" / "slow.gguf").write_bytes(slow_model())
    platform = Platform(data, environment=NO_MODEL)
    try:
        with platform.start().http() as client:
            options = {"context_size": 8192, "parallel": 1}
            client.post("/models/slow/load", json=options).raise_for_status()
        yield platform
    finally:
        platform.kill()


def test_what_runs_and_waits_is_shown_while_it_does(slow: Platform) -> None:
    body = {"model": "slow", "prompt": "Once", "max_tokens": 7000, **STREAM}
    with connections(slow, "/v1/completions", [body] * 4):
        wait_until(
            lambda: scrape(slow).value("inferno_requests_waiting", model="slow") == 2,
            30,
            "nothing waited",
        )
        wait_until(
            lambda: 1 in scrape(slow).series("inferno_engine_requests_running").values(),
            30,
            "the engine never said that it works",
        )
        seen = scrape(slow)
    assert seen.value("inferno_requests_running", model="slow") == 2
    ((replica, running),) = seen.series("inferno_replica_requests_running").items()
    assert running == 2
    labels = dict(replica)
    assert labels["model"] == "slow"
    assert seen.value("inferno_replica_slots", **labels) == 1
    assert seen.value("inferno_engine_requests_running", **labels) == 1
    assert seen.value("inferno_engine_batch_size", **labels) > 0
    assert 0 < seen.value("inferno_engine_kv_cache_usage_ratio", **labels) <= 1
    assert seen.value("inferno_engine_metrics_age_seconds", **labels) < 30
    assert seen.value("inferno_replicas", model="slow", phase="Ready") == 1
    assert seen.value("inferno_loaded_models") == 1
    assert seen.value("inferno_model_load_time_seconds", model="slow", backend="llama_cpp") > 0
    assert seen.value("inferno_model_memory_bytes", model="slow") > 2**20


def test_refusals_are_counted_by_reason(start: Callable[..., Platform]) -> None:
    platform = start(environment=NO_MODEL)
    key = make_caller(platform, "ada", limits={"requests_per_minute": 1})
    with as_caller(platform, key.secret) as ada, as_caller(platform, "wrong") as nobody:
        assert nobody.get("/models").status_code == 401
        assert ada.get("/metrics").status_code == 403
        assert ada.get("/models").status_code == 429
    seen = scrape(platform)
    for reason in ("authentication", "permission", "requests_per_minute"):
        assert seen.value("inferno_requests_refused_total", reason=reason) == 1, reason


def test_metrics_and_traces_are_for_operators(start: Callable[..., Platform]) -> None:
    platform = start(environment=NO_MODEL)
    user = make_caller(platform, "ada")
    service = make_caller(platform, "prometheus", role="service")
    report = {"name": "jobs", "value": 1}
    for path in ("/metrics", "/metrics/json", "/metrics/snapshot", "/traces"):
        for credential, status in ((None, 401), (user.secret, 403), (service.secret, 200)):
            with as_caller(platform, credential) as caller:
                assert caller.get(path).status_code == status, path
    with as_caller(platform, service.secret) as caller:
        assert caller.post("/metrics/custom", json=report).status_code == 403
        assert caller.delete("/metrics/custom/jobs").status_code == 403


def test_json_and_snapshot_say_the_same(platform: Platform) -> None:
    with platform.http() as client:
        chat(client).raise_for_status()
        listed = client.get("/metrics/json").json()
        snapshot = client.get("/metrics/snapshot").json()
    shown = {one["name"]: one for one in listed["metrics"]}
    requests = shown["inferno_inference_requests_total"]
    assert requests["type"] == "counter"
    total = sum(sample["value"] for sample in requests["samples"])
    assert snapshot["inference_metrics"]["total_requests"] == total
    assert snapshot["inference_metrics"]["successful_requests"] > 0
    assert snapshot["inference_metrics"]["total_tokens_generated"] > 0
    assert snapshot["inference_metrics"]["average_latency_ms"] > 0
    assert snapshot["system_metrics"]["memory_usage_bytes"] > 2**20
    loaded = snapshot["model_metrics"]["loaded_models"][MODEL]
    assert loaded["backend_type"] == "llama_cpp"
    assert loaded["load_time_ms"] > 0
    assert loaded["inference_count"] > 0
    assert snapshot["model_metrics"]["total_model_size_bytes"] == loaded["size_bytes"]


def test_the_process_is_measured(platform: Platform) -> None:
    wait_until(
        lambda: scrape(platform).value("inferno_event_loop_lag_seconds_count") > 0,
        30,
        "the event loop's lag was not measured",
    )
    seen = scrape(platform)
    assert seen.value("process_resident_memory_bytes") > 2**20
    assert seen.value("process_cpu_seconds_total") > 0
    assert seen.value("process_open_fds") > 3
    assert seen.value("inferno_uptime_seconds") > 0
    ((labels, one),) = seen.series("inferno_build_info").items()
    assert one == 1
    assert dict(labels)["version"]


@pytest.mark.parametrize(
    ("path", "last"),
    [
        ("/v1/chat/completions", b"data: [DONE]"),
        ("/v1/completions", b"data: [DONE]"),
        ("/inference/stream", b'"done":true'),
    ],
)
def test_whoever_leaves_with_the_last_word_has_had_its_answer(
    platform: Platform, path: str, last: bytes
) -> None:
    counter = "inferno_inference_requests_cancelled_total"
    content = {"messages": [{"role": "user", "content": "2 + 2"}]} if "chat" in path else {}
    body = {"model": MODEL, "prompt": "2 + 2 =", "max_tokens": 4, "stream": True, **content}
    if content:
        del body["prompt"]
    before = scrape(platform)
    for _ in range(10):
        connection = Connection(platform, path, body)
        connection.read_until(last)
        connection.leave()
    answered = before.value("inferno_inference_requests_total", model=MODEL) + 10
    wait_until(
        lambda: scrape(platform).value("inferno_inference_requests_total", model=MODEL) >= answered,
        10,
        "they were not counted",
    )
    assert scrape(platform).value(counter, model=MODEL) == before.value(counter, model=MODEL)
