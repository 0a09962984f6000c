"""`inferno run`: one answer, a chat, and a server of its own where none runs."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from tests.unit.cli.conftest import Inferno, Platform, failed, stop, wait_until

MODEL = "llama-2-7b"


class TestOneAnswer:
    def test_is_printed(self, inferno: Inferno, running: Platform) -> None:
        result = inferno("run", MODEL, "hello")
        assert (result.returncode, result.stdout, result.stderr) == (
            0, "You said: hello (1)\n", ""
        )  # fmt: skip

    def test_asks_for_what_was_chosen(self, inferno: Inferno, running: Platform) -> None:
        chosen = ("--system", "Be kind.", "--max-tokens", "5", "--temperature", "0")
        inferno("run", MODEL, "hello", *chosen)
        assert running.bodies("/v1/chat/completions") == [
            {
                "model": MODEL,
                "messages": [
                    {"role": "system", "content": "Be kind."},
                    {"role": "user", "content": "hello"},
                ],
                "stream": True,
                "stream_options": {"include_usage": True},
                "max_tokens": 5,
                "temperature": 0.0,
            }
        ]

    def test_as_json(self, inferno: Inferno, running: Platform) -> None:
        assert json.loads(inferno("run", MODEL, "hello", "--json").stdout) == {
            "model": MODEL,
            "content": "You said: hello (1)",
            "finish_reason": "stop",
            "usage": {"prompt_tokens": 3, "completion_tokens": 4},
        }

    def test_reads_to_the_end(self, inferno: Inferno, running: Platform) -> None:
        assert inferno("run", MODEL, "end late").stdout == "You said: end late (1)\n"
        assert not running.left.wait(0.2), "it hung up at [DONE], and would count as having left"

    def test_json_is_for_prompts(self, inferno: Inferno, running: Platform) -> None:
        failed(inferno("run", MODEL, "--json"), 2)

    def test_comes_as_it_is_made(self, inferno: Inferno, running: Platform) -> None:
        process = inferno.start("run", MODEL, "for ever", stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            assert process.stdout.read(6) == b"on on "
        finally:
            stop(process)

    def test_ctrl_c_cancels_at_the_server(self, inferno: Inferno, running: Platform) -> None:
        process = inferno.start(
            "run", MODEL, "for ever", stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            process.stdout.read(6)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
        finally:
            stop(process)
        assert process.returncode == 130
        assert said == b""
        assert running.left.wait(5)

    def test_unknown_model(self, inferno: Inferno, running: Platform) -> None:
        assert failed(inferno("run", "gpt-5", "hello")) == "Model 'gpt-5' not found"

    def test_failure_after_the_first_words(self, inferno: Inferno, running: Platform) -> None:
        result = inferno("run", MODEL, "fail")
        assert failed(result) == "the replica died"
        assert result.stdout.startswith("You said: fail")

    def test_connection_lost_after_the_first_words(
        self, inferno: Inferno, running: Platform
    ) -> None:
        said = failed(inferno("run", MODEL, "break"))
        assert said.endswith("the connection was closed before the answer was complete")


class TestPipe:
    def test_is_the_prompt(self, inferno: Inferno, running: Platform) -> None:
        assert inferno("run", MODEL, stdin="hello\n").stdout == "You said: hello (1)\n"

    def test_is_added_to_the_prompt(self, inferno: Inferno, running: Platform) -> None:
        inferno("run", MODEL, "Summarise:", stdin="a long text\n")
        messages = running.bodies("/v1/chat/completions")[0]["messages"]
        assert messages[-1]["content"] == "Summarise:\n\na long text"

    def test_of_nothing_leaves_the_prompt(self, inferno: Inferno, running: Platform) -> None:
        assert inferno("run", MODEL, "hello", stdin="").stdout == "You said: hello (1)\n"

    @pytest.mark.parametrize("stdin", ["", " \n", None])
    def test_without_any_prompt(
        self, inferno: Inferno, running: Platform, stdin: str | None
    ) -> None:
        assert failed(inferno("run", MODEL, stdin=stdin), 2) == "the prompt is empty"

    def test_that_is_not_text(self, inferno: Inferno, running: Platform, tmp_path: Path) -> None:
        path = tmp_path / "bytes"
        path.write_bytes(b"caf\xe9")
        with path.open("rb") as stdin:
            process = inferno.start("run", MODEL, stdin=stdin, stdout=subprocess.DEVNULL)
            assert process.wait(30) == 0
        messages = running.bodies("/v1/chat/completions")[0]["messages"]
        assert messages[-1]["content"] == "caf\N{REPLACEMENT CHARACTER}"


class Terminal:
    """A chat in a terminal of its own."""

    def __init__(self, inferno: Inferno) -> None:
        self._ours, theirs = pty.openpty()
        attributes = termios.tcgetattr(theirs)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(theirs, termios.TCSANOW, attributes)
        self.process = inferno.start("run", MODEL, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        self._seen = ""

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def expect(self, text: str, seconds: float = 30.0) -> str:
        """Read until a text shows; return what came before it."""
        deadline = time.monotonic() + seconds
        while text not in self._seen:
            left = deadline - time.monotonic()
            assert select.select([self._ours], [], [], max(0, left))[0], self._seen
            try:
                data = os.read(self._ours, 4096)
            except OSError:  # Linux: the other side is closed
                data = b""
            assert data, f"ended before {text!r}: {self._seen!r}"
            self._seen += data.decode()
        before, _, self._seen = self._seen.partition(text)
        return before

    def close(self) -> None:
        stop(self.process)
        os.close(self._ours)


@pytest.fixture
def terminal(inferno: Inferno, running: Platform) -> Iterator[Terminal]:
    terminal = Terminal(inferno)
    yield terminal
    terminal.close()


class TestChat:
    def test_remembers_until_told_to_forget(self, terminal: Terminal, data_dir: Path) -> None:
        terminal.expect(">>> ")
        terminal.type("one\n")
        terminal.expect("You said: one (1)")
        terminal.expect(">>> ")
        terminal.type("two\n")
        terminal.expect("You said: two (3)")
        terminal.type("/clear\n")
        terminal.expect("Forgotten.")
        terminal.type("three\n")
        terminal.expect("You said: three (1)")
        terminal.type("/help\n")
        terminal.expect("/exit")
        terminal.type("/exit\n")
        assert terminal.process.wait(30) == 0
        history = data_dir / "chat_history"
        assert "two" in history.read_text().splitlines()
        assert history.stat().st_mode & 0o777 == 0o600

    def test_ctrl_d_ends(self, terminal: Terminal) -> None:
        terminal.expect(">>> ")
        terminal.type("\x04")
        assert terminal.process.wait(30) == 0

    def test_ctrl_c_stops_the_answer_only(self, terminal: Terminal, running: Platform) -> None:
        terminal.expect(">>> ")
        terminal.type("for ever\n")
        terminal.expect("on on ")
        terminal.process.send_signal(signal.SIGINT)
        assert running.left.wait(5)
        terminal.expect(">>> ")
        terminal.type("two\n")
        terminal.expect("You said: two (3)")

    def test_ctrl_c_at_the_prompt_says_how_to_leave(self, terminal: Terminal) -> None:
        terminal.expect(">>> ")
        # Python's readline misses a signal between printing its prompt and waiting for input.
        time.sleep(0.5)
        terminal.process.send_signal(signal.SIGINT)
        terminal.expect("/exit or Ctrl-D ends")
        terminal.type("one\n")
        terminal.expect("You said: one (1)")

    def test_goes_on_after_a_failure(self, terminal: Terminal) -> None:
        terminal.expect(">>> ")
        terminal.type("fail\n")
        terminal.expect("inferno: the replica died")
        terminal.expect(">>> ")
        terminal.type("two\n")
        terminal.expect("You said: two")


@pytest.fixture
def spawning(inferno: Inferno, tmp_path: Path) -> Inferno:
    """The command, which takes a small server for `inferno serve`."""
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\nshift 3\nexec {sys.executable} -m tests.unit.cli.fake_server "$@"\n'
    )
    python.chmod(0o755)
    code = (
        f"import sys; sys.executable = {str(python)!r}; "
        "from inferno.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    inferno.command = [sys.executable, "-c", code]
    inferno.environment["PYTHONPATH"] = str(ROOT)
    return inferno


class TestServerOfItsOwn:
    def test_is_started_and_stopped(self, spawning: Inferno, data_dir: Path) -> None:
        result = spawning("run", MODEL, "hello")
        assert (result.returncode, result.stdout) == (0, "You said: hello (1)\n"), result.stderr
        arguments = (data_dir / "arguments").read_text()
        assert "serve --host 127.0.0.1 --port 0 --management-port 0" in arguments
        assert not (data_dir / "run.json").exists()  # so it could stop in its own way
        assert not _lives(data_dir)

    def test_takes_over_from_one_that_died(self, spawning: Inferno, data_dir: Path) -> None:
        stale = {"inference_url": "http://127.0.0.1:1", "management_url": "", "pid": 2**22 + 1}
        (data_dir / "run.json").write_text(json.dumps(stale))
        result = spawning("run", MODEL, "hello")
        assert result.stdout == "You said: hello (1)\n", result.stderr

    def test_that_cannot_start_says_why(self, spawning: Inferno, data_dir: Path) -> None:
        (data_dir / "behaviour").write_text("refuse")
        said = failed(spawning("run", MODEL, "hello"))
        assert said == "the server did not start: the models folder cannot be read"

    def test_is_stopped_after_an_error(self, spawning: Inferno, data_dir: Path) -> None:
        failed(spawning("run", "gpt-5", "hello"))
        assert not _lives(data_dir)

    def test_outlives_ctrl_c_only_to_see_the_caller_leave(
        self, spawning: Inferno, data_dir: Path
    ) -> None:
        process = spawning.start("run", MODEL, "for ever", stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            process.stdout.read(6)
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
        finally:
            stop(process)
        assert not _lives(data_dir)
        assert (data_dir / "left").read_text() == "True"

    @pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")
    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_dies_with_the_command(
        self, spawning: Inferno, data_dir: Path, number: signal.Signals
    ) -> None:
        process = spawning.start("run", MODEL, "for ever", stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            process.stdout.read(6)
            process.send_signal(number)
            process.wait(30)
        finally:
            stop(process)
        wait_until(lambda: not _lives(data_dir))


def _lives(data_dir: Path) -> bool:
    """Whether the server that was started is still there (a zombie is not)."""
    pid = (data_dir / "pid").read_text()
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
