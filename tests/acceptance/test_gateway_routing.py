"""Names, targets, reach and headers: where the gateway sends a request, and what comes back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import openai
import pytest

from tests.acceptance.access import NO_MODEL, UNLIMITED, as_caller, make_key, make_user
from tests.acceptance.model_servers import Cluster, ModelServer, model_servers, within
from tests.acceptance.platform import Platform

MESSAGES: Any = [{"role": "user", "content": "Hello"}]
SERVED = "x-gateway-destination-endpoint-served"


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform without models of its own."""
    environment = {**NO_MODEL, **UNLIMITED, "INFERNO_PROBE_INTERVAL": "0.3"}
    folder = tmp_path_factory.mktemp("front") / "data"
    with Platform(folder, environment=environment) as running:
        yield running


@pytest.fixture(scope="module")
def cluster(front: Platform) -> Cluster:
    return Cluster(front)


def ask(front: Platform, model: str, **headers: str) -> httpx.Response:
    body = {"model": model, "messages": MESSAGES}
    with front.http() as client:
        return client.post("/v1/chat/completions", json=body, headers=headers)


def test_a_name_of_its_own_is_what_the_client_sees(front: Platform, cluster: Cluster) -> None:
    server = ModelServer("alone", models=["base", "v1"])
    with model_servers(server), front.openai() as client, front.http() as http:
        cluster.pool("alone", server)
        cluster.model("assistant", "alone", targets={"v1": 1})
        answer = client.chat.completions.with_raw_response.create(
            model="assistant", messages=MESSAGES, extra_body={"guided_choice": ["a", "b"]}
        )
        assert answer.parse().model == "assistant"
        assert answer.headers[SERVED] == server.address
        assert server.requests[-1]["model"] == "v1"
        assert server.requests[-1]["guided_choice"] == ["a", "b"]
        assert server.headers[-1]["x-request-id"] == answer.headers["x-request-id"]
        stream = list(
            client.chat.completions.create(model="assistant", messages=MESSAGES, stream=True)
        )
        assert {chunk.model for chunk in stream} == {"assistant"}
        assert all(chunk.choices for chunk in stream), "usage that nobody asked for"
        assert server.requests[-1]["stream_options"] == {"include_usage": True}
        wanted = list(
            client.chat.completions.create(
                model="assistant", messages=MESSAGES, stream=True,
                stream_options={"include_usage": True},
            )
        )  # fmt: skip
        assert wanted[-1].usage is not None
        assert wanted[-1].usage.total_tokens == 11
        completion = client.completions.create(model="assistant", prompt="Hello")
        assert completion.choices[0].text.startswith("alone says")
        native = http.post("/inference", json={"model": "assistant", "prompt": "Hello"})
        assert native.json()["choices"][0]["text"] == "alone one two three"
        assert "return_progress" not in server.requests[-1]
        assert "assistant" in [model.id for model in client.models.list()]
        assert client.models.retrieve("assistant").owned_by == "pool"


def test_weights_share_requests_and_sessions_stay(front: Platform, cluster: Cluster) -> None:
    with model_servers(ModelServer("split", models=["old", "new", "never"])) as (server,):
        cluster.pool("split", server)
        cluster.model("split", "split", targets={"old": 3, "new": 1, "never": 0})
        for _ in range(200):
            assert ask(front, "split").status_code == 200
        counts = Counter(request["model"] for request in server.requests)
        assert counts["never"] == 0
        assert 20 <= counts["new"] <= 85, counts
        server.requests.clear()
        for session in ("ann", "ben", "cid") * 5:
            ask(front, "split", **{"X-Session-ID": session})
        by_session = [request["model"] for request in server.requests]
        assert by_session == by_session[:3] * 5


def test_a_reserved_name_has_no_valid_target(front: Platform, cluster: Cluster) -> None:
    with model_servers(ModelServer("kept")) as (server,):
        cluster.pool("kept", server)
        cluster.model("reserved", "kept", targets={"base": 0})
        answer = ask(front, "reserved")
        assert answer.status_code == 404
        assert "no valid target" in answer.json()["error"]["message"]
        assert answer.json()["error"]["code"] == "no_valid_target"


