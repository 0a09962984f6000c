"""OpenAI's Files and Batch APIs, through the official SDK."""

from __future__ import annotations

import json
from typing import Any, Final

import openai
import pytest
from openai import OpenAI
from openai.types import Batch

from tests.acceptance.batches import BATCH_SECONDS, jsonl, openai_lines
from tests.acceptance.platform import MODEL, Platform, wait_until

CHAT: Final = "/v1/chat/completions"


def upload(client: OpenAI, content: bytes, name: str = "input.jsonl") -> str:
    return client.files.create(file=(name, content), purpose="batch").id


def run(client: OpenAI, content: bytes, endpoint: Any = CHAT, **options: Any) -> Batch:
    """Upload, hand in, and wait for the end."""
    batch = client.batches.create(
        input_file_id=upload(client, content),
        endpoint=endpoint,
        completion_window="24h",
        **options,
    )
    assert batch.status in ("validating", "in_progress", "finalizing", "completed", "failed")
    return wait(client, batch.id)


def wait(client: OpenAI, batch_id: str) -> Batch:
    last: list[Batch] = []

    def has_ended() -> bool:
        last[:] = [client.batches.retrieve(batch_id)]
        return last[0].status in ("completed", "failed", "expired", "cancelled")

    wait_until(has_ended, BATCH_SECONDS, "the batch did not end", lambda: str(last))
    return last[0]


def lines_of(client: OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    content = client.files.content(file_id)
    described = client.files.retrieve(file_id)
    assert described.bytes == len(content.content)
    assert described.purpose == "batch_output"
    return [json.loads(line) for line in content.text.splitlines()]


def test_a_batch_from_file_to_file(platform: Platform) -> None:
    with platform.openai() as client:
        batch = run(client, jsonl(openai_lines(12)), metadata={"team": "search"})
        assert batch.status == "completed"
        assert batch.errors is None
        assert batch.request_counts is not None
        assert batch.request_counts.to_dict() == {"total": 12, "completed": 12, "failed": 0}
        assert batch.error_file_id is None
        assert batch.metadata == {"team": "search"}
        assert batch.object == "batch"
        assert batch.created_at <= (batch.in_progress_at or 0) <= (batch.completed_at or 0)
        assert batch.expires_at == batch.created_at + 24 * 3600
        lines = lines_of(client, batch.output_file_id)
        assert [line["custom_id"] for line in lines] == [f"request-{i}" for i in range(12)]
        for line in lines:
            assert set(line) == {"id", "custom_id", "response", "error"}
            assert line["error"] is None
            assert line["response"]["status_code"] == 200
            assert line["response"]["request_id"]
            assert line["response"]["body"]["object"] == "chat.completion"
        assert len({line["id"] for line in lines}) == 12
        spent = sum(line["response"]["body"]["usage"]["total_tokens"] for line in lines)
        assert batch.usage is not None
        assert batch.usage.total_tokens == spent


def test_failed_requests_go_to_a_file_of_their_own(platform: Platform) -> None:
    lines = openai_lines(4)
    lines[1]["body"]["temperature"] = 77
    lines[3]["body"]["messages"] = []
    with platform.openai() as client:
        batch = run(client, jsonl(lines))
        assert batch.status == "completed"
        assert batch.request_counts is not None
        assert batch.request_counts.to_dict() == {"total": 4, "completed": 2, "failed": 2}
        errors = lines_of(client, batch.error_file_id)
        assert [line["custom_id"] for line in errors] == ["request-1", "request-3"]
        assert errors[0]["response"]["status_code"] == 400
        assert errors[0]["response"]["body"]["error"]["param"] == "temperature"
        assert len(lines_of(client, batch.output_file_id)) == 2


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/v1/completions", {"model": MODEL, "prompt": "Hello", "max_tokens": 3}),
        ("/v1/embeddings", {"model": MODEL, "input": ["one", "two"]}),
    ],
)
def test_other_endpoints(platform: Platform, endpoint: str, body: dict[str, Any]) -> None:
    line = {"custom_id": "a", "method": "POST", "url": endpoint, "body": body}
    with platform.openai() as client:
        batch = run(client, jsonl([line]), endpoint)
        (answer,) = lines_of(client, batch.output_file_id)
        assert answer["response"]["status_code"] == 200
        assert answer["response"]["body"]["usage"]["prompt_tokens"] > 0


def changed(**fields: Any) -> bytes:
    line = openai_lines(1)[0]
    for name, value in fields.items():
        line[name] = value
        if value is None:
            del line[name]
    return jsonl([line])


NESTED = (
    b'{"custom_id": "a", "method": "POST", "url": "%s", "body": ' % CHAT.encode() + b"[" * 99_999
)


