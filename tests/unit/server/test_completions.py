from typing import Any

import msgspec
import pytest

from inferno.core.errors import InvalidRequest, Unsupported
from inferno.server.completions import (
    check,
    decode_completion,
    legacy_logprobs,
    prompts_of,
)
from inferno.server.sampling import DEFAULTS, sampling_fields, seed_of
from inferno.server.types import (
    CompletionRequest,
    InferenceRequest,
    ReplicaLogprobs,
    TokenLogprob,
    TopLogprob,
)


@pytest.mark.parametrize(
    ("given", "prompts"),
    [
        ("a", ["a"]),
        (["a"], ["a"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1], [2, 3]], [[1], [2, 3]]),
        ([0, 2**31 - 1], [[0, 2**31 - 1]]),
    ],
)
def test_prompts_are_texts_or_token_ids(given: Any, prompts: list[Any]) -> None:
    assert prompts_of(given) == prompts


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ([], "prompt"),
        ([-1], "prompt"),
        ([True], "prompt"),
        ([2**31], "prompt"),
        ([1, "a"], "prompt"),
        ([1.5], "prompt[0]"),
        ([[]], "prompt[0]"),
        ([[1], ["a"]], "prompt[1]"),
        ([None], "prompt[0]"),
        (["a"] * 2049, "prompt"),
    ],
)
def test_other_prompts_are_refused_by_name(given: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        prompts_of(given)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("fields", "kind", "field"),
    [
        ({"best_of": 3}, Unsupported, "best_of"),
        ({"best_of": 1, "n": 2}, Unsupported, "best_of"),
        ({"echo": True, "logprobs": 1}, Unsupported, "echo"),
        ({"echo": True, "prompt": [1]}, Unsupported, "echo"),
        ({"suffix": "a", "prompt": [1]}, Unsupported, "suffix"),
        ({"suffix": "a", "logprobs": 1}, Unsupported, "suffix"),
        ({"prompt": ""}, InvalidRequest, "prompt"),
        ({"stream_options": {}}, InvalidRequest, "stream_options"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    fields: dict[str, Any], kind: type[InvalidRequest], field: str
) -> None:
    request = msgspec.convert({"model": "m", "prompt": "p", **fields}, CompletionRequest)
    with pytest.raises(kind) as refused:
        check(request, prompts_of(request.prompt))
    assert refused.value.field == field


@pytest.mark.parametrize("fields", [{"best_of": 2, "n": 2}, {"best_of": 1}, {"echo": False}])
def test_what_changes_nothing_is_taken(fields: dict[str, Any]) -> None:
    request = msgspec.convert({"model": "m", "prompt": "p", **fields}, CompletionRequest)
    check(request, prompts_of(request.prompt))
    assert request == msgspec.convert({"model": "m", "prompt": "p", **fields}, CompletionRequest)


def logprobs(*tokens: str) -> ReplicaLogprobs:
    return ReplicaLogprobs(
        content=[
            TokenLogprob(
                token=token,
                logprob=-float(i),
                top_logprobs=[
                    TopLogprob(token=token, logprob=-1),
                    TopLogprob(token="x", logprob=-2),
                ],
            )
            for i, token in enumerate(tokens)
        ]
    )


def test_legacy_logprobs_have_four_lists() -> None:
    shown, offset = legacy_logprobs(logprobs("ab", "c", "é "), 1, 0)
    assert shown == {
        "tokens": ["ab", "c", "é "],
        "token_logprobs": [0.0, -1.0, -2.0],
        "top_logprobs": [{"ab": -1.0}, {"c": -1.0}, {"é ": -1.0}],
        "text_offset": [0, 2, 3],
    }
    assert offset == 5


def test_legacy_logprobs_of_zero_alternatives_have_none() -> None:
    shown, _ = legacy_logprobs(logprobs("a"), 0, 0)
    assert shown is not None
    assert shown["top_logprobs"] is None


def test_text_offsets_go_on_from_piece_to_piece() -> None:
    _, offset = legacy_logprobs(logprobs("abc"), 1, 0)
    shown, offset = legacy_logprobs(logprobs("d", "e"), 1, offset)
    assert shown is not None
    assert shown["text_offset"] == [3, 4]
    assert legacy_logprobs(ReplicaLogprobs(), 1, offset) == (None, 5)


def test_an_openai_completion_is_read() -> None:
    answer = decode_completion(
        b'{"choices":[{"text":"a","index":0,"finish_reason":"length"}],'
        b'"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}'
    )
    assert answer.choices[0].text == "a"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 3


@pytest.mark.parametrize(
    ("stop_type", "reason"), [("limit", "length"), ("eos", "stop"), ("word", "stop")]
)
def test_an_infill_answer_is_read(stop_type: str, reason: str) -> None:
    answer = decode_completion(
        b'{"content":"a","stop":true,"stop_type":"%b","tokens_evaluated":5,"tokens_predicted":2}'
        % stop_type.encode()
    )
    assert answer.choices[0].text == "a"
    assert answer.choices[0].finish_reason == reason
    assert answer.usage is not None
    assert answer.usage.total_tokens == 7


def test_a_piece_of_an_infill_answer_has_no_reason_yet() -> None:
    answer = decode_completion(b'{"content":"a","stop":false}')
    assert answer.choices[0].finish_reason is None
    assert answer.usage is None


def test_defaults_are_those_of_the_api_and_what_is_given_wins() -> None:
    assert sampling_fields(InferenceRequest(model="m", prompt="p")) == DEFAULTS
    request = InferenceRequest(model="m", prompt="p", temperature=0.0, top_k=0, stop=["x"], seed=1)
    assert sampling_fields(request) == {
        "temperature": 0.0,
        "top_p": DEFAULTS["top_p"],
        "top_k": 0,
        "stop": ["x"],
    }


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 2, 2**32 - 1, 2**32, 2**63 - 1])
def test_seeds_fit_the_engine_and_differ_between_choices(seed: int) -> None:
    seeds = [seed_of(seed, choice) for choice in range(4)]
    assert len(set(seeds)) == 4
    assert all(0 <= one < 2**32 - 1 for one in seeds)