def test_the_oldest_has_the_name_and_the_next_has_it_after(
    front: Platform, cluster: Cluster
) -> None:
    with model_servers(ModelServer("older"), ModelServer("newer")) as (older, _):
        cluster.pool("names", older)
        cluster.model("wanted", "names", resource="first", targets={"base": 1})
        cluster.model("wanted", "names", resource="second", targets={"v2": 1})
        condition = cluster.condition("InferenceModel", "second", "Accepted")
        assert condition == ("False", "ModelNameInUse")
        ask(front, "wanted")
        assert older.requests[-1]["model"] == "base"
        older.models.append("v2")
        cluster.delete("InferenceModel", "first")
        within(lambda: cluster.condition("InferenceModel", "second", "Accepted")[0] == "True")
        within(
            lambda: ask(front, "wanted").status_code == 200 and older.requests[-1]["model"] == "v2"
        )


def test_a_tenant_reaches_its_own_names_and_the_shared_ones(
    front: Platform, cluster: Cluster
) -> None:
    cluster.create("Namespace", "team-a")
    own = Cluster(front, namespace="team-a")
    make_user(front, "ada", tenant="team-a")
    make_user(front, "bob", tenant="team-b")
    ada, bob = (make_key(front, name).secret for name in ("ada", "bob"))
    with model_servers(ModelServer("shared"), ModelServer("private")) as (shared, private):
        cluster.pool("shared", shared)
        cluster.model("shared-model", "shared", targets={"base": 1})
        cluster.model("both", "shared", targets={"base": 1})
        own.pool("private", private)
        own.model("private-model", "private", targets={"base": 1})
        own.model("both", "private", targets={"base": 1})

        def served(key: str, model: str) -> str | int:
            with as_caller(front, key) as client:
                answer = client.post(
                    "/v1/chat/completions", json={"model": model, "messages": MESSAGES}
                )
            if answer.status_code != 200:
                return answer.status_code
            return str(answer.json()["choices"][0]["message"]["content"].split()[0])

        assert [served(ada, m) for m in ("shared-model", "private-model", "both")] == [
            "shared", "private", "private",
        ]  # fmt: skip
        assert [served(bob, m) for m in ("shared-model", "private-model", "both")] == [
            "shared", 404, "shared",
        ]  # fmt: skip
        with as_caller(front, bob) as client:
            listed = [model["id"] for model in client.get("/v1/models").json()["data"]]
            assert client.get("/v1/models/private-model").status_code == 404
        assert "shared-model" in listed
        assert "private-model" not in listed


def test_hints_choose_among_endpoints_and_never_beyond(front: Platform, cluster: Cluster) -> None:
    with model_servers(ModelServer("left"), ModelServer("right"), ModelServer("out")) as servers:
        left, right, out = servers
        cluster.pool("pair", left, right)
        cluster.model("pair", "pair", targets={"base": 1})
        for _ in range(5):
            hint = {"x-gateway-destination-endpoint-subset": f"{out.address},{right.address}"}
            assert ask(front, "pair", **hint).headers[SERVED] == right.address
        for hint_text in (out.address, "", "nonsense"):
            refused = ask(front, "pair", **{"x-gateway-destination-endpoint-subset": hint_text})
            assert refused.status_code == 503, hint_text
            assert refused.headers["retry-after"]
        assert out.requests == []
        wrong = ask(front, "pair", **{"x-gateway-inference-objective": "nobody"})
        assert wrong.status_code == 400
        assert "nobody" in wrong.json()["error"]["message"]


