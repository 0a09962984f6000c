"""Legacy completions and embeddings through the official SDK."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import Any

import gguf
import pytest
from openai import BadRequestError, NotFoundError, OpenAI
from openai.types import Completion

from inferno.engines import bundled
from tests.acceptance.platform import MODEL, Platform

PROMPT = "Once upon a time"


@pytest.fixture(scope="module")
def client(platform: Platform) -> Iterator[OpenAI]:
    with platform.openai() as client:
        yield client


def complete(client: OpenAI, **fields: Any) -> Completion:
    fields = {"prompt": PROMPT, "temperature": 0, "max_tokens": 8, **fields}
    answer = client.completions.create(model=MODEL, **fields)
    assert isinstance(answer, Completion)
    return answer


def stream(client: OpenAI, **fields: Any) -> list[Completion]:
    fields = {"prompt": PROMPT, "temperature": 0, "max_tokens": 8, **fields}
    return list(client.completions.create(model=MODEL, stream=True, **fields))


def text_of(chunks: list[Completion], index: int = 0) -> str:
    return "".join(c.text for chunk in chunks for c in chunk.choices if c.index == index)


def test_a_completion_has_its_shape(client: OpenAI) -> None:
    answer = complete(client)
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert answer.model == MODEL
    (choice,) = answer.choices
    assert choice.text
    assert choice.index == 0
    assert choice.finish_reason == "length"
    assert choice.logprobs is None
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 8


@pytest.mark.parametrize("with_usage", [False, True])
def test_a_stream_says_the_same(client: OpenAI, with_usage: bool) -> None:
    whole = complete(client)
    options: Any = {"include_usage": with_usage}
    chunks = stream(client, stream_options=options)
    assert len({(chunk.id, chunk.object, chunk.model, chunk.created) for chunk in chunks}) == 1
    assert text_of(chunks) == whole.choices[0].text
    if with_usage:
        last = chunks.pop()
        assert last.choices == []
        assert last.usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks)
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert set(reasons[:-1]) == {None}
    assert reasons[-1] == "length"


@pytest.mark.parametrize("n", [1, 3])
def test_prompts_and_choices_are_numbered(client: OpenAI, n: int) -> None:
    prompts = ["What is the capital of France?", PROMPT]
    singly = [complete(client, prompt=prompt) for prompt in prompts]
    answer = complete(client, prompt=prompts, n=n)
    assert [choice.index for choice in answer.choices] == list(range(2 * n))
    for choice in answer.choices:
        assert choice.text == singly[choice.index // n].choices[0].text
    assert answer.usage is not None
    usages = [one.usage for one in singly if one.usage is not None]
    assert answer.usage.prompt_tokens == sum(usage.prompt_tokens for usage in usages)
    assert answer.usage.completion_tokens == n * sum(usage.completion_tokens for usage in usages)

    options: Any = {"include_usage": True}
    chunks = stream(client, prompt=prompts, n=n, stream_options=options)
    assert chunks[-1].usage == answer.usage
    for choice in answer.choices:
        assert text_of(chunks, choice.index) == choice.text


def test_echo_puts_the_prompt_first(client: OpenAI) -> None:
    plain = complete(client).choices[0].text
    assert complete(client, echo=True).choices[0].text == PROMPT + plain
    assert text_of(stream(client, echo=True)) == PROMPT + plain
    both = complete(client, echo=True, prompt=[PROMPT, "a"])
    assert both.choices[0].text == PROMPT + plain
    assert both.choices[1].text.startswith("a")


def test_legacy_logprobs_fit_the_text(client: OpenAI) -> None:
    choice = complete(client, logprobs=3).choices[0]
    given = choice.logprobs
    assert given is not None
    assert given.tokens is not None
    assert given.text_offset is not None
    assert given.token_logprobs is not None
    assert given.top_logprobs is not None
    assert len(given.tokens) == 8
    assert "".join(given.tokens) == choice.text
    for token, offset in zip(given.tokens, given.text_offset, strict=True):
        assert choice.text[offset : offset + len(token)] == token
    for token, value, top in zip(
        given.tokens, given.token_logprobs, given.top_logprobs, strict=True
    ):
        assert value <= 0
        assert 1 <= len(top) <= 3
        assert token in top


def test_legacy_logprobs_of_zero_give_the_chosen_only(client: OpenAI) -> None:
    given = complete(client, logprobs=0).choices[0].logprobs
    assert given is not None
    assert given.token_logprobs is not None
    assert len(given.token_logprobs) == 8
    assert not given.top_logprobs


def test_streamed_offsets_go_on(client: OpenAI) -> None:
    whole = complete(client, logprobs=1).choices[0].logprobs
    pieces = [c.choices[0].logprobs for c in stream(client, logprobs=1) if c.choices]
    offsets = [offset for piece in pieces if piece for offset in piece.text_offset or []]
    assert whole is not None
    assert offsets == whole.text_offset


def test_token_ids_are_a_prompt(client: OpenAI) -> None:
    ids = [300, 301, 302]
    answer = complete(client, prompt=ids)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 3
    both = complete(client, prompt=[ids, [300]])
    assert both.choices[0].text == answer.choices[0].text
    assert both.usage is not None
    assert both.usage.prompt_tokens == 4


@pytest.mark.parametrize("prompt", [[], [[]], [-1], [2**31], [2**40], [1, "a"], ["a", 1], ""])
def test_wrong_prompts_are_named(client: OpenAI, prompt: Any) -> None:
    with pytest.raises(BadRequestError) as refused:
        complete(client, prompt=prompt)
    assert refused.value.param in ("prompt", "prompt[0]", "prompt[1]")


def test_token_ids_outside_the_vocabulary_are_refused(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as refused:
        complete(client, prompt=[10_000_000])
    assert "token" in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"best_of": 2}, "best_of"),
        ({"suffix": "end"}, "suffix"),
        ({"suffix": "end", "prompt": [300]}, "suffix"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"echo": True, "prompt": [300]}, "echo"),
    ],
)
def test_what_the_engine_cannot_do_is_refused_by_name(
    client: OpenAI, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(BadRequestError) as refused:
        complete(client, **fields)
    assert refused.value.param == param
    assert refused.value.code == "unsupported_parameter"


async def test_the_asynchronous_sdk_completes_and_embeds(platform: Platform) -> None:
    async with platform.async_openai() as client:
        answers, embedded = await asyncio.gather(
            client.completions.create(
                model=MODEL, prompt=PROMPT, temperature=0, max_tokens=4, stream=True
            ),
            client.embeddings.create(model=MODEL, input="Hello"),
        )
        text = "".join([chunk.choices[0].text async for chunk in answers])
    assert text
    assert len(embedded.data[0].embedding) > 1


def test_embeddings_come_as_base64_by_default_and_as_floats(client: OpenAI) -> None:
    texts = ["Hello world", "How are you?"]
    default = client.embeddings.create(model=MODEL, input=texts)
    floats = client.embeddings.create(model=MODEL, input=texts, encoding_format="float")
    assert default.object == "list"
    assert [entry.index for entry in default.data] == [0, 1]
    assert {entry.object for entry in default.data} == {"embedding"}
    for one, other in zip(default.data, floats.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-3)
    assert default.usage.prompt_tokens == default.usage.total_tokens > 0


def test_token_ids_are_embedded(client: OpenAI) -> None:
    ids: Any = [[300, 301], [302]]
    both = client.embeddings.create(model=MODEL, input=ids)
    assert len(both.data) == 2
    assert both.usage.prompt_tokens == 3
    first = client.embeddings.create(model=MODEL, input=ids[0])
    assert first.data[0].embedding == pytest.approx(both.data[0].embedding, abs=1e-3)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": "a", "dimensions": 8}, "dimensions"),
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": []}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
    ],
)
def test_wrong_input_of_embeddings_is_named(
    client: OpenAI, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(BadRequestError) as refused:
        client.embeddings.create(model=MODEL, **fields)
    assert refused.value.param == param


def test_a_text_too_long_to_embed_is_refused_with_both_lengths(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as refused:
        client.embeddings.create(model=MODEL, input="word " * 4000)
    assert refused.value.code == "context_length_exceeded"
    lengths = [int(number) for number in re.findall(r"\d+", refused.value.message)]
    assert any(4000 <= length <= 8100 for length in lengths)
    assert any(length < 4000 for length in lengths)


def test_a_text_longer_than_a_batch_is_embedded_or_refused_with_both_lengths(
    platform: Platform,
) -> None:
    with platform.http() as http:
        answer = http.post("/v1/embeddings", json={"model": MODEL, "input": "word " * 600})
    if answer.status_code == 200:
        assert answer.json()["usage"]["total_tokens"] > 600
    else:
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "context_length_exceeded"
        assert "512" in answer.json()["error"]["message"]


def test_vectors_do_not_depend_on_company(client: OpenAI) -> None:
    """Texts of different lengths that are embedded together get the vectors they get alone."""
    texts = ["one " * count for count in (1, 2, 3, 5, 8, 13)]
    alone = [client.embeddings.create(model=MODEL, input=text).data[0] for text in texts]
    together = client.embeddings.create(model=MODEL, input=texts).data
    for one, other in zip(alone, together, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-3)


def test_models_are_listed_and_retrieved(client: OpenAI) -> None:
    (model,) = [model for model in client.models.list() if model.id == MODEL]
    assert model.object == "model"
    assert model.owned_by == "local"
    assert model.created > 1_700_000_000
    assert client.models.retrieve(MODEL) == model


def test_an_unknown_model_lists_those_there_are(client: OpenAI) -> None:
    works: list[Callable[[], object]] = [
        lambda: client.models.retrieve("gpt-5"),
        lambda: client.completions.create(model="gpt-5", prompt="a"),
        lambda: client.chat.completions.create(
            model="gpt-5", messages=[{"role": "user", "content": "a"}]
        ),
        lambda: client.embeddings.create(model="gpt-5", input="a"),
        lambda: client.completions.create(model="gpt-5", prompt="a", stream=True),
    ]
    for work in works:
        with pytest.raises(NotFoundError) as refused:
            work()
        assert refused.value.code == "model_not_found"
        assert "gpt-5" in str(refused.value)
        assert MODEL in str(refused.value)


@pytest.fixture(scope="module")
def infilling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with a model that has fill-in-the-middle tokens: ours, three tokens renamed."""
    folder = tmp_path_factory.mktemp("infill")
    models = folder / "models"
    models.mkdir()
    write_infill_model(str(models / "filler.gguf"))
    with Platform(folder / "data", "--models-dir", str(models)) as running:
        yield running


