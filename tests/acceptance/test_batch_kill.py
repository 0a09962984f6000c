"""What was answered with a batch's id is finished, whatever ends the process."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tests.acceptance.batches import check_exactly_once, entries, hand_in, killed_over
from tests.acceptance.platform import Platform

Start = Callable[..., Platform]


def test_nothing_is_lost_or_doubled(start: Start) -> None:
    """In full length (1,000 requests, 20 kills): `python -m benchmarks.batches --kills 20`."""
    platform = start()
    requests = entries(120)
    with platform.http() as client:
        batch_id = hand_in(client, requests, max_tokens=48)
    killed_over(platform, batch_id, kills=3, total=len(requests), say=print)
    with platform.http() as client:
        check_exactly_once(client, batch_id, [one["id"] for one in requests])
    assert platform.stop() == 0
    assert "Traceback" not in platform.log_text()


def test_killed_as_soon_as_it_is_answered(start: Start) -> None:
    platform = start()
    requests = entries(30)
    with platform.http() as client:
        batch_id = hand_in(client, requests)
    platform.kill()
    (platform.data_dir / "run.json").unlink(missing_ok=True)
    platform.start()
    with platform.http() as client:
        check_exactly_once(client, batch_id, [one["id"] for one in requests])


def test_killed_while_it_is_handed_in(start: Start) -> None:
    """Nobody was told an id, so nobody sees it; handed in again under its key, it is one batch."""
    platform = start()
    requests = entries(3000)
    outcome: list[str] = []

    def send() -> None:
        with platform.http() as client:
            try:
                headers = {"Idempotency-Key": "mine"}
                body = {"model": "inferno-tiny", "requests": requests, "max_tokens": 1}
                outcome.append(client.post("/batch", json=body, headers=headers).text)
            except Exception as error:
                outcome.append(type(error).__name__)

    sending = threading.Thread(target=send)
    sending.start()
    sending.join(0.05)
    platform.kill()
    sending.join()
    (platform.data_dir / "run.json").unlink(missing_ok=True)
    platform.start()
    with platform.http() as client:
        before = [one["batch_id"] for one in client.get("/batch").json()["batches"]]
        assert len(before) == outcome[0].count('"batch_id"')
        body = {"model": "inferno-tiny", "requests": requests[:20], "max_tokens": 1}
        headers = {"Idempotency-Key": "mine"}
        answers = [client.post("/batch", json=body, headers=headers).json() for _ in range(2)]
        assert answers[0]["batch_id"] == answers[1]["batch_id"]
        after = [one["batch_id"] for one in client.get("/batch").json()["batches"]]
        assert after == (before or [answers[0]["batch_id"]])