@pytest.mark.parametrize(
    ("content", "code", "param", "number"),
    [
        (b"", "empty_file", None, None),
        (b"\n\n", "empty_file", None, None),
        (jsonl(openai_lines(1)) + b"\n{broken\n", "invalid_json_line", None, 3),
        (b"\xff\xfe\n", "invalid_json_line", None, 1),
        (NESTED, "invalid_json_line", None, 1),
        (jsonl(openai_lines(1) * 2), "duplicate_custom_id", "custom_id", 2),
        (changed(url="/v1/embeddings"), "invalid_url", "url", 1),
        (changed(method="GET"), "invalid_method", "method", 1),
        (changed(custom_id=None), "missing_required_parameter", "custom_id", 1),
        (changed(custom_id=7), "invalid_type", "custom_id", 1),
        (changed(body={"messages": []}), "missing_required_parameter", "body.model", 1),
        (changed(body={"model": "nobody"}), "model_not_found", "body.model", 1),
        (changed(body={"model": MODEL, "stream": True}), "unsupported_parameter", "body.stream", 1),
        (b'{"custom_id": "' + b"x" * 3_000_000 + b'"}\n', "line_too_long", None, 1),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_input_that_cannot_be_used(
    platform: Platform, content: bytes, code: str, param: str | None, number: int | None
) -> None:
    with platform.openai() as client:
        batch = run(client, content)
    assert batch.status == "failed"
    assert batch.failed_at is not None
    assert batch.errors is not None
    assert batch.errors.data is not None
    found = [(error.code, error.param, error.line) for error in batch.errors.data]
    assert found == [(code, param, number)]
    assert batch.output_file_id is None


def test_files(platform: Platform) -> None:
    content = jsonl(openai_lines(3))
    with platform.openai() as client:
        file_id = upload(client, content, "../../etc/päss wd.jsonl")
        file = client.files.retrieve(file_id)
        assert file.filename == "päss wd.jsonl"
        assert (file.bytes, file.purpose, file.object) == (len(content), "batch", "file")
        assert client.files.content(file_id).content == content
        assert file_id in [one.id for one in client.files.list(purpose="batch")]
        others = [upload(client, content) for _ in range(3)]
        page = client.files.list(limit=2)
        assert [one.id for one in page.data] == [others[2], others[1]]
        assert page.has_more
        oldest_first = client.files.list(order="asc", after=file_id, limit=100)
        assert [one.id for one in oldest_first.data][:3] == others
        assert client.files.delete(file_id).deleted
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve(file_id)
        with pytest.raises(openai.NotFoundError):
            client.files.content(file_id)


def test_a_large_file_comes_back_as_it_was(platform: Platform) -> None:
    content = bytes(range(256)) * 4096 * 5 + b"end"
    with platform.openai() as client:
        file_id = upload(client, content)
        assert client.files.content(file_id).content == content


def test_a_batch_can_be_cancelled(platform: Platform) -> None:
    with platform.openai() as client:
        lines = openai_lines(200, max_tokens=200)
        batch = client.batches.create(
            input_file_id=upload(client, jsonl(lines)), endpoint=CHAT, completion_window="24h"
        )
        wait_until(
            lambda: (
                (client.batches.retrieve(batch.id).request_counts or batch)
                .to_dict()
                .get("completed")
            ),
            BATCH_SECONDS,
            "nothing was answered",
        )
        assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
        batch = wait(client, batch.id)
        assert batch.status == "cancelled"
        assert batch.cancelled_at is not None
        assert batch.request_counts is not None
        done = lines_of(client, batch.output_file_id)
        assert len(done) == batch.request_counts.completed < 200
        missing = lines_of(client, batch.error_file_id)
        assert {line["error"]["code"] for line in missing} == {"batch_cancelled"}
        assert len(done) + len(missing) == 200
        with pytest.raises(openai.ConflictError):
            client.batches.cancel(run(client, jsonl(openai_lines(1))).id)


def test_batches_are_listed_by_the_page(platform: Platform) -> None:
    with platform.openai() as client:
        made = [run(client, jsonl(openai_lines(1))).id for _ in range(3)]
        page = client.batches.list(limit=2)
        assert [one.id for one in page.data] == [made[2], made[1]]
        after = client.batches.list(limit=1, after=made[1])
        assert [one.id for one in after.data] == [made[0]]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"completion_window": "1h"}, "completion_window"),
        ({"endpoint": "/v1/responses"}, "endpoint"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata"),
    ],
)
def test_what_cannot_be_handed_in_is_named(
    platform: Platform, fields: dict[str, Any], field: str
) -> None:
    with platform.openai() as client:
        given: dict[str, Any] = {
            "input_file_id": upload(client, b"{}"),
            "endpoint": CHAT,
            "completion_window": "24h",
            **fields,
        }
        with pytest.raises(openai.BadRequestError) as refused:
            client.batches.create(**given)
    assert isinstance(refused.value.param, str)
    assert refused.value.param.startswith(field)


def test_files_that_are_not_there(platform: Platform) -> None:
    with platform.openai() as client:
        with pytest.raises(openai.NotFoundError):
            client.batches.create(
                input_file_id="file-nobody", endpoint=CHAT, completion_window="24h"
            )
        with pytest.raises(openai.NotFoundError):
            client.batches.retrieve("batch_nobody")
        with pytest.raises(openai.BadRequestError) as refused:
            client.files.create(file=("a", b"x"), purpose="fine-tune")
        assert refused.value.param == "purpose"


def test_files_expire(platform: Platform) -> None:
    with platform.openai() as client:
        file = client.files.create(
            file=("a.jsonl", b"x"),
            purpose="batch",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
        assert file.expires_at == file.created_at + 3600
        with pytest.raises(openai.BadRequestError):
            client.files.create(
                file=("a.jsonl", b"x"),
                purpose="batch",
                expires_after={"anchor": "created_at", "seconds": 5},
            )


FORM = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"{}", {"Content-Type": "application/json"}),
        (b"hello", {"Content-Type": "multipart/form-data"}),
        (b"hello", FORM),
        (b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc', FORM),
        (b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x--\r\n', FORM),
        (b"--x\r\n" + b"A: " + b"b" * 40_000 + b"\r\n\r\n\r\n--x--\r\n", FORM),
    ],
)
def test_forms_that_are_none(platform: Platform, body: bytes, headers: dict[str, str]) -> None:
    with platform.http() as client:
        answer = client.post("/v1/files", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
