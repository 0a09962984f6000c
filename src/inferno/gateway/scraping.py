"""What model servers say of their load: their own metrics, read into one `EndpointLoad`.

Pure: what llama.cpp, vLLM, SGLang and Inferno itself (which can be a replica of another Inferno)
publish goes in as text; `scraper` is who asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

MAX_LINES = 1000
"""Of those that matter, on one page."""


@dataclass(frozen=True, slots=True)
class EndpointLoad:
    """How busy a model server is.

    Args:
        waiting: requests that wait inside it.
        running: requests that it works on.
        kv_cache_usage: share of its cache that running requests take, 0 to 1; None where unknown.
        max_lora: adapters that it can hold at once; 0 for none.
        loras: adapters that it works with now.
        at: when it said so (`time.monotonic`).
        waiting_loras: adapters that waiting requests want.
        batch_size: requests that a step works on, on average since its start; None where unknown.
    """

    waiting: int
    running: int
    kv_cache_usage: float | None = None
    max_lora: int = 0
    loras: frozenset[str] = frozenset()
    at: float = 0.0
    waiting_loras: frozenset[str] = frozenset()
    batch_size: float | None = None


WAITING = (
    "vllm:num_requests_waiting",
    "sglang:num_queue_reqs",
    "llamacpp:requests_deferred",
    "inferno_requests_waiting",
)
RUNNING = (
    "vllm:num_requests_running",
    "sglang:num_running_reqs",
    "llamacpp:requests_processing",
    "inferno_requests_running",
)
CACHE_USAGE = (
    "vllm:kv_cache_usage_perc",
    "vllm:gpu_cache_usage_perc",  # its name before 0.10
    "sglang:token_usage",
    "llamacpp:kv_cache_usage_ratio",  # its older versions
    "inferno_engine_kv_cache_usage_ratio",
)
BATCH_SIZE = ("llamacpp:n_busy_slots_per_decode",)
LORA = "vllm:lora_requests_info"

_WANTED = re.compile(
    rf"^(?:{'|'.join([*WAITING, *RUNNING, *CACHE_USAGE, *BATCH_SIZE, LORA])})[{{ ].*$", re.MULTILINE
)
"""A server's page has a thousand lines, of which these few are worth parsing."""


class NotMetrics(ValueError):
    """What a replica answered is no page of metrics that we know."""


def load_of(page: str, *, at: float) -> EndpointLoad:
    """Read a page in Prometheus' text format.

    Several series of one metric are several engines behind one address: requests are summed, and
    the fullest cache counts.

    Args:
        page: what the replica answered.
        at: when.

    Raises:
        NotMetrics: it says nothing of requests that run or wait.
    """
    from prometheus_client.parser import text_string_to_metric_families

    wanted = "\n".join(_WANTED.findall(page)[:MAX_LINES]) + "\n"
    try:
        samples = [s for family in text_string_to_metric_families(wanted) for s in family.samples]
    except (ValueError, KeyError, IndexError) as error:
        raise NotMetrics("The page is not in Prometheus' text format.") from error
    values: dict[str, list[float]] = {}
    for sample in samples:
        if sample.value == sample.value:  # not NaN
            values.setdefault(sample.name, []).append(sample.value)
    running, waiting = _first(values, RUNNING), _first(values, WAITING)
    if running is None and waiting is None:
        raise NotMetrics("The page says nothing of requests.")
    usage, batch = _first(values, CACHE_USAGE), _first(values, BATCH_SIZE)
    lora = max((s for s in samples if s.name == LORA), key=lambda s: s.value, default=None)
    labels = lora.labels if lora is not None else {}
    return EndpointLoad(
        at=at,
        waiting=_whole(sum(waiting or ())),
        running=_whole(sum(running or ())),
        batch_size=batch[0] if batch else None,
        kv_cache_usage=_share(max(usage)) if usage else None,
        max_lora=_whole(_number(labels.get("max_lora", ""))),
        loras=_names(labels.get("running_lora_adapters", "")),
        waiting_loras=_names(labels.get("waiting_lora_adapters", "")),
    )


def _first(values: dict[str, list[float]], names: Iterable[str]) -> list[float] | None:
    return next((values[name] for name in names if name in values), None)


def _whole(value: float) -> int:
    return int(min(max(value, 0.0), 1e9))


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return 0.0
    return number if number == number else 0.0


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(",") if name.strip())


class _Slot(msgspec.Struct):
    """One of llama.cpp's slots, as its `/slots` shows it."""

    n_ctx: int = 0
    is_processing: bool = False
    n_prompt_tokens: int = 0


_slots: msgspec.json.Decoder[list[_Slot]] = msgspec.json.Decoder(list[_Slot])


def cache_usage(slots: bytes) -> float | None:
    """Return the share of a llama.cpp server's cache that running requests take.

    What idle slots still hold is free for whoever needs it, so it does not count.

    Args:
        slots: the server's answer to `/slots`.
    """
    try:
        found = _slots.decode(slots)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    room = sum(slot.n_ctx for slot in found)
    taken = sum(slot.n_prompt_tokens for slot in found if slot.is_processing)
    return _share(taken / room) if room > 0 else None
