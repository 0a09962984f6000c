"""The Python client against a real platform: all groups of calls, both ways, and failures."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from inferno import AsyncClient, Client
from inferno.client import (
    ConnectionFailed,
    InvalidCall,
    NotAllowed,
    NotAuthenticated,
    NotThere,
    RateLimited,
    Retries,
    ServerBusy,
    UnknownModel,
)
from tests.acceptance.platform import MODEL, Platform, wait_until
from tests.acceptance.random_models import slow_model

ONCE = Retries(attempts=1)
PROMPT = "The capital of France"
MESSAGES = [{"role": "user", "content": "What is 2+2?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
    },
}
ENDLESS = {"model": "slow", "prompt": "Hi", "max_tokens": 8000, "ignore_eos": True}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with a slow model beside the bundled one."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "models").mkdir()
    (folder / "models" / "slow.gguf").write_bytes(slow_model())
    with Platform(folder / "data", "--models-dir", str(folder / "models")) as running:
        yield running


@pytest.fixture
def client(platform: Platform) -> Iterator[Client]:
    with Client(platform.url, api_key=platform.api_key) as client:
        yield client


class TestBlocking:
    def test_health(self, platform: Platform) -> None:
        with Client(platform.url) as stranger:
            assert stranger.health().status == "healthy"
            stranger.live()
            wait_until(lambda: stranger.ready().is_ready, 60, "it is not ready")

    def test_inference(self, client: Client) -> None:
        answer = client.inference(model=MODEL, prompt=PROMPT, max_tokens=8, temperature=0)
        assert answer.text
        assert answer.usage.completion_tokens <= 8
        stream = client.stream(model=MODEL, prompt=PROMPT, max_tokens=8, temperature=0)
        with stream:
            tokens = list(stream)
        assert [token.index for token in tokens] == list(range(len(tokens)))
        assert "".join(map(str, tokens)) == stream.result.text == answer.text
        assert stream.result.finish_reason == answer.choices[0].finish_reason
        assert stream.result.usage == answer.usage

    def test_chat(self, client: Client) -> None:
        answer = client.chat(model=MODEL, messages=MESSAGES, max_tokens=8, temperature=0)
        with client.stream_chat(
            model=MODEL, messages=MESSAGES, max_tokens=8, temperature=0, n=2
        ) as stream:
            assert "".join(str(chunk) for chunk in stream if chunk.choices[:1])
        assert [choice.index for choice in stream.result.choices] == [0, 1]
        assert stream.result.text == answer.text
        assert stream.result.usage is not None
        again: list[Any] = [
            *MESSAGES,
            answer.choices[0].message,
            {"role": "user", "content": "And 3+3?"},
        ]
        assert client.chat(model=MODEL, messages=again, max_tokens=8).choices

    def test_tools(self, client: Client) -> None:
        """What streaming makes of a tool call is what the whole answer has."""
        question = [{"role": "user", "content": "What is the weather in Paris?"}]
        asked = {"tools": [WEATHER], "tool_choice": "required", "temperature": 0, "seed": 1}
        whole = client.chat(model=MODEL, messages=question, max_tokens=64, **asked)  # type: ignore[arg-type]
        streamed = client.stream_chat(
            model=MODEL,
            messages=question,
            max_tokens=64,
            **asked,  # type: ignore[arg-type]
        ).read()
        calls, pieces = whole.choices[0].message.tool_calls, streamed.choices[0].message.tool_calls
        assert calls
        assert pieces
        assert [one.function.name for one in pieces] == [one.function.name for one in calls]
        arguments = [one.function.arguments.strip() for one in pieces]
        assert arguments == [one.function.arguments.strip() for one in calls]

    def test_completions(self, client: Client) -> None:
        options = {"model": MODEL, "max_tokens": 8, "temperature": 0}
        answer = client.completions(prompt=[PROMPT, "Hello"], **options)  # type: ignore[arg-type]
        stream = client.stream_completions(prompt=[PROMPT, "Hello"], **options)  # type: ignore[arg-type]
        texts = [choice.text for choice in stream.read().choices]
        assert texts == [choice.text for choice in answer.choices]

    def test_embeddings(self, client: Client) -> None:
        found = client.embeddings(model=MODEL, input=["Hello world", "How are you?"])
        assert len(found.vectors) == 2
        assert len(found.vectors[0]) == len(found.vectors[1]) > 1
        coded = client.embeddings(model=MODEL, input="Hello world", encoding_format="base64")
        assert isinstance(coded.data[0].embedding, str)

    def test_models(self, client: Client) -> None:
        assert {model.id for model in client.models.list()} == {MODEL, "slow"}
        loaded = client.models.load("slow", context_size=512)
        assert (loaded.status, loaded.context_size) == ("loaded", 512)
        assert client.models.get("slow").loaded
        assert client.models.unload("slow").status == "unloaded"
        assert not client.models.get("slow").loaded
        with pytest.raises(UnknownModel) as unknown:
            client.models.get("nothing")
        assert MODEL in unknown.value.available
        with pytest.raises(NotThere):
            client.models.get("a/../b")

    def test_access(self, client: Client, platform: Platform) -> None:
        assert client.auth.me().username == "admin"
        user = client.auth.users.create("alice", "correct horse battery", role="user")
        assert client.auth.users.change("alice", email="a@b.c").email == "a@b.c"
        assert user.id in {one.id for one in client.auth.users.list()}
        with Client(platform.url, retries=ONCE) as stranger:
            tokens = stranger.auth.login("alice", "correct horse battery")
            with pytest.raises(NotAuthenticated):
                stranger.auth.login("alice", "wrong")
            tokens = stranger.auth.refresh(tokens.refresh_token)
        with Client(platform.url, api_key=tokens.token, retries=ONCE) as alice:
            assert alice.auth.me().credential == "token"
            key = alice.auth.api_keys.create("mine", expires_in_days=7)
            assert alice.auth.api_keys.get(key.id).name == "mine"
            assert alice.auth.api_keys.change(key.id, name="ours").name == "ours"
            rotated = alice.auth.api_keys.rotate(key.id, grace_seconds=0)
            assert rotated.api_key != key.api_key
            with pytest.raises(NotAllowed):
                alice.auth.users.list()
            alice.auth.api_keys.revoke(rotated.id)
            with pytest.raises(NotThere):
                alice.auth.api_keys.get("nothing")
            alice.auth.logout()
            with pytest.raises(NotAuthenticated):
                alice.auth.me()
        client.auth.rate_limits.set("tenant", "default", {"requests_per_minute": 1000})
        assert client.auth.rate_limits.list()["overrides"]
        client.auth.rate_limits.set("tenant", "default", {})
        assert client.auth.rate_limits.usage("alice")["user"] == "alice"
        client.auth.rate_limits.reset("alice")
        client.auth.users.delete("alice")
        assert client.audit.events(action="user.delete", limit=1)[0].target == "user:alice"
        assert client.audit.verify().intact

    def test_what_goes_wrong(self, client: Client, platform: Platform) -> None:
        with pytest.raises(UnknownModel):
            client.inference(model="gpt-5", prompt="x")
        with pytest.raises(UnknownModel):
            client.chat(model="gpt-5", messages=MESSAGES)
        with pytest.raises(InvalidCall) as invalid:
            client.inference(model=MODEL, prompt="x", temperature=9)
        assert invalid.value.field == "temperature"
        assert invalid.value.request_id
        with Client(platform.url, api_key="wrong") as nobody, pytest.raises(NotAuthenticated):
            nobody.models.list()

    def test_limits(self, client: Client, platform: Platform) -> None:
        key = client.auth.api_keys.create("slow lane", limits={"requests_per_minute": 1})
        with Client(platform.url, api_key=key.api_key, retries=ONCE) as limited:
            limited.models.list()
            with pytest.raises(RateLimited) as refused:
                limited.models.list()
        assert refused.value.retry_after is not None
        assert refused.value.retry_after > 0

    def test_leaving_a_stream_ends_the_work(self, client: Client, platform: Platform) -> None:
        """The one place that the key has is free again."""
        key = client.auth.api_keys.create("one at a time", limits={"concurrent_requests": 1})
        with Client(platform.url, api_key=key.api_key, retries=ONCE) as single:
            with single.stream(**ENDLESS) as stream:  # type: ignore[arg-type]
                assert len(list(itertools.islice(stream, 2))) == 2
                with pytest.raises(RateLimited):
                    single.models.list()
                assert next(iter(stream)).index == 2

            def is_free() -> bool:
                try:
                    return bool(single.models.list())
                except RateLimited:
                    return False

            wait_until(is_free, 20, "the work goes on", platform.log_text)
            for _ in single.stream(**ENDLESS):  # type: ignore[arg-type]
                break
            wait_until(is_free, 20, "the work goes on", platform.log_text)


def test_a_platform_that_dies(tmp_path: Path) -> None:
    platform = Platform(tmp_path / "data").start()
    client = Client(platform.url, api_key=platform.api_key, retries=ONCE)
    with client, client.connect() as socket:
        socket.ping()
        platform.kill()
        with pytest.raises(ConnectionFailed):
            client.health()
        with pytest.raises(ConnectionFailed):
            socket.ping()


def test_a_platform_that_dies_in_a_stream(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "slow.gguf").write_bytes(slow_model())
    platform = Platform(tmp_path / "data", "--models-dir", str(models)).start()
    client = Client(platform.url, api_key=platform.api_key)
    with client, client.stream(**ENDLESS) as stream:  # type: ignore[arg-type]
        tokens = iter(stream)
        assert [next(tokens).index, next(tokens).index] == [0, 1]
        platform.kill()
        with pytest.raises(ConnectionFailed):
            list(tokens)


class TestOnAnEventLoop:
    async def test_calls(self, platform: Platform) -> None:
        async with AsyncClient(platform.url, api_key=platform.api_key) as client:
            assert (await client.health()).status == "healthy"
            assert {model.id for model in await client.models.list()} == {MODEL, "slow"}
            answer = await client.inference(model=MODEL, prompt=PROMPT, max_tokens=8, temperature=0)
            async with client.stream(
                model=MODEL, prompt=PROMPT, max_tokens=8, temperature=0
            ) as stream:
                tokens = [str(token) async for token in stream]
            assert "".join(tokens) == stream.result.text == answer.text
            chat = client.stream_chat(model=MODEL, messages=MESSAGES, max_tokens=4)
            assert (await chat.read()).text
            assert (await client.embeddings(model=MODEL, input="Hello")).vectors
            key = await client.auth.api_keys.create("another")
            await client.auth.api_keys.revoke(key.id)
            with pytest.raises(UnknownModel):
                await client.inference(model="gpt-5", prompt="x")

    async def test_many_at_once(self, platform: Platform) -> None:
        async with AsyncClient(platform.url, api_key=platform.api_key) as client:
            answers = await asyncio.gather(
                *(client.inference(model=MODEL, prompt=PROMPT, max_tokens=4) for _ in range(20))
            )
        assert all(answer.text for answer in answers)

    async def test_cancelling_a_call_ends_the_work(self, platform: Platform) -> None:
        async with AsyncClient(platform.url, api_key=platform.api_key) as admin:
            key = await admin.auth.api_keys.create("single", limits={"concurrent_requests": 1})
        async with AsyncClient(platform.url, api_key=key.api_key) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await client.inference(**ENDLESS)  # type: ignore[arg-type]
            async with client.stream(**ENDLESS) as stream:  # type: ignore[arg-type]
                async for _ in stream:
                    break
            assert await client.models.list()  # tried again until the place is free


class TestSocket:
    def test_several_at_once(self, client: Client) -> None:
        with client.connect() as socket:
            assert socket.ping() > 0
            first = socket.inference(model=MODEL, prompt=PROMPT, max_tokens=8, temperature=0)
            endless = socket.inference(**ENDLESS)  # type: ignore[arg-type]
            whole = socket.inference(
                model=MODEL, prompt=PROMPT, max_tokens=8, temperature=0, stream=False
            )
            assert whole.read().text == first.read().text
            assert first.result.usage is not None
            assert next(iter(endless)).index == 0
            assert endless.cancel().finish_reason == "cancelled"
            with pytest.raises(UnknownModel):
                socket.inference(model="gpt-5", prompt="x").read()
            assert socket.ping() > 0

    def test_threads_share_a_connection(self, client: Client) -> None:
        expected = client.inference(model=MODEL, prompt=PROMPT, max_tokens=8, temperature=0).text
        found: list[str] = []
        with client.connect() as socket:

            def ask() -> None:
                asked = socket.inference(model=MODEL, prompt=PROMPT, max_tokens=8, temperature=0)
                found.append(asked.read().text)

            threads = [threading.Thread(target=ask) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        assert found == [expected] * 6

    async def test_tasks_share_a_connection(self, platform: Platform) -> None:
        client = AsyncClient(platform.url, api_key=platform.api_key)
        async with client, client.connect() as socket:

            async def ask() -> str:
                asked = await socket.inference(
                    model=MODEL, prompt=PROMPT, max_tokens=8, temperature=0
                )
                return "".join([str(token) async for token in asked])

            texts = await asyncio.gather(*(ask() for _ in range(6)))
            endless = await socket.inference(**ENDLESS)  # type: ignore[arg-type]
            async for token in endless:
                assert token.index == 0
                break
            assert (await endless.cancel()).finish_reason == "cancelled"
            assert await socket.ping() > 0
        assert len(set(texts)) == 1

    async def test_strangers(self, platform: Platform) -> None:
        with (
            Client(platform.url, api_key="wrong") as client,
            pytest.raises(NotAuthenticated),
            client.connect(),
        ):
            pass
        async with AsyncClient(platform.url, api_key="wrong") as other:
            with pytest.raises(NotAuthenticated):
                async with other.connect():
                    pass

    def test_a_platform_that_shuts_down(self, start: Callable[..., Platform]) -> None:
        platform = start()
        with (
            Client(platform.url, api_key=platform.api_key) as client,
            client.connect() as socket,
        ):
            assert socket.inference(model=MODEL, prompt=PROMPT, max_tokens=4).read().text
            platform.stop()
            with pytest.raises(ServerBusy):
                socket.ping()
