"""Webhooks of one tenant are not there for another, and not everybody may have some."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.acceptance.access import NO_MODEL, Key, as_caller, make_key, make_user
from tests.acceptance.platform import Platform
from tests.acceptance.receiver import Receiver
from tests.acceptance.webhooks import OPEN, subscribe


@dataclass(frozen=True)
class Shared:
    """A platform with a caller in each of two tenants, and a second one in the first."""

    platform: Platform
    red: Key
    other_red: Key
    blue: Key


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    data = tmp_path_factory.mktemp("shared") / "data"
    with Platform(data, environment={**NO_MODEL, **OPEN, "INFERNO_MAX_WEBHOOKS": "3"}) as running:
        keys = []
        for name, tenant in (("red", "red"), ("crimson", "red"), ("blue", "blue")):
            make_user(running, name, tenant=tenant)
            keys.append(make_key(running, name))
        yield Shared(running, *keys)


def test_another_tenants_webhooks_are_not_there(shared: Shared) -> None:
    with Receiver() as receiver:
        webhook = subscribe(shared.platform, receiver.url(), key=shared.red.secret)
        with as_caller(shared.platform, shared.red.secret) as red:
            delivery = red.post(f"/webhooks/{webhook['id']}/test").json()["id"]
            receiver.wait()
        paths = [
            ("GET", f"/webhooks/{webhook['id']}"),
            ("PATCH", f"/webhooks/{webhook['id']}"),
            ("DELETE", f"/webhooks/{webhook['id']}"),
            ("POST", f"/webhooks/{webhook['id']}/rotate"),
            ("POST", f"/webhooks/{webhook['id']}/test"),
            ("GET", f"/webhooks/{webhook['id']}/deliveries"),
            ("GET", f"/webhooks/deliveries/{delivery}"),
            ("POST", f"/webhooks/deliveries/{delivery}/resend"),
        ]
        for caller in (shared.blue.secret, shared.platform.api_key):
            with as_caller(shared.platform, caller) as stranger:
                for method, path in paths:
                    body = {"enabled": False} if method == "PATCH" else None
                    refused = stranger.request(method, path, json=body)
                    assert refused.status_code == 404, (method, path)
                    # As for an id that was made up.
                    made_up = path.replace(webhook["id"], "wh_0").replace(delivery, "msg_0")
                    unknown = stranger.request(method, made_up, json=body)
                    assert unknown.json()["error"] == refused.json()["error"]
                assert stranger.get("/webhooks").json()["webhooks"] == []
                assert stranger.get("/webhooks/deliveries").json()["deliveries"] == []
        assert len(receiver.received) == 1
        with as_caller(shared.platform, shared.other_red.secret) as colleague:
            listed = colleague.get("/webhooks").json()["webhooks"]
            assert [one["id"] for one in listed] == [webhook["id"]]
            assert colleague.delete(f"/webhooks/{webhook['id']}").status_code == 200


def test_tenants_have_secrets_of_their_own(shared: Shared) -> None:
    found = []
    for key in (shared.red, shared.other_red, shared.blue):
        with as_caller(shared.platform, key.secret) as caller:
            answer = caller.get("/webhooks/secret").raise_for_status()
            assert answer.headers["cache-control"] == "no-store"
            found.append(answer.json()["secret"])
    assert found[0] == found[1] != found[2]


def test_a_tenant_has_no_more_than_it_may(shared: Shared) -> None:
    made = [
        subscribe(shared.platform, "https://example.com/x", key=shared.blue.secret)
        for _ in range(3)
    ]
    with as_caller(shared.platform, shared.blue.secret) as blue:
        body = {"webhook_url": "https://example.com/x", "events": ["batch.complete"]}
        refused = blue.post("/webhooks", json=body)
        assert refused.status_code == 409
        assert refused.json()["error"]["details"] == {"max_webhooks": 3}
        for webhook in made:
            blue.delete(f"/webhooks/{webhook['id']}").raise_for_status()


def test_webhooks_need_permissions(shared: Shared) -> None:
    guest = make_key(shared.platform, make_user(shared.platform, "guest", role="guest")["id"])
    with as_caller(shared.platform, guest.secret) as caller:
        assert caller.get("/webhooks").status_code == 403
    narrow = make_key(shared.platform, "red", permissions=["run_inference"])
    with as_caller(shared.platform, narrow.secret) as caller:
        body = {"webhook_url": "https://example.com/x", "events": ["model.loaded"]}
        refused = caller.post("/webhooks", json=body)
        assert refused.status_code == 403
        assert "read_models" in refused.json()["error"]["message"]
    with as_caller(shared.platform, None) as nobody:
        assert nobody.get("/webhooks").status_code == 401
        assert nobody.post("/v1/webhooks", json={}).status_code == 401


def test_acts_are_in_the_audit_trail(shared: Shared) -> None:
    webhook = subscribe(shared.platform, "https://example.com/x", key=shared.red.secret)
    with as_caller(shared.platform, shared.red.secret) as red:
        red.delete(f"/webhooks/{webhook['id']}").raise_for_status()
    with shared.platform.http() as admin:
        events = admin.get("/audit", params={"action": "webhook."}).json()["events"]
    mine = [one["action"] for one in events if one["target"] == f"webhook:{webhook['id']}"]
    assert mine == ["webhook.delete", "webhook.create"]
