"""What a registry may answer to a platform that announces itself."""

from __future__ import annotations

import pytest

from inferno.registry.remote import Away, Refused, RemoteRegistry
from tests.unit.client.scripted import Reply, scripted

NAME = "inference_server_name"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(503, {"success": False, "error": "busy"}, {"retry-after": "7"}), Away("busy")),
        (Reply(429, {"success": False, "error": "slower"}, {"retry-after": "9"}), Away("slower")),
        (Reply(502, b"<html>"), Away("It answered 502, as no registry does.")),
        (Reply(200, b" " * 2_000_000), Away("its answer is larger than that of any registry")),
        (Reply(0), Away("Server disconnected without sending a response.")),
        (Reply(200, b"<html>"), Refused(200, "It answered 200, as no registry does.")),
        (Reply(301, b""), Refused(301, "It answered 301, as no registry does.")),
        (
            Reply(409, {"success": False, "error": "taken", "details": {"field": NAME}}),
            Refused(409, "taken", NAME),
        ),
        (Reply(403, {"error": ["odd"]}), Refused(403, "It answered 403, as no registry does.")),
    ],
)
async def test_what_a_registry_may_answer(reply: Reply, expected: Away | Refused) -> None:
    with scripted([reply]) as heard:
        remote = RemoteRegistry(heard.url, lambda: "secret")
        with pytest.raises(type(expected)) as caught:
            await remote.beat("a/b")
        await remote.close()
    assert str(caught.value) == str(expected)
    if isinstance(caught.value, Away):
        assert caught.value.wait == float(reply.headers.get("retry-after", 0))
    if isinstance(expected, Refused):
        assert isinstance(caught.value, Refused)
        assert (caught.value.status, caught.value.field) == (expected.status, expected.field)
    assert heard.paths == ["POST /inference_server/a%2Fb/heartbeat"]
    assert heard.requests[0][2]["authorization"] == "Bearer secret"
