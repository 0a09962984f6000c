"""A small HTTP server that speaks the inference API, and the real command in a process."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

KEY = "inf_test"
MODELS = [
    {
        "id": "llama-2-7b",
        "name": "Llama 2 7B",
        "type": "gguf",
        "size_bytes": 7516192768,
        "loaded": True,
        "context_size": 4096,
        "capabilities": ["text-generation", "embeddings"],
    },
    {"id": "odd[red]name", "name": "Odd", "type": "gguf", "size_bytes": 12, "loaded": False},
]


@dataclass
class Platform:
    """The server of a test: what it was asked, and whether callers left."""

    url: str
    requests: list[tuple[str, Any]] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)

    def bodies(self, path: str) -> list[Any]:
        return [body for requested, body in self.requests if requested == path]


class Handler(BaseHTTPRequestHandler):
    """Answers as the API does; the last message chooses how the answer goes on."""

    protocol_version = "HTTP/1.1"
    platform: Platform

    def do_GET(self) -> None:
        if self.path == "/health":
            self._json(200, {"status": "healthy", "version": "0.1.0", "models_loaded": 1})
        elif not self._authenticated():
            self._error(401, "AUTHENTICATION_FAILED", "Invalid credentials")
        elif self.path == "/models":
            self._json(200, {"models": MODELS})
        else:
            self._json(404, "nothing here")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "null")
        self.platform.requests.append((self.path, body))
        if not self._authenticated():
            self._error(401, "AUTHENTICATION_FAILED", "Invalid credentials")
        elif self.path == "/v1/chat/completions":
            self._chat(body)
        elif self.path == "/models/llama-2-7b/load":
            answer = {"memory_usage_bytes": 8589934592, "load_time_ms": 5432}
            self._json(200, {"status": "loaded", "model_id": "llama-2-7b", **answer})
        elif self.path == "/models/llama-2-7b/unload":
            self._json(200, {"status": "unloaded", "model_id": "llama-2-7b"})
        else:
            available = {"available_models": [model["id"] for model in MODELS]}
            self._error(404, "MODEL_NOT_FOUND", "Model not found", available)

    def _chat(self, body: Any) -> None:
        if body["model"] != "llama-2-7b":
            error = {"message": f"Model '{body['model']}' not found", "type": "x", "code": "y"}
            self._json(404, {"error": error})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            self._stream(body["messages"][-1]["content"], len(body["messages"]))
        except (BrokenPipeError, ConnectionResetError):
            self.platform.left.set()
        self.close_connection = True

    def _stream(self, asked: str, messages: int) -> None:
        self._delta({"role": "assistant", "content": ""})
        if asked == "for ever":
            while True:
                self._delta({"content": "on "})
                time.sleep(0.02)
        for word in ("You ", "said: ", f"{asked} ", f"({messages})"):
            self._delta({"content": word})
        if asked == "break":
            return
        if asked == "fail":
            self._event({"error": {"message": "the replica died", "code": "INFERENCE_FAILED"}})
            return
        self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self._event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}})
        self._chunk(b": a comment\n\ndata: [DONE]\n\n")
        if asked == "end late" and select.select([self.connection], [], [], 0.3)[0]:
            self.platform.left.set()
        self.wfile.write(b"0\r\n\r\n")

    def _delta(self, delta: dict[str, str]) -> None:
        self._event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})

    def _event(self, value: Any) -> None:
        self._chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _authenticated(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {KEY}"

    def _error(self, status: int, code: str, message: str, details: Any = None) -> None:
        self._json(status, {"error": {"code": code, "message": message, "details": details}})

    def _json(self, status: int, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        pass


@pytest.fixture
def platform() -> Iterator[Platform]:
    with serving() as running:
        yield running


class serving:  # noqa: N801 - used as a function
    """Serve in threads of this process."""

    def __enter__(self) -> Platform:
        class BoundHandler(Handler):
            """The handler of this one server."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), BoundHandler)
        self._server.daemon_threads = True
        platform = Platform(f"http://127.0.0.1:{self._server.server_port}")
        BoundHandler.platform = platform
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return platform

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def running(platform: Platform, data_dir: Path) -> Platform:
    """The server of a test, announced in the data folder as a real one is."""
    announce(data_dir, platform.url, os.getpid())
    return platform


def announce(data_dir: Path, url: str, pid: int) -> None:
    content = {"inference_url": url, "management_url": url, "pid": pid}
    (data_dir / "run.json").write_text(json.dumps(content))
    credentials = {"username": "admin", "password": "x", "api_key": KEY}
    (data_dir / "credentials.json").write_text(json.dumps(credentials))


class Inferno:
    """Runs the `inferno` command in processes of its own."""

    def __init__(self, data_dir: Path, home: Path) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("INFERNO_", "XDG_"))}
        self.environment = {**kept, "HOME": str(home), "INFERNO_DATA_DIR": str(data_dir)}
        self.command = [sys.executable, "-m", "inferno"]

    def __call__(
        self, *arguments: str, stdin: str | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, *arguments],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*self.command, *arguments], env=self.environment, **options)


@pytest.fixture
def inferno(data_dir: Path, tmp_path: Path) -> Inferno:
    return Inferno(data_dir, tmp_path)


def failed(result: subprocess.CompletedProcess[str], exit_code: int = 1) -> str:
    """Check that a command failed as it should, and return the one line that it printed."""
    assert result.returncode == exit_code, result.stderr
    assert "Traceback" not in result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("inferno: ")
    return lines[0].removeprefix("inferno: ")


def wait_until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.02)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process of a test, whatever it is doing."""
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    with process:  # waits, and closes the pipes
        pass
