"""A local server that speaks the Hugging Face hub's protocol, as far as downloads go.

    with HubServer() as hub:
        hub.add("owner/repo", "model.gguf", content)
        ... HF_ENDPOINT=hub.url ...

It answers model listings, resolves files as the hub does (a redirect to another address, with
the linked ETag and size beside it) and honours ranges. It advertises no Xet storage, so clients
use plain HTTP. It counts the bytes that it sent, and misbehaves on demand.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

_API = re.compile(
    r"/api/models/(?P<repo>[^/]+/[^/]+)"
    r"(/(?P<call>revision|tree|paths-info)/(?P<revision>[^/]+))?"
)
_RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass
class Repository:
    """One repository: its files and the token that reading it needs, if any."""

    name: str
    files: dict[str, bytes] = field(default_factory=dict)
    token: str | None = None

    @property
    def commit(self) -> str:
        """Changes with the content, like a commit does."""
        parts = [f"{path}:{_sha256(data)}" for path, data in sorted(self.files.items())]
        return hashlib.sha1("\n".join(parts).encode(), usedforsecurity=False).hexdigest()


class HubServer:
    """The server; use it as a context manager.

    Args:
        redirect: whether files are at another address than the one that resolves them, as on
            the hub.

    Attributes:
        bytes_sent: bytes of file content sent so far.
        requests: method, path and headers of every request so far.
        drop_after: breaks every connection after so many bytes of content; None never.
        drops_left: how often to do so; None always.
        stall_after: sends nothing more after so many bytes of content, and breaks the connection
            once it is set to None.
        wrong_digest: describes files by a digest that is not theirs.
    """

    def __init__(self, *, redirect: bool = True) -> None:
        self.repositories: dict[str, Repository] = {}
        self.redirect = redirect
        self.bytes_sent = 0
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.drop_after: int | None = None
        self.drops_left: int | None = None
        self.stall_after: int | None = None
        self.wrong_digest = False
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        """The server's address, for `HF_ENDPOINT`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, repository: str, path: str, content: bytes, *, token: str | None = None) -> None:
        """Puts a file into a repository, which is created if need be."""
        found = self.repositories.setdefault(repository, Repository(repository))
        found.files[path] = content
        found.token = token

    def sent(self, count: int) -> None:
        """Counts bytes of content."""
        with self._lock:
            self.bytes_sent += count

    def take_drop(self) -> int | None:
        """After how many bytes the answer about to be sent breaks."""
        with self._lock:
            if self.drop_after is None or self.drops_left == 0:
                return None
            if self.drops_left is not None:
                self.drops_left -= 1
            return self.drop_after

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def stall(self) -> None:
        """Waits while the server is told to stall."""
        while self.stall_after is not None:
            time.sleep(0.02)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stall_after = None
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(hub: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        pass

    Handler.hub = hub
    return Handler


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Tests read `HubServer.requests` instead."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, dict(self.headers.items())))
        if match := _API.fullmatch(path):
            self._describe(match["repo"], match["call"], match["revision"])
        elif match := _RESOLVE.fullmatch(path):
            self._resolve(match["repo"], match["revision"], match["path"])
        elif path.startswith("/cdn/"):
            self._send_stored(path.removeprefix("/cdn/"))
        else:
            self._error(404, "EntryNotFound", "not found")

    def _repository(self, name: str, revision: str | None) -> Repository | None:
        found = self.hub.repositories.get(name)
        if found is None:
            self._error(401, "RepoNotFound", "Repository not found")
        elif found.token and self.headers.get("Authorization") != f"Bearer {found.token}":
            self._error(403, "GatedRepo", "Access to the model is restricted")
        elif revision not in (None, "main", found.commit):
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return found
        return None

    def _describe(self, name: str, call: str | None, revision: str | None) -> None:
        repository = self._repository(name, revision)
        if repository is None:
            return
        if call in ("tree", "paths-info"):
            self._json([self._entry(*item) for item in sorted(repository.files.items())])
            return
        siblings = [
            {key: value for key, value in entry.items() if key not in ("path", "type", "oid")}
            | {"rfilename": entry["path"], "blobId": entry["oid"]}
            for entry in (self._entry(*item) for item in sorted(repository.files.items()))
        ]
        self._json(
            {
                "_id": "0" * 24,
                "id": name,
                "modelId": name,
                "sha": repository.commit,
                "private": False,
                "gated": False,
                "disabled": False,
                "tags": ["gguf"],
                "downloads": 0,
                "likes": 0,
                "siblings": siblings,
            }
        )

    def _entry(self, path: str, content: bytes) -> dict[str, Any]:
        sha256 = self._digest(content)
        return {
            "type": "file",
            "path": path,
            "oid": hashlib.sha1(content, usedforsecurity=False).hexdigest(),
            "size": len(content),
            "lfs": {"sha256": sha256, "oid": sha256, "size": len(content), "pointerSize": 134},
        }

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repository = self._repository(name, revision)
        if repository is None:
            return
        if path not in repository.files:
            self._error(404, "EntryNotFound", "Entry not found")
            return
        content = repository.files[path]
        headers = {
            "X-Repo-Commit": repository.commit,
            "X-Linked-Etag": f'"{self._digest(content)}"',
            "X-Linked-Size": str(len(content)),
        }
        if self.hub.redirect:
            location = f"{self.hub.url.replace('127.0.0.1', 'localhost')}/cdn/{_sha256(content)}"
            self._head(302, {**headers, "Location": location, "Content-Length": "0"})
        else:
            self._send(content, headers)

    def _send_stored(self, digest: str) -> None:
        for repository in list(self.hub.repositories.values()):
            for content in repository.files.values():
                if _sha256(content) == digest:
                    self._send(content, {})
                    return
        self._error(404, "EntryNotFound", "Entry not found")

    def _send(self, content: bytes, headers: dict[str, str]) -> None:
        tag = f'"{_sha256(content)}"'
        match = _RANGE.fullmatch(self.headers.get("Range", ""))
        if match and self.headers.get("If-Range", tag) != tag:
            match = None
        start, status = (int(match[1]), 206) if match else (0, 200)
        if start >= len(content) and match:
            self._head(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"})
            return
        end = min(int(match[2] or len(content) - 1) if match else len(content), len(content) - 1)
        body = content[start : end + 1]
        headers = {**headers, "ETag": tag, "Accept-Ranges": "bytes"}
        if match:
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
        self._head(status, {**headers, "Content-Length": str(len(body))})
        if self.command != "HEAD":
            self._send_body(body)

    def _send_body(self, body: bytes) -> None:
        drop = self.hub.take_drop()
        sent = body if drop is None else body[:drop]
        stall = self.hub.stall_after
        try:
            if stall is not None:
                self._send_pieces(sent[:stall])
                self.hub.stall()
                self.close_connection = True
                return
            self._send_pieces(sent)
        except OSError:  # the client left
            self.close_connection = True
        if len(sent) < len(body):
            self.close_connection = True

    def _send_pieces(self, body: bytes) -> None:
        for start in range(0, len(body), 65536):
            piece = body[start : start + 65536]
            self.wfile.write(piece)
            self.hub.sent(len(piece))

    def _digest(self, content: bytes) -> str:
        return "0" * 64 if self.hub.wrong_digest else _sha256(content)

    def _json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self._head(200, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, status: int, code: str, message: str) -> None:
        body = json.dumps({"error": message}).encode()
        headers = {"X-Error-Code": code, "X-Error-Message": message}
        self._head(
            status,
            {**headers, "Content-Type": "application/json", "Content-Length": str(len(body))},
        )
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
