"""The local runtime with real processes of the llama.cpp engine."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs

import inferno
from inferno.core.errors import NotFound, Overloaded
from inferno.core.resources import SUSPECTED_ANNOTATION, Pod, PodStatus
from inferno.engines.base import Launch
from inferno.engines.llama_cpp import LlamaCpp
from inferno.runtimes.keys import replica_key
from inferno.storage.resources import SqlResourceStore
from tests.contract.runtimes.machine import (
    PATIENCE,
    QUICK,
    SECRET,
    Machine,
    ask,
    dies_within,
    eventually,
    is_alive,
)
from tests.contract.runtimes.tiny_gguf import TOOLS, write_tiny_gguf


async def test_a_pod_becomes_a_replica_that_answers_its_key_only(
    machine: Machine, model: Path
) -> None:
    await machine.create("tiny-1", model)
    pod = await machine.until_phase("tiny-1", "Ready")

    completion = {"prompt": "hello", "max_tokens": 3}
    status, answer = await asyncio.to_thread(ask, pod, "/v1/completions", completion)
    assert status == 200
    assert answer["model"] == "tiny"
    assert answer["usage"]["completion_tokens"] == 3
    status, answer = await asyncio.to_thread(ask, pod, "/v1/embeddings", {"input": "hello"})
    assert status == 200
    status, _ = await asyncio.to_thread(ask, pod, "/v1/completions", completion, key="wrong")
    assert status == 401


async def test_the_status_is_measured(machine: Machine, model: Path) -> None:
    await machine.create("tiny-1", model)
    status = (await machine.until_phase("tiny-1", "Ready")).status
    assert status.host == "127.0.0.1"
    assert is_alive(status.pid)
    assert 0 < status.load_time_ms < 20_000
    assert status.memory_bytes > 10_000_000
    assert status.started_at < status.ready_at
    assert (status.context_size, status.parallel) == (2048, 4)
    assert status.capabilities == ["chat", "embeddings", "text-generation"]
    assert (status.reason, status.restarts) == ("", 0)


async def test_options_take_effect(machine: Machine, model: Path) -> None:
    await machine.create("tiny-1", model, context_size=512, parallel=2, threads=1, batch_size=64)
    pod = await machine.until_phase("tiny-1", "Ready")
    _, props = await asyncio.to_thread(ask, pod, "/props")
    assert props["default_generation_settings"]["n_ctx"] == pod.status.context_size == 512
    assert props["total_slots"] == pod.status.parallel == 2


async def test_the_default_context_is_not_larger_than_the_model_was_trained_for(
    machine: Machine, tmp_path: Path
) -> None:
    await machine.create("tiny-1", write_tiny_gguf(tmp_path / "small.gguf", context=512))
    assert (await machine.until_phase("tiny-1", "Ready")).status.context_size == 512


async def test_capabilities_come_from_the_model(machine: Machine, tmp_path: Path) -> None:
    able = write_tiny_gguf(tmp_path / "able.gguf", template=TOOLS, infill=True)
    await machine.create("able", able)
    status = (await machine.until_phase("able", "Ready")).status
    assert status.capabilities == ["chat", "embeddings", "infill", "text-generation", "tools"]


def _missing(path: Path, model: Path) -> None:
    assert not path.exists()


def _text(path: Path, model: Path) -> None:
    path.write_text("hello, I am a text")


def _empty(path: Path, model: Path) -> None:
    path.touch()


def _truncated(path: Path, model: Path) -> None:
    content = model.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _cut_header(path: Path, model: Path) -> None:
    path.write_bytes(model.read_bytes()[:200])


def _newer(path: Path, model: Path) -> None:
    path.write_bytes(b"GGUF\x63\0\0\0" + bytes(100))


def _alien(path: Path, model: Path) -> None:
    write_tiny_gguf(path, architecture="nonesuch")


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (_missing, "FileMissing"),
        (_text, "NotGGUF"),
        (_empty, "NotGGUF"),
        (_truncated, "Corrupt"),
        (_cut_header, "Corrupt"),
        (_newer, "UnsupportedVersion"),
        (_alien, "UnsupportedArchitecture"),
    ],
)
async def test_what_cannot_work_fails_at_once_and_says_why(
    machine: Machine,
    model: Path,
    tmp_path: Path,
    prepare: Callable[[Path, Path], None],
    reason: str,
) -> None:
    path = tmp_path / "broken.gguf"
    prepare(path, model)
    await machine.create("tiny-1", path)
    status = (await machine.until_phase("tiny-1", "Failed")).status
    assert status.reason == reason
    assert "broken.gguf" in status.message
    assert str(tmp_path) not in status.message
    log = [line async for line in machine.runtime.log("tiny-1")]
    assert (status.restarts, status.pid, status.port) == (0, 0, 0), log


@pytest.mark.parametrize("uri", ["", "s3://bucket/model.gguf", "file://elsewhere/model.gguf"])
async def test_a_model_that_is_not_here_fails(machine: Machine, uri: str) -> None:
    await machine.create("tiny-1", uri)
    status = (await machine.until_phase("tiny-1", "Failed")).status
    assert status.reason == "Unusable"


async def test_a_killed_replica_is_started_again(machine: Machine, model: Path) -> None:
    await machine.create("tiny-1", model)
    pid = (await machine.until_phase("tiny-1", "Ready")).status.pid
    os.kill(pid, signal.SIGKILL)
    pod = await machine.until("tiny-1", lambda pod: pod.status.restarts == 1)
    if pod.status.phase == "Pending":
        assert pod.status.reason == "CrashLoopBackOff"
        assert "SIGKILL" in pod.status.message
    again = (await machine.until_phase("tiny-1", "Ready")).status
    assert again.restarts == 1
    assert again.pid != pid
    assert again.reason == ""


async def test_a_replica_serves_on_while_the_store_is_away(
    machine: Machine, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modify = machine.store.modify
    answers = iter([True, False, False, False])  # Starting is written; Ready is not, at first

    async def sometimes(*args: Any, status: bool = False, **options: Any) -> Any:
        if status and not next(answers, True):
            raise Overloaded("The database is busy.")
        return await modify(*args, status=status, **options)

    monkeypatch.setattr(machine.store, "modify", sometimes)
    await machine.create("tiny-1", model)
    status = (await machine.until_phase("tiny-1", "Ready")).status
    assert status.restarts == 0
    assert not next(answers, False)


async def test_a_hung_replica_is_killed_and_started_again(machine: Machine, model: Path) -> None:
    await machine.create("tiny-1", model)
    pid = (await machine.until_phase("tiny-1", "Ready")).status.pid
    os.kill(pid, signal.SIGSTOP)
    await machine.until("tiny-1", lambda pod: pod.status.restarts == 1)
    await machine.until_phase("tiny-1", "Ready")
    assert not is_alive(pid)


class _Superficial(LlamaCpp):
    """Its health checks say that all is well, as those of a stuck engine do."""

    async def probe(self, host: str, port: int, *, within: float) -> bool:
        return True


async def _suspect(machine: Machine, name: str, at: str) -> None:
    def change(pod: Pod) -> None:
        pod.metadata.annotations[SUSPECTED_ANNOTATION] = at

    await machine.store.modify(Pod, name, change)


async def test_a_replica_that_fell_silent_is_started_again_unless_it_works(
    store: SqlResourceStore, tmp_path: Path, model: Path
) -> None:
    timings = replace(QUICK, work_timeout=0.5)
    async with Machine(
        store, tmp_path, engines=lambda name: _Superficial(), timings=timings
    ) as machine:
        await machine.create("tiny-1", model)
        pid = (await machine.until_phase("tiny-1", "Ready")).status.pid
        with capture_logs() as logs:
            await _suspect(machine, "tiny-1", "2026-01-01T00:00:00.000Z")
            await eventually(lambda: "replica_works" in [line["event"] for line in logs])
        assert (await store.get(Pod, "tiny-1")).status.pid == pid
        os.kill(pid, signal.SIGSTOP)
        await _suspect(machine, "tiny-1", "2026-01-01T00:01:00.000Z")
        pod = await machine.until("tiny-1", lambda pod: pod.status.restarts == 1)
        if pod.status.phase == "Pending":
            assert pod.status.reason == "Wedged"
        pod = await machine.until_phase("tiny-1", "Ready")
        assert not is_alive(pid)
        await _suspect(machine, "tiny-1", "2026-01-01T00:01:00.000Z")  # heard of already
        await asyncio.sleep(0.3)
        assert (await store.get(Pod, "tiny-1")).status.pid == pod.status.pid


async def test_an_outage_of_the_store_is_told_once(
    store: SqlResourceStore, machine: Machine, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await machine.create("tiny-1", model)
    pid = (await machine.until_phase("tiny-1", "Ready")).status.pid
    modify, attempts = store.modify, 0

    async def away(*args: Any, **options: Any) -> Any:
        nonlocal attempts
        attempts += 1
        raise Overloaded("The database does not answer.")

    with capture_logs() as logs:
        monkeypatch.setattr(store, "modify", away)
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: attempts >= 4)
        monkeypatch.setattr(store, "modify", modify)
        await machine.until("tiny-1", lambda pod: pod.status.restarts > 0)
        await eventually(lambda: "store_back" in [line["event"] for line in logs])
    told = [line["event"] for line in logs if line["event"].startswith("store_")]
    assert told == ["store_away", "store_back"]
    assert not [line for line in logs if line.get("exc_info")]


class _Crashing(LlamaCpp):
    """Ends as soon as it starts, without a reason."""

    def command(self, launch: Launch) -> list[str]:
        return [sys.executable, "-c", "import sys; sys.exit(3)", launch.uid]


async def test_a_replica_that_never_becomes_ready_is_given_up(
    store: SqlResourceStore, tmp_path: Path, model: Path
) -> None:
    async with Machine(store, tmp_path, engines=lambda _: _Crashing()) as machine:
        await machine.create("tiny-1", model)
        status = (await machine.until_phase("tiny-1", "Failed")).status
    assert (status.reason, status.restarts) == ("Crashed", 1)
    assert "exit code 3" in status.message


class _Absent(LlamaCpp):
    """A program that does not exist."""

    def command(self, launch: Launch) -> list[str]:
        return ["/nonexistent/engine", launch.uid]


async def test_an_engine_that_is_not_installed_is_reported(
    store: SqlResourceStore, tmp_path: Path, model: Path
) -> None:
    async with Machine(store, tmp_path, engines=lambda _: _Absent()) as machine:
        await machine.create("tiny-1", model)
        status = (await machine.until_phase("tiny-1", "Failed")).status
    assert status.reason == "EngineMissing"


async def test_a_deleted_pod_finishes_its_requests_first(machine: Machine, model: Path) -> None:
    await machine.create("tiny-1", model, context_size=4096)
    pod = await machine.until_phase("tiny-1", "Ready")
    long = {"prompt": "a", "max_tokens": 3000, "ignore_eos": True}
    request = asyncio.create_task(asyncio.to_thread(ask, pod, "/v1/completions", long))
    await asyncio.to_thread(_wait_until_busy, pod)

    await machine.store.delete(Pod, "tiny-1")
    await machine.until_phase("tiny-1", "Draining")
    assert not request.done()
    status, answer = await request
    assert status == 200
    assert answer["usage"]["completion_tokens"] == 3000
    await machine.until_gone("tiny-1")
    assert not is_alive(pod.status.pid)
    with pytest.raises(NotFound):
        await anext(machine.runtime.log("tiny-1"))


def _wait_until_busy(pod: Pod) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        _, slots = ask(pod, "/slots")
        if any(slot["is_processing"] for slot in slots):
            return
        time.sleep(0.01)
    pytest.fail("no request is running")


async def test_a_failed_pod_can_be_deleted(machine: Machine, tmp_path: Path) -> None:
    await machine.create("tiny-1", tmp_path / "none.gguf")
    await machine.until_phase("tiny-1", "Failed")
    await machine.store.delete(Pod, "tiny-1")
    await machine.until_gone("tiny-1")


async def test_stopping_leaves_no_process_and_pods_that_can_start_again(
    store: SqlResourceStore, tmp_path: Path, model: Path
) -> None:
    async with Machine(store, tmp_path) as machine:
        await machine.create("tiny-1", model)
        await machine.create("tiny-2", model)
        pids = [(await machine.until_phase(f"tiny-{at}", "Ready")).status.pid for at in (1, 2)]
    assert not any(map(is_alive, pids))
    assert (await store.get(Pod, "tiny-1")).status == PodStatus()

    async with Machine(store, tmp_path) as machine:
        await machine.until_phase("tiny-1", "Ready")
        await machine.until_phase("tiny-2", "Ready")


async def test_leftovers_of_an_earlier_run_are_killed_and_nothing_else(
    store: SqlResourceStore, tmp_path: Path, model: Path
) -> None:
    machine = Machine(store, tmp_path)
    left = await machine.create("tiny-1", model)
    other = await machine.create("tiny-2", model)
    leftover = _sleep("inferno.engines.x", left.metadata.uid)
    innocent = _sleep("inferno.engines.x", "another uid")
    try:
        for pod, process in ((left, leftover), (other, innocent)):
            pod.status = PodStatus(phase="Ready", pid=process.pid, port=1, restarts=7)
            await store.update_status(pod)
        async with machine:
            await machine.until("tiny-1", lambda pod: pod.status.phase == "Ready" and _is_new(pod))
            await machine.until("tiny-2", lambda pod: pod.status.phase == "Ready" and _is_new(pod))
            assert not is_alive(leftover.pid)
            assert innocent.poll() is None
    finally:
        for process in (leftover, innocent):
            process.kill()
            process.wait()


def _sleep(*arguments: str) -> subprocess.Popen[bytes]:
    program = "import time; time.sleep(60)"
    return subprocess.Popen([sys.executable, "-c", program, *arguments])


def _is_new(pod: Pod) -> bool:
    return pod.status.restarts == 0


_PARENT = """
import asyncio, sys
from pathlib import Path
from inferno.storage.database import Database
from inferno.storage.resources import SqlResourceStore
from tests.contract.runtimes.machine import Machine

