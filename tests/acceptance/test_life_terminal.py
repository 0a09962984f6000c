"""The command line against a running platform, and without one."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from inferno.cli import neighbours
from tests.acceptance.hub import HubServer
from tests.acceptance.platform import MODEL, Platform, clean_environment, wait_until
from tests.acceptance.random_models import quick_model, slow_model
from tests.acceptance.replicas import wait_until_idle, wait_until_open

PARIS = "What is the capital of France?"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with the bundled model and a slow one."""
    data = tmp_path_factory.mktemp("terminal") / "data"
    (data / "models").mkdir(parents=True)
    (data / "models" / "slow.gguf").write_bytes(slow_model())
    with Platform(data, environment={"INFERNO_CONTEXT_SIZE": "4096"}) as platform:
        yield platform


def inferno(
    data: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one command."""
    return subprocess.run(
        [sys.executable, "-m", "inferno", *arguments],
        env={**clean_environment(), "INFERNO_DATA_DIR": str(data), **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def output(data: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Run one command that must succeed, and return what it printed."""
    done = inferno(data, *arguments, environment=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def complaint(data: Path, *arguments: str) -> str:
    """Run one command that must fail, and return its one line."""
    done = inferno(data, *arguments)
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("inferno: ")
    assert "Traceback" not in done.stderr
    return line


def test_run_without_a_folder_uses_what_runs(platform: Platform, tmp_path: Path) -> None:
    """Other tests may run platforms beside this one: then the command has to ask which."""
    assert platform.data_dir in neighbours.folders()
    done = subprocess.run(
        [sys.executable, "-m", "inferno", "run", MODEL, PARIS, "--max-tokens", "5"],
        env={**clean_environment(), "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode == 2:
        assert f"{platform.data_dir}" in done.stderr
        assert "say which one is meant with --data-dir" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert done.stderr == f"inferno: using the server on {platform.data_dir}\n"
        assert done.stdout.strip()


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        (["serve", "--data-dir", "a b"], "a b"),
        (["serve", "--port", "1", "--data-dir=x=y"], "x=y"),
        (["serve", "--data-dir"], None),
        (["serve", "--data-directory", "x"], None),
    ],
)
def test_what_a_server_was_told_of_its_folder(arguments: list[str], folder: str | None) -> None:
    assert neighbours.data_dir_in(arguments) == folder


def listed(data: Path) -> dict[str, dict[str, Any]]:
    models = json.loads(output(data, "models", "list", "--json"))["models"]
    return {model["id"]: model for model in models}


def processes_on(data: Path) -> list[psutil.Process]:
    """Return the processes that work for a data folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(data) in " ".join(process.cmdline()):
                found.append(process)
    return found


def test_models_of_a_running_platform(platform: Platform) -> None:
    data = platform.data_dir
    assert set(listed(data)) == {MODEL, "slow"}
    table = output(data, "models", "list")
    assert table.splitlines()[0].split() == ["NAME", "SIZE", "STATE", "CONTEXT", "CAPABILITIES"]
    assert len(table.splitlines()) == 3

    answer = json.loads(output(data, "models", "load", "slow", "--context-size", "512", "--json"))
    assert (answer["status"], answer["model_id"], answer["context_size"]) == ("loaded", "slow", 512)
    assert listed(data)["slow"]["loaded"]
    assert "loaded" in output(data, "models", "list")
    info = json.loads(output(data, "models", "info", "slow", "--json"))
    assert info["context_size"] == 512
    assert info["architecture"] == "llama"
    assert "architecture" in output(data, "models", "info", "slow")
    assert "Loaded slow in " in output(data, "models", "load", "slow")
    answer = json.loads(output(data, "models", "unload", "slow", "--json"))
    assert answer == {"status": "unloaded", "model_id": "slow"}
    assert not listed(data)["slow"]["loaded"]


def test_install_and_remove(platform: Platform, tmp_path: Path) -> None:
    data = platform.data_dir
    file = tmp_path / "Some Model.gguf"
    file.write_bytes(quick_model())
    installed = json.loads(output(data, "models", "install", str(file), "--json"))
    name = installed["id"]
    wait_until(lambda: name in platform.models(), 10, "the installed model did not appear")
    assert name in output(data, "models", "install", str(file))  # it is there already
    file.write_bytes(quick_model(seed=2))
    assert "another model called" in complaint(data, "models", "install", str(file))
    assert output(data, "run", name, "Hello", "--max-tokens", "3") != ""
    assert platform.models()[name]["loaded"]
    assert output(data, "models", "remove", name, "--yes") == f"Removed {name}.\n"
    wait_until(lambda: name not in platform.models(), 10, "the removed model did not go")
    assert name in complaint(data, "run", name, "Hello")


def test_install_from_the_hub(platform: Platform) -> None:
    data = platform.data_dir
    with HubServer() as hub:
        hub.add("acme/tiny", "tiny-q8_0.gguf", quick_model())
        cache = {"HF_ENDPOINT": hub.url, "HF_HOME": str(data.parent / "hub")}
        for source in ("hf://acme/tiny", "hf://acme/tiny/tiny-q8_0.gguf"):
            arguments = ["models", "install", source, "--name", "from-hub", "--force"]
            assert "Installed from-hub" in output(data, *arguments, environment=cache)
        missing = inferno(data, "models", "install", "hf://acme/none", environment=cache)
        assert missing.returncode == 1
        assert len(missing.stderr.splitlines()) == 1
        assert "acme/none" in missing.stderr
    wait_until(lambda: "from-hub" in platform.models(), 10, "the installed model did not appear")
    assert output(data, "run", "from-hub", "Hello", "--max-tokens", "3") != ""
    output(data, "models", "remove", "from-hub", "--yes")


def test_run_uses_the_running_platform(platform: Platform) -> None:
    before = {process.pid for process in processes_on(platform.data_dir)}
    assert "Paris" in output(platform.data_dir, "run", MODEL, PARIS)
    answer = json.loads(output(platform.data_dir, "run", MODEL, PARIS, "--json"))
    assert "Paris" in answer["content"]
    assert answer["usage"]["completion_tokens"] > 0
    assert {process.pid for process in processes_on(platform.data_dir)} <= before


def test_run_without_a_platform_starts_one_and_leaves_none(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert set(listed(data)) == {MODEL}
    assert "Paris" in output(data, "run", MODEL, PARIS)
    assert processes_on(data) == []
    assert not (data / "run.json").exists()


def test_killed_run_leaves_no_process(tmp_path: Path) -> None:
    data = tmp_path / "data"
    command = [sys.executable, "-m", "inferno", "run", MODEL, "Tell me a joke"]
    running = subprocess.Popen(
        [*command, "--data-dir", str(data)], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: (data / "run.json").exists(), 60, "no platform was started")
    finally:
        running.kill()
        running.communicate(timeout=10)
    wait_until(lambda: processes_on(data) == [], 40, "the platform outlived the command")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "nobody", "Hello"], "nobody"),
        (["models", "info", "nobody"], "nobody"),
        (["models", "load", "nobody"], "nobody"),
        (["models", "remove", "nobody", "--yes"], "nobody"),
        (["models", "remove", MODEL, "--yes"], "part of Inferno"),
        (["models", "install", "/nowhere/model.gguf"], "'model.gguf'"),
        (["models", "load", "slow", "--context-size", "0"], "context-size"),
        (["run", MODEL, ""], "empty"),
        (["--wrong"], "--wrong"),
    ],
)
def test_complaints_are_one_line(platform: Platform, arguments: list[str], words: str) -> None:
    assert words in complaint(platform.data_dir, *arguments)


def test_complaint_without_a_platform(tmp_path: Path) -> None:
    line = complaint(tmp_path, "models", "load", MODEL)
    assert "no server runs" in line
    assert "inferno serve" in line


class Terminal:
    """A command in a terminal of its own, typed at by a test."""

    def __init__(self, data: Path, *arguments: str) -> None:
        environment = {**clean_environment(), "INFERNO_DATA_DIR": str(data), "TERM": "dumb"}
        command = [sys.executable, "-m", "inferno", *arguments]
        self.shown = ""
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, command, environment)  # noqa: S606

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._terminal, text.encode())

    def read_until(self, wanted: str, seconds: float = 60) -> str:
        """Read until something is shown, and return all that was shown before and with it."""
        deadline = time.monotonic() + seconds
        while wanted not in self.shown:
            self._read(deadline, f"{wanted!r} was not shown")
        before, _, self.shown = self.shown.partition(wanted)
        return before + wanted

    def wait(self, seconds: float = 60) -> int:
        """Wait until the command ends, and return its exit code."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(OSError):  # the terminal closes with its last process
            while True:
                self._read(deadline, "it did not end")
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self, deadline: float, complaint: str) -> None:
        ready, _, _ = select.select([self._terminal], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            raise AssertionError(f"{complaint}: {self.shown[-1000:]!r}")
        part = os.read(self._terminal, 65536)
        if not part:
            raise OSError("the terminal was closed")
        self.shown += part.decode("utf-8", "replace")

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._terminal)


def test_chat_in_a_terminal(platform: Platform) -> None:
    with Terminal(platform.data_dir, "run", MODEL, "--temperature", "0") as terminal:
        terminal.read_until(">>> ")
        terminal.type(f"{PARIS}\r")
        assert "Paris" in terminal.read_until(">>> ").replace(PARIS, "")
        terminal.type("/clear\r")
        terminal.read_until("Forgotten.")
        terminal.read_until(">>> ")
        time.sleep(1)  # readline takes Ctrl-C for text until it listens, just after the prompt
        terminal.type("\x03")  # Ctrl-C while nothing is said
        terminal.read_until(">>> ")
        terminal.type("\x04")
        assert terminal.wait() == 0
    history = platform.data_dir / "chat_history"
    assert PARIS in history.read_text()
    assert history.stat().st_mode & 0o077 == 0


def test_chat_remembers_what_was_said(platform: Platform) -> None:
    """Until there is so much of it that the model cannot hold it."""
    output(platform.data_dir, "models", "load", "slow", "--context-size", "256")
    question = "hello " * 30
    with Terminal(platform.data_dir, "run", "slow", "--max-tokens", "3") as terminal:
        terminal.read_until(">>> ")
        terminal.type(f"{question}\r")
        assert "context" not in terminal.read_until(">>> ")
        for _ in range(3):
            terminal.type(f"{question}\r")
            shown = terminal.read_until(">>> ")
        assert "inferno: The prompt is " in shown
        terminal.type("/clear\r")
        terminal.read_until(">>> ")
        terminal.type(f"{question}\r")
        assert "The prompt is" not in terminal.read_until(">>> ")
        terminal.type("/exit\r")
        assert terminal.wait() == 0


def test_interrupt_stops_the_answer_and_not_the_chat(platform: Platform) -> None:
    output(platform.data_dir, "models", "load", "slow", "--context-size", "8192")
    with Terminal(platform.data_dir, "run", "slow", "--max-tokens", "4000") as terminal:
        terminal.read_until(">>> ")
        terminal.type("Hello\r")
        wait_until_open(platform, "slow", 1)
        time.sleep(0.5)
        terminal.type("\x03")
        terminal.read_until(">>> ")
        wait_until_idle(platform, "slow")
        terminal.type("/exit\r")
        assert terminal.wait() == 0


def test_interrupted_answer_has_its_exit_code(platform: Platform) -> None:
    output(platform.data_dir, "models", "load", "slow", "--context-size", "8192")
    with Terminal(platform.data_dir, "run", "slow", "Hello", "--max-tokens", "4000") as terminal:
        wait_until_open(platform, "slow", 1)
        time.sleep(0.5)
        terminal.type("\x03")
        assert terminal.wait() == 130
    wait_until_idle(platform, "slow")
