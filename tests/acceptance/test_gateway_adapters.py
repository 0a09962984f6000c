"""LoRA adapters of replicas of ours: each is a model of its own, and none changes the base."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from inferno.engines.bundled import model_path
from tests.acceptance.access import as_caller, make_key, make_user
from tests.acceptance.adapters import write_adapter
from tests.acceptance.batches import ended, hand_in, results
from tests.acceptance.model_servers import Cluster, ModelServer, model_servers
from tests.acceptance.platform import Platform, wait_until

PROMPT = "The capital of France is Paris. " * 8 + "The capital of France is"
BASE = "speaker"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    write_adapter(folder / "one.gguf", seed=1)
    write_adapter(folder / "two.gguf", seed=2)
    write_adapter(folder / "foreign.gguf", seed=3, renamed="x")
    return folder


@pytest.fixture(scope="module")
def front(platform: Platform, files: Path) -> Iterator[Platform]:
    """A platform with a model that has adapters, two of which cannot be loaded."""
    cluster = Cluster(platform)
    adapters = [adapter(files, name) for name in ("one", "foreign", "missing", "two")]
    cluster.create("InferenceService", BASE, served(adapters), metadata={"labels": {"a": "b"}})
    yield platform
    cluster.delete("InferenceService", BASE)


@pytest.fixture(scope="module")
def cluster(front: Platform) -> Cluster:
    return Cluster(front)


def adapter(files: Path, name: str) -> dict[str, str]:
    return {"name": name, "uri": (files / f"{name}.gguf").as_uri()}


def served(adapters: list[dict[str, str]], **more: Any) -> dict[str, Any]:
    model = {"storageUri": model_path().as_uri(), "lora": {"adapters": adapters}, **more}
    return {"predictor": {"replicas": 1, "model": model}}


def ask(front: Platform, model: str, prompt: str = PROMPT) -> httpx.Response:
    body = {"model": model, "prompt": prompt, "max_tokens": 6, "temperature": 0}
    with front.http() as client:
        return client.post("/v1/completions", json=body)


def said(front: Platform, model: str, prompt: str = PROMPT) -> str:
    answer = ask(front, model, prompt)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == model
    return str(answer.json()["choices"][0]["text"])


def test_an_adapter_changes_what_its_model_says_and_nothing_else(front: Platform) -> None:
    """The prompt is the same each time: nobody goes on from what an adapter has read of it."""
    base = said(front, BASE)
    assert "Paris" in base
    one, two = said(front, "one"), said(front, "two")
    assert len({base, one, two}) == 3
    other = PROMPT.replace("France", "Italy").replace("Paris", "Rome")
    for _ in range(2):
        assert said(front, BASE) == base
        assert said(front, "one", other) != base
        assert said(front, BASE) == base
        assert said(front, "two") not in (base, one)
    assert "Rome" in said(front, BASE, other)


def test_adapters_that_are_asked_for_at_once_do_not_mix(front: Platform) -> None:
    names = [BASE, "one", "two"] * 6
    with ThreadPoolExecutor(len(names)) as pool:
        answers = list(pool.map(lambda name: said(front, name), names))
    for name, answer in zip(names, answers, strict=True):
        assert ("Paris" in answer) == (name == BASE), (name, answer)


def test_every_way_of_asking_has_adapters(front: Platform) -> None:
    body = {"prompt": PROMPT, "max_tokens": 6, "temperature": 0}
    with front.http() as client, front.openai() as openai:
        base, one = (
            client.post("/inference", json={"model": name, **body}).json()["choices"][0]["text"]
            for name in (BASE, "one")
        )
        assert "Paris" in base
        assert "Paris" not in one
        chunks = openai.completions.create(
            model="one", prompt=PROMPT, max_tokens=6, temperature=0, stream=True
        )
        said_in_pieces = list(chunks)
        assert {chunk.model for chunk in said_in_pieces} == {"one"}
        assert "Paris" not in "".join(c.choices[0].text for c in said_in_pieces if c.choices)
        chosen = {**body, "model": BASE, "lora": [{"id": 0, "scale": 1.0}]}
        answer = client.post("/v1/completions", json=chosen)
        assert answer.status_code == 400 or "Paris" in answer.json()["choices"][0]["text"]
        requests = [{"id": name, "prompt": PROMPT, "model": name} for name in (BASE, "two")]
        batch = hand_in(client, requests, model=BASE, max_tokens=6, temperature=0)
        ended(client, batch)
        found = {entry["id"]: entry["choices"][0]["text"] for entry in results(client, batch)}
        assert "Paris" in found[BASE]
        assert "Paris" not in found["two"]


@pytest.mark.parametrize("name", ["one", BASE])
def test_a_chat_answer_names_the_model_that_was_asked_for(front: Platform, name: str) -> None:
    """Replicas name their own model, whichever adapter answered."""
    asked: Any = {
        "model": name,
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 2,
    }
    with front.openai() as openai:
        create = openai.chat.completions.create
        assert create(**asked).model == name
        assert create(**asked, n=2).model == name
        assert {chunk.model for chunk in create(**asked, stream=True)} == {name}
        assert {chunk.model for chunk in create(**asked, n=2, stream=True)} == {name}


def test_an_adapter_is_listed_as_a_model_of_its_own(front: Platform) -> None:
    said(front, BASE)
    with front.http() as client:
        listed = {one["id"]: one for one in client.get("/v1/models").json()["data"]}
        assert listed["one"]["parent"] == BASE
        assert "parent" not in listed[BASE]
        assert client.get("/v1/models/two").json() == listed["two"]
        shown = client.get(f"/models/{BASE}").json()
        assert shown["adapters"] == ["one", "foreign", "missing", "two"]
        found = client.get("/models/one").json()
        assert (found["parent"], found["loaded"]) == (BASE, True)
        assert "reason" not in found
        assert client.get("/models/nobody").status_code == 404
        for what in ("load", "unload"):
            refused = client.post(f"/models/one/{what}")
            assert refused.status_code == 400
            assert f"comes and goes with '{BASE}'" in refused.text
        refused = client.post("/v1/embeddings", json={"model": "one", "input": "hello"})
        assert refused.status_code == 400
        assert "LoRA adapter" in refused.text
        assert client.post("/v1/embeddings", json={"model": BASE, "input": "a"}).status_code == 200


def test_an_adapter_that_cannot_be_loaded_is_left_out_and_says_why(
    front: Platform, cluster: Cluster, files: Path
) -> None:
    assert said(front, BASE)
    for name, why in (("foreign", "does not fit the model"), ("missing", "does not exist")):
        refused = ask(front, name)
        assert refused.status_code == 503
        assert why in refused.text
        assert str(files) not in refused.text
        with front.http() as client:
            shown = client.get(f"/models/{name}").json()
        assert (shown["status"], shown["reason"]) == ("failed", "AdapterUnusable")
        assert why in shown["message"]
    wait_until(
        lambda: cluster.get("InferenceService", BASE)["status"].get("reason") == "AdapterUnusable",
        20,
        "the service's status does not say so",
    )
    assert cluster.condition("InferenceService", BASE, "Ready")[0] == "True"


def test_adapters_are_targets_of_a_pool_beside_servers_of_others(
    front: Platform, cluster: Cluster
) -> None:
    """A target goes only where it is to be had: to the replica, or to the server of others."""
    server = ModelServer("elsewhere", models=["theirs"])
    with model_servers(server):
        cluster.create("InferencePool", "mixed", {"selector": {"a": "b"}, "targetPortNumber": 8000})
        cluster.create(
            "ModelServer",
            server.name,
            {"address": "127.0.0.1", "port": server.port},
            metadata={"labels": {"a": "b"}},
        )
        wait_until(
            lambda: cluster.condition("ModelServer", server.name, "Ready")[0] == "True",
            20,
            "the server was not ready",
        )
        for name, target in (
            ("ours", BASE), ("adapted", "one"), ("others", "theirs"), ("none", "nobody")
        ):  # fmt: skip
            cluster.model(name, "mixed", targets={target: 1})
        for _ in range(3):
            assert "Paris" in said(front, "ours")
            assert "Paris" not in said(front, "adapted")
        with front.openai() as openai:
            assert openai.embeddings.create(model="ours", input="a").model == "ours"
        assert not server.requests
        assert ask(front, "others").status_code == 200
        assert server.requests[-1]["model"] == "theirs"
        refused = ask(front, "none")
        assert refused.status_code == 503
        assert "has model 'nobody'" in refused.text
        assert len(server.requests) == 1
        with front.http() as client:
            client.post(f"/models/{BASE}/unload").raise_for_status()
            assert ask(front, "others").status_code == 200
            assert not client.get(f"/models/{BASE}").json()["loaded"]
            assert "Paris" not in said(front, "adapted"), "its model is loaded for it"
            assert client.get(f"/models/{BASE}").json()["loaded"]
        assert len(server.requests) == 2
        for name in ("ours", "adapted", "others", "none"):
            cluster.delete("InferenceModel", name)
        cluster.delete("ModelServer", server.name)
        cluster.delete("InferencePool", "mixed")


def test_what_is_wrong_with_a_list_of_adapters_is_named(front: Platform, files: Path) -> None:
    url = f"{front.management_url}/k8s/apis/serving.kserve.io/v1beta1/namespaces/default/"
    adapters = [
        {"name": "a b", "uri": "file:///a"},
        {"name": "wrong", "uri": "file:///a"},
        {"name": "c", "uri": "http://example.com/a"},
        {"name": "c", "uri": "file:///../a"},
    ]
    body = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "wrong"},
        "spec": served(adapters),
    }
    headers = {"authorization": f"Bearer {front.api_key}"}
    refused = httpx.post(f"{url}inferenceservices", json=body, headers=headers, timeout=30)
    assert refused.status_code == 422
    path = "spec.predictor.model.lora.adapters"
    fields = {one["field"] for one in refused.json()["details"]["causes"]}
    assert fields == {f"{path}[0].name", f"{path}[1].name", f"{path}[2].uri", f"{path}[3].name"}


def test_only_admins_name_adapter_files(front: Platform, files: Path) -> None:
    make_user(front, "adapted-service", role="service", tenant="adapted")
    key = make_key(front, "adapted-service")
    path = "/k8s/apis/serving.kserve.io/v1beta1/namespaces/adapted/inferenceservices"
    merge = {"content-type": "application/merge-patch+json"}
    with as_caller(front, front.api_key, management=True) as admin:
        admin.post("/k8s/api/v1/namespaces", json={"metadata": {"name": "adapted"}})
        spec = served([adapter(files, "one")])
        spec["predictor"]["replicas"] = 0
        made = admin.post(path, json={"metadata": {"name": "theirs"}, "spec": spec})
        assert made.status_code == 201, made.text
    with as_caller(front, key.secret, management=True) as service:
        for adapters, status in (
            ([adapter(files, "one"), adapter(files, "two")], 403),
            ([{"name": "other", "uri": adapter(files, "one")["uri"]}], 200),
            ([], 200),
            ([adapter(files, "one")], 403),
        ):
            change = {"spec": {"predictor": {"model": {"lora": {"adapters": adapters}}}}}
            answer = service.patch(f"{path}/theirs", content=json.dumps(change), headers=merge)
            assert answer.status_code == status, answer.text
            if adapters and status == 200:
                with as_caller(front, key.secret) as own, front.http() as others:
                    wait_until(
                        lambda: own.get("/v1/models/other").status_code == 200, 20, "not listed"
                    )
                    assert others.get("/v1/models/other").status_code == 404
                    assert others.get("/models/other").status_code == 404
                    assert ask(front, "other").status_code == 404
    with as_caller(front, front.api_key, management=True) as admin:
        admin.delete("/k8s/api/v1/namespaces/adapted").raise_for_status()