def test_objectives_hold_for_their_own_pool(front: Platform, cluster: Cluster) -> None:
    cluster.create("Namespace", "pushy")
    own = Cluster(front, namespace="pushy")
    make_user(front, "eve", tenant="pushy")
    eve = make_key(front, "eve").secret
    with model_servers(ModelServer("common"), ModelServer("theirs")) as (common, theirs):
        cluster.pool("common", common)
        cluster.model("common", "common", targets={"base": 1})
        own.pool("common", theirs)
        own.model("pushed", "common", targets={"base": 1})
        own.create("InferenceObjective", "first", {"poolRef": {"name": "common"}, "priority": 1000})
        cluster.create("InferenceObjective", "urgent", {"poolRef": {"name": "common"}})
        cluster.create("InferenceObjective", "other", {"poolRef": {"name": "elsewhere"}})

        def status(model: str, objective: str) -> int:
            headers = {"x-gateway-inference-objective": objective}
            with as_caller(front, eve) as client:
                body = {"model": model, "messages": MESSAGES}
                return client.post("/v1/chat/completions", json=body, headers=headers).status_code

        within(lambda: status("pushed", "first") == 200)
        within(lambda: status("common", "urgent") == 200)
        assert status("common", "first") == 400
        assert status("common", "other") == 400
        assert status("pushed", "urgent") == 400


def test_keys_of_servers_come_from_secrets_and_clients_keys_stay_here(
    front: Platform, cluster: Cluster
) -> None:
    with model_servers(ModelServer("locked")) as (server,):
        cluster.create("Secret", "upstream", stringData={"key": "open sesame\n"})
        label = {"pool": "locked"}
        cluster.create("InferencePool", "locked", {"selector": label, "targetPortNumber": 1})
        reference = {"name": "upstream", "key": "key"}
        cluster.server(server, pool="locked", apiKeySecretRef=reference)
        cluster.model("locked", "locked", targets={"base": 1})
        within(lambda: ask(front, "locked").status_code == 200)
        assert server.headers[-1]["authorization"] == "Bearer open sesame"
        assert all(front.api_key not in str(headers) for headers in server.headers)


def test_llama_cpp_takes_adapters_by_number(front: Platform, cluster: Cluster) -> None:
    server = ModelServer("llama", owner="llamacpp", slots=2, adapters=["poet", "lawyer"])
    with model_servers(server):
        cluster.pool("llama", server)
        cluster.model("advice", "llama", targets={"lawyer": 1})
        cluster.model("plain", "llama", targets={"base": 1})
        assert ask(front, "advice").json()["model"] == "advice"
        assert server.requests[-1]["lora"] == [{"id": 1, "scale": 1.0}]
        assert ask(front, "plain").status_code == 200
        assert server.requests[-1]["lora"] == [{"id": 0, "scale": 0.0}]


def test_what_the_server_refuses_is_the_clients_to_know(front: Platform, cluster: Cluster) -> None:
    with model_servers(ModelServer("strict")) as (server,), ExitStack() as stack:
        cluster.pool("strict", server)
        cluster.model("strict", "strict", targets={"base": 1})
        client = stack.enter_context(front.openai())
        for body, field in (
            ({"messages": MESSAGES}, "model"),
            ({"model": "strict", "messages": MESSAGES, "max_tokens": -1}, "max_tokens"),
        ):
            with pytest.raises(openai.BadRequestError, match=field):
                client.post("/chat/completions", body=body, cast_to=object)


def test_routes_survive_a_restart(start: Callable[..., Platform]) -> None:
    environment = {**NO_MODEL, **UNLIMITED}
    with model_servers(ModelServer("lasting")) as (server,):
        platform = start(environment=environment)
        cluster = Cluster(platform)
        cluster.pool("lasting", server)
        cluster.model("lasting", "lasting", targets={"base": 1})
        platform.kill()
        (platform.data_dir / "run.json").unlink()
        again = start(environment=environment)
        within(lambda: ask(again, "lasting").status_code == 200)


@pytest.mark.parametrize("second", ['"model"', '"mod\\u0065l"'])
def test_a_model_that_is_named_twice_is_forwarded_once(
    front: Platform, cluster: Cluster, second: str
) -> None:
    name = f"twice{len(second)}"
    with model_servers(ModelServer(name)) as (server,):
        cluster.pool(name, server)
        cluster.model(name, name, targets={name: 1})
        server.models.append(name)
        messages = '[{"role":"user","content":"Hello"}]'
        body = f'{{"model":"other",{second}:"{name}","messages":{messages}}}'
        with front.http() as client:
            within(lambda: ask(front, name).is_success)
            answer = client.post("/v1/chat/completions", content=body)
        assert answer.status_code == 200
        assert server.bodies[-1].count("model") == 1
        assert server.requests[-1]["model"] == name
