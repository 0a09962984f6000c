"""What engines say of their load; the pages are as the servers write them, cut to what matters."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferno.gateway.scraping import EndpointLoad, NotMetrics, cache_usage, load_of

LLAMA_CPP = """\
# HELP llamacpp:requests_processing Number of requests processing
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 3
# HELP llamacpp:requests_deferred Number of requests deferred
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred 2
# HELP llamacpp:n_busy_slots_per_decode Average number of busy slots per llama_decode() call
# TYPE llamacpp:n_busy_slots_per_decode gauge
llamacpp:n_busy_slots_per_decode 1.75
"""
VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="llama"} 4.0
vllm:num_requests_running{engine="1",model_name="llama"} 1.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="llama"} 7.0
vllm:num_requests_waiting{engine="1",model_name="llama"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="llama",reason="capacity"} 70.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="llama"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="llama"} 0.75
# TYPE vllm:lora_requests_info gauge
vllm:lora_requests_info{max_lora="4",running_lora_adapters="old",waiting_lora_adapters=""} 1.7e+09
vllm:lora_requests_info{max_lora="4",running_lora_adapters="a, b",waiting_lora_adapters="c"} 1.8e+09
# TYPE vllm:request_success_total counter
vllm:request_success_total{finished_reason="stop",model_name="llama"} 100.0
"""
VLLM_BEFORE = """\
vllm:num_requests_running{model_name="llama"} 1.0
vllm:num_requests_waiting{model_name="llama"} 0.0
vllm:gpu_cache_usage_perc{model_name="llama"} 0.5
"""
SGLANG = """\
sglang:num_running_reqs{model_name="llama"} 5.0
sglang:num_queue_reqs{model_name="llama"} 2.0
sglang:token_usage{model_name="llama"} 0.28
"""
INFERNO = """\
inferno_requests_running{model="a"} 2.0
inferno_requests_running{model="b"} 1.0
inferno_requests_waiting{model="a"} 4.0
inferno_engine_kv_cache_usage_ratio{model="a",replica="a-1"} 0.5
inferno_engine_kv_cache_usage_ratio{model="b",replica="b-1"} 0.1
"""


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (LLAMA_CPP, EndpointLoad(at=1.0, running=3, waiting=2, batch_size=1.75)),
        (
            VLLM,
            EndpointLoad(
                at=1.0,
                running=5,
                waiting=7,
                kv_cache_usage=0.75,
                max_lora=4,
                loras=frozenset({"a", "b"}),
                waiting_loras=frozenset({"c"}),
            ),
        ),
        (VLLM_BEFORE, EndpointLoad(at=1.0, running=1, waiting=0, kv_cache_usage=0.5)),
        (SGLANG, EndpointLoad(at=1.0, running=5, waiting=2, kv_cache_usage=0.28)),
        (INFERNO, EndpointLoad(at=1.0, running=3, waiting=4, kv_cache_usage=0.5)),
    ],
    ids=["llama.cpp", "vllm", "older vllm", "sglang", "inferno"],
)
def test_reads_what_model_servers_publish(page: str, expected: EndpointLoad) -> None:
    assert load_of(page, at=1.0) == expected


@pytest.mark.parametrize(
    "page",
    [
        "",
        "<html>no</html>",
        "up 1\n",
        "vllm:num_requests_running{",
        'vllm:num_requests_running{a="b} 1',
        "vllm:num_requests_running x",
        "vllm:num_requests_running NaN",
    ],
)
def test_what_is_no_page_of_a_model_server_is_refused(page: str) -> None:
    with pytest.raises(NotMetrics):
        load_of(page, at=1.0)


def test_absurd_values_are_brought_into_range() -> None:
    page = (
        "vllm:num_requests_running -3\nvllm:num_requests_waiting +Inf\n"
        "vllm:kv_cache_usage_perc 1e300\n"
        'vllm:lora_requests_info{max_lora="many"} 1\n'
    )
    load = load_of(page, at=0.0)
    assert (load.running, load.waiting, load.kv_cache_usage, load.max_lora) == (0, 10**9, 1.0, 0)


def test_an_endless_page_is_read_in_part() -> None:
    page = "vllm:num_requests_running 1\n" * 200_000
    assert load_of(page, at=0.0).running == 1000


@given(st.text(alphabet='vllm:num_requests_running{}=",. \n\\0-9Inf', max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(NotMetrics):
        load_of("vllm:num_requests_running" + text, at=0.0)


@pytest.mark.parametrize(
    ("slots", "usage"),
    [
        (b'[{"n_ctx":100,"is_processing":true,"n_prompt_tokens":40},{"n_ctx":100}]', 0.2),
        # What an idle slot still remembers is free for the next request.
        (b'[{"n_ctx":100,"is_processing":false,"n_prompt_tokens":40}]', 0.0),
        (b'[{"n_ctx":10,"is_processing":true,"n_prompt_tokens":40}]', 1.0),
        (b"[]", None),
        (b'{"error":{"code":501}}', None),
        (b"\xff", None),
    ],
)
def test_reads_how_full_a_llama_cpp_server_is(slots: bytes, usage: float | None) -> None:
    assert cache_usage(slots) == usage
