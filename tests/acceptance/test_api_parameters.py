"""Each sampling parameter has its effect at the engine, through both APIs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.acceptance.platform import MODEL, Platform

PROMPT = "Tell me a story about a cat and a dog."


@pytest.fixture(scope="module")
def http(platform: Platform) -> Iterator[httpx.Client]:
    with platform.http() as client:
        yield client


@pytest.fixture(params=["/inference", "/v1/completions"])
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Asker:
    def __init__(self, http: httpx.Client, path: str) -> None:
        self.http, self.path = http, path

    def __call__(self, **fields: Any) -> dict[str, Any]:
        body = {"model": MODEL, "prompt": PROMPT, "max_tokens": 24, "ignore_eos": True, **fields}
        answer: dict[str, Any] = self.http.post(self.path, json=body).raise_for_status().json()
        return answer

    def text(self, **fields: Any) -> str:
        return str(self(**fields)["choices"][0]["text"])


@pytest.fixture
def ask(http: httpx.Client, api: str) -> Asker:
    return Asker(http, api)


def test_max_tokens_is_exact(ask: Asker) -> None:
    for count in (1, 7, 30):
        answer = ask(max_tokens=count)
        assert answer["usage"]["completion_tokens"] == count
        assert answer["choices"][0]["finish_reason"] == "length"


def test_the_same_prompt_counts_the_same(ask: Asker) -> None:
    counts = {ask(max_tokens=count)["usage"]["prompt_tokens"] for count in (1, 5)}
    assert len(counts) == 1


def test_stop_cuts_the_text(ask: Asker) -> None:
    whole = ask.text(temperature=0)
    middle = whole[len(whole) // 2 :].split()[0]
    for stop in (middle, [middle], ["never said", middle]):
        answer = ask(temperature=0, stop=stop)
        assert answer["choices"][0]["text"] == whole[: whole.index(middle)]
        assert answer["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0},
        {"top_k": 1, "temperature": 2},
        {"top_p": 0, "temperature": 2, "top_k": 0},
    ],
    ids=["temperature", "top_k", "top_p"],
)
def test_greedy_settings_always_say_the_same(ask: Asker, fields: dict[str, Any]) -> None:
    assert {ask.text(seed=seed, **fields) for seed in range(4)} == {ask.text(temperature=0)}


HOT = {"temperature": 2, "top_k": 0, "top_p": 1, "min_p": 0}


def test_a_seed_is_repeatable_and_seeds_differ(ask: Asker) -> None:
    texts = [[ask.text(seed=seed, **HOT) for _ in range(2)] for seed in range(4)]
    assert all(first == second for first, second in texts)
    assert len({first for first, _ in texts}) > 1


def test_temperature_makes_answers_vary(ask: Asker) -> None:
    assert len({ask.text(seed=seed, **HOT) for seed in range(4)}) > 1


def test_min_p_leaves_only_the_likeliest(ask: Asker) -> None:
    texts = {ask.text(seed=seed, **{**HOT, "min_p": 1}) for seed in range(4)}
    assert len(texts) == 1


def test_typical_p_changes_what_may_be_said(ask: Asker) -> None:
    usual = [ask.text(seed=seed, **HOT) for seed in range(3)]
    assert [ask.text(seed=seed, typical_p=0.1, **HOT) for seed in range(3)] != usual


@pytest.mark.parametrize(
    "fields",
    [
        {"repeat_penalty": 10, "repeat_last_n": 200},
        {"presence_penalty": 2},
        {"frequency_penalty": 2},
    ],
    ids=["repeat", "presence", "frequency"],
)
def test_penalties_change_the_text(ask: Asker, fields: dict[str, Any]) -> None:
    plain = [ask.text(seed=seed, **HOT) for seed in range(3)]
    assert [ask.text(seed=seed, **HOT, **fields) for seed in range(3)] != plain


def test_repeat_last_n_of_zero_switches_the_repeat_penalty_off(ask: Asker) -> None:
    plain = ask.text(temperature=0)
    assert ask.text(temperature=0, repeat_penalty=10, repeat_last_n=0) == plain


def test_a_grammar_holds_the_text(ask: Asker) -> None:
    grammar = 'root ::= "yes" | "no"'
    answer = ask(grammar=grammar, ignore_eos=False)
    assert answer["choices"][0]["text"] in ("yes", "no")
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_a_grammar_that_is_none_is_refused(http: httpx.Client, api: str) -> None:
    answer = http.post(api, json={"model": MODEL, "prompt": "a", "grammar": "root ::= ((("})
    assert answer.status_code == 400
    assert "grammar" in json.dumps(answer.json()["error"])


def test_ignore_eos_goes_on_past_the_end(ask: Asker) -> None:
    question = {"prompt": "What is the capital of France?", "temperature": 0, "max_tokens": 40}
    short = ask(ignore_eos=False, **question)
    assert short["choices"][0]["finish_reason"] == "stop"
    long = ask(**question)
    assert long["usage"]["completion_tokens"] == 40 > short["usage"]["completion_tokens"]


def test_logit_bias_forbids_and_forces_a_token(http: httpx.Client) -> None:
    def ask(**fields: Any) -> dict[str, Any]:
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
            "temperature": 0,
            "max_tokens": 3,
            "logprobs": True,
            **fields,
        }
        answer = http.post("/v1/chat/completions", json=body).raise_for_status().json()
        choice: dict[str, Any] = answer["choices"][0]
        return choice

    first = ask()["logprobs"]["content"][0]
    other = ask(logit_bias={str(first["id"]): -100})["logprobs"]["content"][0]
    assert other["id"] != first["id"]
    forced = ask(logit_bias={str(other["id"]): 100})["logprobs"]["content"]
    assert {entry["id"] for entry in forced} == {other["id"]}


@pytest.mark.parametrize("bias", [{"x": 1}, {"99999999999": 1}, {"-1": 1}, {"1": 101}])
def test_a_wrong_logit_bias_is_refused_by_name(http: httpx.Client, bias: dict[str, int]) -> None:
    body = {"model": MODEL, "prompt": "a", "logit_bias": bias}
    answer = http.post("/v1/completions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("logit_bias")