def write_infill_model(path: str) -> None:
    """Copy the bundled model and name three of its tokens as those of fill-in-the-middle."""
    reader = gguf.GGUFReader(bundled.model_path())
    writer = gguf.GGUFWriter(path, "llama")
    for field in reader.fields.values():
        if field.name == "general.architecture" or field.name.startswith("GGUF."):
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind is gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)
    for place, name in enumerate(("prefix", "suffix", "middle")):
        writer.add_uint32(f"tokenizer.ggml.fim_{name[:3]}_token_id", 300 + place)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_suffix_is_honoured_where_the_model_can(infilling: Platform) -> None:
    with infilling.openai() as client:
        fields: Any = {"model": "filler", "prompt": "def f():", "temperature": 0, "max_tokens": 6}
        answers = [
            client.completions.create(suffix=suffix, **fields) for suffix in ("return", "x" * 99)
        ]
        assert answers[0].usage is not None
        assert answers[1].usage is not None
        assert answers[0].usage.completion_tokens == 6
        assert answers[1].usage.prompt_tokens > answers[0].usage.prompt_tokens
        assert answers[0].choices[0].finish_reason == "length"
        options: Any = {"include_usage": True}
        chunks = list(
            client.completions.create(
                suffix="return", stream=True, stream_options=options, **fields
            )
        )
        assert text_of(chunks) == answers[0].choices[0].text
        assert chunks[-1].usage == answers[0].usage
        assert chunks[-2].choices[0].finish_reason == "length"
