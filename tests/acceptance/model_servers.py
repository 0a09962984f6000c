"""Model servers that somebody else runs, as the gateway meets them: well, slow, broken, hostile.

Each is a real HTTP server on a socket of its own that speaks as much of OpenAI's API as vLLM does,
and does wrong what its script says.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from tests.acceptance.access import bearer
from tests.acceptance.platform import Platform, wait_until

Fault = Literal[
    "", "garbage", "hang", "reset", "break off", "busy", "error", "close", "stutter", "silence"
]
"""What is wrong with answers to POSTs: nothing; bytes that are no HTTP; no answer at all; the
connection reset; a body that ends too early; 503; 500; every connection closed after its answer;
a stream that breaks off; a stream that falls silent."""

USAGE = {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}
WORDS = [" one", " two", " three"]


@dataclass
class ModelServer:
    """A server with one or more models.

    Args:
        name: it answers with its name.
        models: what it lists.
        owner: of the models: tells the engine.
        fault: what is wrong with it.
        seconds: that it takes for an answer.
        slots: answers that it works on at once; the others wait.
        adapters: LoRA adapters, as llama.cpp lists them.
        usage: what it says that answers took.
    """

    name: str
    models: list[str] = field(default_factory=lambda: ["base"])
    owner: str = "vllm"
    fault: Fault = ""
    seconds: float = 0.0
    slots: int = 100
    adapters: list[str] = field(default_factory=list)
    usage: Any = field(default_factory=lambda: dict(USAGE))
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    abandoned: int = 0

    def __post_init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._places = threading.Semaphore(self.slots)
        self._stopped = False
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Listen no more and hang up on everybody, as a server that is killed."""
        self._stopped = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._stopped:
            try:
                one, _ = self._socket.accept()
            except OSError:
                return
            self._open.add(one)
            threading.Thread(target=self._serve, args=(one,), daemon=True).start()

    def _serve(self, one: socket.socket) -> None:
        with suppress(OSError), one, one.makefile("rb") as incoming:
            while line := incoming.readline():
                method, path, _ = line.decode("latin-1").split(" ", 2)
                headers: dict[str, str] = {}
                while (header := incoming.readline().strip()) != b"":
                    key, _, value = header.decode("latin-1").partition(":")
                    headers[key.lower()] = value.strip()
                body = incoming.read(int(headers.get("content-length", 0)))
                if method == "GET":
                    _send(one, 200 if (page := self._page(path)) is not None else 404, page or {})
                    continue
                self.bodies.append(body.decode())
                if not self._answer(one, headers, json.loads(body)):
                    break
        self._open.discard(one)

    def _page(self, path: str) -> Any:
        listed = [{"id": name, "object": "model", "owned_by": self.owner} for name in self.models]
        pages: dict[str, Any] = {"/v1/models": {"object": "list", "data": listed}, "/health": {}}
        if self.owner == "llamacpp":
            found = [{"id": i, "path": f"/l/{n}.gguf"} for i, n in enumerate(self.adapters)]
            pages |= {"/props": {"total_slots": self.slots}, "/lora-adapters": found}
        return pages.get(path)

    def _answer(self, one: socket.socket, headers: dict[str, str], request: dict[str, Any]) -> bool:
        """Answer a POST; returns whether the connection goes on."""
        self.requests.append(request)
        self.headers.append(headers)
        if self.fault == "garbage":
            one.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
            return False
        if self.fault == "reset":
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            one.close()
            return False
        if self.fault == "hang":
            self.abandoned += one.recv(1) == b""
            return False
        if self.fault == "busy":
            _send(one, 503, {"error": {"message": "Overloaded here."}})
            return True
        if self.fault == "error":
            _send(one, 500, {"error": {"message": "It broke."}})
            return True
        with self._places:
            time.sleep(self.seconds)
            if request.get("stream"):
                return self._stream(one, request)
            return self._whole(one, request)

    def _whole(self, one: socket.socket, request: dict[str, Any]) -> bool:
        text = f"{self.name} says{''.join(WORDS)}"
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "text": text,
            "finish_reason": "stop",
        }
        answer = {**_head(request, "chat.completion"), "choices": [choice], "usage": self.usage}
        if self.fault == "break off":
            body = json.dumps(answer).encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            one.sendall(head + body[: len(body) // 2])
            return False
        _send(one, 200, answer)
        return self.fault != "close"

    def _stream(self, one: socket.socket, request: dict[str, Any]) -> bool:
        one.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        head = _head(request, "chat.completion.chunk")
        for number, word in enumerate([self.name, *WORDS]):
            if number == 2 and self.fault in ("break off", "stutter"):
                return False
            if number == 2 and self.fault == "silence":
                self.abandoned += one.recv(1) == b""
                return False
            choice = {"index": 0, "delta": {"content": word}, "text": word, "finish_reason": None}
            _chunk(one, {**head, "choices": [choice], "usage": None})
        last = {"index": 0, "delta": {}, "text": "", "finish_reason": "stop"}
        _chunk(one, {**head, "choices": [last]})
        if (request.get("stream_options") or {}).get("include_usage"):
            _chunk(one, {**head, "choices": [], "usage": self.usage})
        one.sendall(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        return self.fault != "close"


def _head(request: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": request["model"]}


def _send(one: socket.socket, status: int, content: Any) -> None:
    body = json.dumps(content, separators=(",", ":")).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
    one.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


def _chunk(one: socket.socket, content: Any) -> None:
    event = b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"
    one.sendall(b"%x\r\n%b\r\n" % (len(event), event))


@contextmanager
def model_servers(*servers: ModelServer) -> Iterator[tuple[ModelServer, ...]]:
    """Stop servers at the end of the block."""
    try:
        yield servers
    finally:
        for server in servers:
            server.stop()


class Cluster:
    """The cluster API of a platform, for tests that need resources to be there.

    Args:
        platform: whose.
        key: of the caller; by default the admin's.
        namespace: of what is made.
    """

    GROUPS = {
        "InferencePool": "inference.networking.x-k8s.io/v1alpha1",
        "InferenceModel": "inference.networking.x-k8s.io/v1alpha1",
        "InferenceObjective": "inference.networking.x-k8s.io/v1alpha2",
        "InferenceService": "serving.kserve.io/v1beta1",
        "ModelServer": "inferno.dev/v1alpha1",
        "Secret": "v1",
        "Namespace": "v1",
    }

    def __init__(
        self, platform: Platform, key: str | None = None, namespace: str = "default"
    ) -> None:
        self._platform = platform
        self._namespace = namespace
        self._headers = bearer(key or platform.api_key)

    def _path(self, kind: str) -> str:
        version = self.GROUPS[kind]
        prefix = "apis" if "/" in version else "api"
        plural = f"{kind.lower()}s"
        if kind == "Namespace":
            return f"/{prefix}/{version}/{plural}"
        return f"/{prefix}/{version}/namespaces/{self._namespace}/{plural}"

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        url = f"{self._platform.management_url}/k8s{path}"
        return httpx.request(method, url, headers=self._headers, timeout=60, **options)

    def create(self, kind: str, name: str, spec: Any = None, **more: Any) -> dict[str, Any]:
        """Create a resource and return it."""
        metadata = {"name": name, **more.pop("metadata", {})}
        body = {"apiVersion": self.GROUPS[kind], "kind": kind, "metadata": metadata, **more}
        if spec is not None:
            body["spec"] = spec
        answer = self._send("POST", self._path(kind), json=body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """Return a resource."""
        return dict(self._send("GET", f"{self._path(kind)}/{name}").raise_for_status().json())

    def delete(self, kind: str, name: str) -> None:
        """Delete a resource."""
        self._send("DELETE", f"{self._path(kind)}/{name}").raise_for_status()

    def condition(self, kind: str, name: str, type_: str) -> tuple[str, str]:
        """Return status and reason of a condition."""
        for one in self.get(kind, name).get("status", {}).get("conditions", []):
            if one["type"] == type_:
                return one["status"], one["reason"]
        return "", ""

    def pool(self, name: str, *servers: ModelServer, **spec: Any) -> None:
        """Create a pool of servers and wait until it is ready."""
        label = {"pool": name}
        self.create("InferencePool", name, {"selector": label, "targetPortNumber": 8000, **spec})
        for server in servers:
            self.server(server, pool=name)
        wait_until(
            lambda: self.condition("InferencePool", name, "Ready")[0] == "True",
            20,
            "the pool was not ready",
            lambda: json.dumps(self.get("InferencePool", name)),
        )
        ready = f"{len(servers)}"
        wait_until(
            lambda: all(self._is_ready(server) for server in servers), 20, f"not all {ready} ready"
        )

    def server(self, server: ModelServer, *, pool: str, **spec: Any) -> None:
        """Declare a server of a pool."""
        self.create(
            "ModelServer",
            server.name,
            {"address": "127.0.0.1", "port": server.port, **spec},
            metadata={"labels": {"pool": pool}},
        )

    def _is_ready(self, server: ModelServer) -> bool:
        return self.condition("ModelServer", server.name, "Ready")[0] == "True"

    def model(
        self, name: str, pool: str, *, targets: dict[str, int] | None = None, **spec: Any
    ) -> None:
        """Create an InferenceModel and wait until it is looked at."""
        wanted = {"modelName": name, "poolRef": {"name": pool}, **spec}
        if targets is not None:
            wanted["targetModels"] = [{"name": t, "weight": w} for t, w in targets.items()]
        resource = wanted.pop("resource", name)
        self.create("InferenceModel", resource, wanted)
        wait_until(
            lambda: (
                self.condition("InferenceModel", resource, "Accepted")[0] not in ("", "Unknown")
            ),
            20,
            f"nobody looked at {name}",
        )


def within(condition: Callable[[], object]) -> None:
    """Wait until what is true in the end is true now."""
    wait_until(condition, 20, "it did not become true")
