"""The registry through the Python client and the command line, over breaks of the connection."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from inferno import AsyncRegistry, Registry
from inferno.cli.main import main
from inferno.client import (
    Conflicting,
    ConnectionFailed,
    InvalidCall,
    NotAuthenticated,
    NotThere,
)
from tests.acceptance.commands import inferno
from tests.acceptance.platform import Platform, clean_environment, wait_until

SECONDS = 30


@pytest.fixture
def registry(directory: Platform) -> Iterator[Registry]:
    with Registry(directory.management_url, api_key=directory.api_key) as client:
        yield client
        for server in client.query({}):
            client.delete(server.id)


def test_an_entry_through_its_life(registry: Registry) -> None:
    id_ = registry.register(
        name="east",
        public_url="https://east.example.com",
        urls={"grpc": "east.example.com:50051"},
        metadata={"region": "us-east-1", "gpus": 2},
        tags=["NLP"],
        ttl_seconds=60,
    )
    server = registry.get(id_)
    assert (server.id, server.name, server.tags, server.state) == (id_, "east", ["NLP"], "active")
    assert server.metadata == {"region": "us-east-1", "gpus": 2}
    assert server.urls == {"grpc": "east.example.com:50051"}
    assert server.health is None
    registry.update(
        id_,
        {"$set": {"inference_server_tags.$[one]": "LLM"}},
        array_filters=[{"one": "NLP"}],
        condition={"inference_server_metadata.gpus": 2},
    )
    assert registry.get(id_).tags == ["LLM"]
    beat = registry.heartbeat(id_)
    assert beat.state == "active"
    assert beat.expires_at > str(server.expires_at)
    registry.delete(id_)
    with pytest.raises(NotThere, match="No document found"):
        registry.get(id_)


def test_refusals_are_errors_that_say_what_is_wrong(
    registry: Registry, directory: Platform
) -> None:
    registry.register(name="taken", server_id="a")
    with pytest.raises(Conflicting) as conflict:
        registry.register(name="taken")
    assert conflict.value.field == "inference_server_name"
    with pytest.raises(InvalidCall, match=r"\$foo"):
        next(registry.query({"a": {"$foo": 1}}))
    with pytest.raises(InvalidCall, match="ttl_seconds"):
        registry.register(ttl_seconds=1)
    with pytest.raises(Conflicting):
        registry.update("a", {"$set": {"inference_server_tags": []}}, condition={"state": "no"})
    with pytest.raises(NotThere, match="ask for all entries again"):
        next(registry.watch(since=10**9))
    with (
        Registry(directory.management_url, api_key="wrong") as stranger,
        pytest.raises(NotAuthenticated),
    ):
        next(stranger.watch())
    with Registry("http://127.0.0.1:1") as nowhere, pytest.raises(ConnectionFailed):
        next(nowhere.watch())


def test_queries_go_on_from_page_to_page(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inferno.client.registry_calls.PAGE", 3)
    for number in range(7):
        registry.register(name=f"s{number}", metadata={"n": -number})
    names = [server.name for server in registry.query({})]
    assert names == [f"s{number}" for number in range(7)]
    upwards = {"inference_server_metadata.n": 1}
    assert [server.name for server in registry.query(sort=upwards)] == names[::-1]
    assert [server.name for server in registry.query(sort=upwards, limit=4)] == names[:2:-1]
    assert len(list(registry.query({}, limit=5))) == 5
    assert list(registry.query({}, limit=0)) == []
    (found,) = registry.query({}, search="s5", projection={"inference_server_name": 1}, mine=True)
    assert (found.name, found.state) == ("s5", "")
    page = registry.page({}, limit=2, count=True)
    assert (len(page.servers), page.count) == (2, 7)
    assert page.next_cursor is not None


async def test_the_same_on_an_event_loop(registry: Registry, directory: Platform) -> None:
    async with AsyncRegistry(directory.management_url, api_key=directory.api_key) as client:
        id_ = await client.register(name="async", tags=["x"])
        async with aclosing(client.query({"inference_server_tags": "x"})) as servers:
            assert [server.id async for server in servers] == [id_]
        async with aclosing(client.watch({"inference_server_tags": "y"})) as changes:
            coming = asyncio.ensure_future(anext(changes))
            await asyncio.sleep(0.3)  # it has to be watching
            await client.update(id_, {"$push": {"inference_server_tags": "y"}})
            change = await coming
        assert (change.type, change.server.tags) == ("ADDED", ["x", "y"])
        await client.delete(id_)


def test_lines_for_people_and_clear_errors(
    directory: Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--data-dir", str(directory.data_dir))
    id_ = inferno("registry", "add", "--name", "shown", "--ttl", "60", *where).strip()
    with subprocess.Popen(
        [sys.executable, "-m", "inferno", "registry", "watch", "--since", "0", *where],
        stdout=subprocess.PIPE,
        env=clean_environment(),
        text=True,
    ) as process:
        assert process.stdout is not None
        assert next(process.stdout).split() == ["VERSION", "CHANGE", "ID", "NAME", "STATE", "URL"]
        for line in process.stdout:
            if id_ in line:
                assert line.split()[1:] == ["ADDED", id_, "shown", "active"]
                break
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 130
    inferno("registry", "delete", id_, *where)
    broken = tmp_path / "broken"
    broken.write_bytes(b"\xff\xfe")
    cases: list[tuple[tuple[str, ...], int, str]] = [
        (("get", id_), 1, f"no inference server '{id_}'; `inferno registry list` shows"),
        (("query", "{"), 2, "FILTER is not JSON"),
        (("query", '{"a": {"$foo": 1}}'), 1, "$foo"),
        (("query", f"@{tmp_path}/none"), 1, "No such file"),
        (("query", f"@{broken}"), 2, "FILTER is not JSON"),
        (("update", id_, '{"$set": {"ttl_seconds": 9}}'), 1, "no inference server"),
        (("delete", "nobody"), 1, "no inference server 'nobody'"),
        (("watch", '{"a": {"$foo": 1}}'), 1, "$foo"),
        (("watch", "--since", "99999999"), 1, "ask for all entries again"),
        (("add",), 2, "say what to register"),
        (("add", "--metadata", "novalue"), 2, "NAME=VALUE"),
        (("add", "--metadata", "a..b=1"), 2, "NAME=VALUE"),
        (("add", "--metadata", "a=1", "--metadata", "a.b=1"), 2, "'a' in 'a.b' has a value"),
        (("list", "--sort", "nme"), 2, "no field 'nme'; there are id, name"),
        (
            ("list", "--url", directory.url, "--api-key", directory.api_key),
            1,
            "the control plane serves it",
        ),
        (("add", "[]"), 2, "JSON object"),
        (("list", "--url", "http://127.0.0.1:1"), 1, "refused"),
    ]
    for arguments, code, message in cases:
        assert main(["registry", *arguments, *where]) == code
        complaint = capsys.readouterr().err
        assert message in complaint, (arguments, complaint)


def test_what_a_person_types_is_what_the_registry_knows(directory: Platform) -> None:
    where = ("--data-dir", str(directory.data_dir))
    for name, region in (("typed-1", "us"), ("typed-2", "eu")):
        named = ("--name", name, "--tag", "typed")
        inferno("registry", "add", *named, "--metadata", f"place.region={region}", *where)
    wanted = '{"inference_server_tags": "typed", "inference_server_metadata.place.region": %s}'
    found = inferno("registry", "query", wanted % '"eu"', "--json", *where)
    (server,) = json.loads(found)
    assert server["inference_server_metadata"] == {"place": {"region": "eu"}}
    for field in ("name", "inference_server_name"):
        listed = inferno("registry", "list", "--search", "typed", f"--sort=-{field}", *where)
        assert listed.index("typed-2") < listed.index("typed-1")
    by_region = ("--sort", "metadata.place.region,-registered_at")
    listed = inferno("registry", "list", "--search", "typed", *by_region, *where)
    assert listed.index("typed-2") < listed.index("typed-1")


def test_a_reader_that_has_seen_enough(directory: Platform, registry: Registry) -> None:
    id_ = registry.register(name="piped")
    command = f"{sys.executable} -m inferno registry watch --json --since 0"
    with subprocess.Popen(
        ["bash", "-o", "pipefail", "-c", f"{command} --data-dir {directory.data_dir} | head -n 1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(),
    ) as process:

        def is_over() -> bool:
            registry.update(id_, {"$inc": {"inference_server_metadata.n": 1}})
            return process.poll() is not None

        wait_until(is_over, SECONDS, "it goes on")
        shown, complaints = process.communicate()
    assert (process.returncode, complaints) == (0, b"")
    assert json.loads(shown)["type"] == "ADDED"
