"""Batches as callers hand them in, and platforms that are killed over them."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx

from tests.acceptance.platform import MODEL, Platform, wait_until

BATCH_SECONDS = 120.0


def entries(count: int, **fields: Any) -> list[dict[str, Any]]:
    """Return so many requests of a native batch."""
    return [{"id": f"request-{i}", "prompt": f"Question {i}", **fields} for i in range(count)]


def openai_lines(count: int, **body: Any) -> list[dict[str, Any]]:
    """Return so many requests of a batch in OpenAI's format."""
    return [
        {
            "custom_id": f"request-{i}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": MODEL,
                "messages": [{"role": "user", "content": f"What is {i} plus 2?"}],
                "max_tokens": 4,
                **body,
            },
        }
        for i in range(count)
    ]


def jsonl(lines: list[dict[str, Any]]) -> bytes:
    """Return JSON lines."""
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def hand_in(client: httpx.Client, requests: list[dict[str, Any]], **fields: Any) -> str:
    """Hand in a batch and return its id."""
    body = {"model": MODEL, "requests": requests, "max_tokens": 4, **fields}
    answer = client.post("/batch", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["batch_id"])


def status(client: httpx.Client, batch_id: str) -> dict[str, Any]:
    """Return how a batch stands."""
    answer = client.get(f"/batch/{batch_id}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ended(client: httpx.Client, batch_id: str, *, seconds: float = BATCH_SECONDS) -> dict[str, Any]:
    """Wait for a batch to end and return how it stands."""
    found: dict[str, Any] = {}

    def has_ended() -> bool:
        found.update(status(client, batch_id))
        return found["status"] not in ("processing", "cancelling")

    wait_until(has_ended, seconds, "the batch did not end", lambda: str(found))
    return found


def results(client: httpx.Client, batch_id: str) -> list[dict[str, Any]]:
    """Return the results of a batch."""
    answer = client.get(f"/batch/{batch_id}/results")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["results"])


def killed_over(
    platform: Platform, batch_id: str, *, kills: int, total: int, say: Callable[[str], None]
) -> None:
    """Kill a platform again and again while it works on a batch, and start it anew each time.

    The kills are spread over the batch: each comes once a share of it has been answered since the
    last one.
    """
    for kill in range(1, kills + 1):
        enough = total * kill // (kills + 1)
        with platform.http() as client:
            wait_until(
                lambda enough=enough, client=client: (  # type: ignore[misc]
                    status(client, batch_id)["completed"] >= enough
                ),
                BATCH_SECONDS,
                f"{enough} requests were not answered",
                platform.log_text,
            )
        platform.kill()
        (platform.data_dir / "run.json").unlink(missing_ok=True)
        begun = time.monotonic()
        platform.start()
        with platform.http() as client:
            done = status(client, batch_id)["completed"]
        say(
            f"kill {kill}: {done} of {total} answered, up again in {time.monotonic() - begun:.1f} s"
        )


def check_exactly_once(client: httpx.Client, batch_id: str, wanted: list[str]) -> None:
    """Check that each request has one result, in the order of the input, and the counts agree."""
    stands = ended(client, batch_id)
    ids = [result["id"] for result in results(client, batch_id)]
    assert [one for one, times in Counter(ids).items() if times > 1] == []
    assert ids == wanted
    assert stands["status"] == "completed"
    assert (stands["completed"], stands["failed"], stands["total"]) == (len(ids), 0, len(ids))