async def main():
    database = await Database.open("sqlite+aiosqlite:///:memory:")
    store = await SqlResourceStore.open(database)
    async with Machine(store, Path(sys.argv[1])) as machine:
        await machine.create("tiny-1", Path(sys.argv[2]))
        pod = await machine.until_phase("tiny-1", "Ready")
        Path(sys.argv[1], "pid").write_text(str(pod.status.pid))
        print("READY", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


def test_replicas_die_with_a_killed_platform(tmp_path: Path, model: Path) -> None:
    root = Path(__file__).parents[3]
    folders = os.pathsep.join([str(root), str(Path(inferno.__file__).parents[1])])
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path), str(model)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": folders},
    )
    try:
        assert parent.stdout is not None
        with parent.stdout:
            assert any("READY" in line for line in map(bytes.decode, parent.stdout))
        replica = int(Path(tmp_path, "pid").read_text())
        assert is_alive(replica)
    finally:
        parent.kill()
        parent.wait()
    assert dies_within(replica, 1.0)


async def test_a_replica_is_logged(machine: Machine, model: Path) -> None:
    await machine.create("tiny-1", model)
    pod = await machine.until_phase("tiny-1", "Ready")
    assert pod.status.port
    lines = [line async for line in machine.runtime.log("tiny-1")]
    assert any("model loaded" in line for line in lines)
    assert [line async for line in machine.runtime.log("tiny-1", tail=2)] == lines[-2:]


