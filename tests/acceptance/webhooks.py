"""What tests of webhooks ask a platform for."""

from __future__ import annotations

from typing import Any

import httpx

from tests.acceptance.access import as_caller
from tests.acceptance.platform import Platform, wait_until

OPEN = {"INFERNO_WEBHOOK_ALLOW": "127.0.0.0/8"}
"""Lets webhooks go to loopback, where the tests' receivers are."""

MANY = {"INFERNO_MAX_WEBHOOKS": "1000"}


def client_of(platform: Platform, key: str | None = None) -> httpx.Client:
    """Return a client with a key, else the admin's."""
    return as_caller(platform, key) if key else platform.http()


def subscribe(
    platform: Platform, url: str, *, key: str | None = None, **fields: Any
) -> dict[str, Any]:
    """Subscribe and return the subscription with its secret."""
    body = {"webhook_url": url, "events": ["batch.complete"], **fields}
    with client_of(platform, key) as client:
        created = client.post("/webhooks", json=body)
    assert created.status_code == 201, created.text
    return dict(created.json())


def send_test(platform: Platform, webhook: dict[str, Any]) -> str:
    """Ask for a test and return the delivery's id."""
    with platform.http() as client:
        sent = client.post(f"/webhooks/{webhook['id']}/test")
    assert sent.status_code == 202, sent.text
    return str(sent.json()["id"])


def delivery(platform: Platform, id_: str) -> dict[str, Any]:
    """Return a delivery with its attempts."""
    with platform.http() as client:
        return dict(client.get(f"/webhooks/deliveries/{id_}").raise_for_status().json())


def settled(platform: Platform, id_: str, status: str) -> dict[str, Any]:
    """Return a delivery once it has a status."""
    wait_until(
        lambda: delivery(platform, id_)["status"] == status,
        20,
        f"the delivery was not {status}",
        lambda: f"{delivery(platform, id_)}\n{platform.log_text()}",
    )
    return delivery(platform, id_)


def tried(platform: Platform, id_: str, times: int = 1) -> dict[str, Any]:
    """Return a delivery once it was tried so often."""
    wait_until(
        lambda: delivery(platform, id_)["attempts"] >= times,
        40,
        f"the delivery was not tried {times} times",
        lambda: f"{delivery(platform, id_)}\n{platform.log_text()}",
    )
    return delivery(platform, id_)