async def test_a_log_can_be_followed_until_the_pod_is_gone(machine: Machine, model: Path) -> None:
    await machine.create("tiny-1", model)
    await machine.until_phase("tiny-1", "Ready")

    async def follow() -> list[str]:
        return [line async for line in machine.runtime.log("tiny-1", tail=0, follow=True)]

    following = asyncio.create_task(follow())
    pod = await machine.until_phase("tiny-1", "Ready")
    await asyncio.to_thread(ask, pod, "/v1/completions", {"prompt": "a", "max_tokens": 1})
    await asyncio.sleep(0.6)
    await machine.store.delete(Pod, "tiny-1")
    lines = await asyncio.wait_for(following, PATIENCE)
    assert any("task" in line for line in lines)


async def test_the_key_is_not_to_be_seen_from_outside(machine: Machine, model: Path) -> None:
    await machine.create("tiny-1", model)
    pod = await machine.until_phase("tiny-1", "Ready")
    key = replica_key(SECRET, pod.metadata.uid)
    process = psutil.Process(pod.status.pid)
    assert key not in " ".join([*process.cmdline(), *process.environ().values()])
    assert key not in "".join([line async for line in machine.runtime.log("tiny-1")])


async def test_cancelling_the_runtime_kills_its_replicas(
    store: SqlResourceStore, tmp_path: Path, model: Path
) -> None:
    machine = Machine(store, tmp_path)
    running = asyncio.create_task(machine.runtime.run(machine.stop))
    await machine.create("tiny-1", model)
    pid = (await machine.until_phase("tiny-1", "Ready")).status.pid
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not is_alive(pid)
