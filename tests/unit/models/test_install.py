# ruff: noqa: ASYNC110, ASYNC220, ASYNC240 -- tests may block their own event loop
from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from inferno.core.errors import Conflict, InvalidRequest, ModelNotFound, NotFound
from inferno.models.folder import ModelsFolder
from inferno.models.hub import choose, parse
from inferno.models.incoming import Part, locked
from inferno.models.install import InstallFailed, Progress, install, remove
from tests.acceptance.hub import HubServer
from tests.unit.models.conftest import MakeModel

REPO = "owner/Tiny-GGUF"


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keeps the developer's own hub token and proxies out."""
    for name in ("HF_TOKEN", "HF_ENDPOINT", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inferno.models.download._BACKOFF_SECONDS", 0.01)


@pytest.fixture
def folder(tmp_path: Path) -> ModelsFolder:
    return ModelsFolder(tmp_path / "models")


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


@pytest.fixture
def source(tmp_path: Path, make_model: MakeModel) -> Path:
    """About 1 MB."""
    return make_model(tmp_path / "Tiny.Q8_0.gguf", rows=3000)


def _url(hub: HubServer, filename: str, content: bytes) -> str:
    hub.add(REPO, filename, content)
    return f"{hub.url}/{REPO}/resolve/main/{filename}"


def _visible(folder: ModelsFolder) -> list[str]:
    return sorted(path.name for path in folder.path.glob("*")) if folder.path.exists() else []


def _incoming(folder: ModelsFolder) -> list[str]:
    found = folder.incoming.glob("*") if folder.incoming.exists() else []
    return sorted(path.suffix for path in found)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- local files ---


async def test_from_a_path(folder: ModelsFolder, source: Path) -> None:
    states: list[Progress] = []
    model = await install(str(source), folder, sha256=_sha256(source), progress=states.append)
    assert model.name == "tiny.q8-0"
    assert model.header is not None
    assert model.path == folder.path / "tiny.q8-0.gguf"
    assert model.path.read_bytes() == source.read_bytes()
    assert _incoming(folder) == []
    size = source.stat().st_size
    assert Progress(size, size, "copying") in states
    assert states[-1] == Progress(size, size, "verifying")


async def test_the_same_again_is_no_conflict(folder: ModelsFolder, source: Path) -> None:
    first = await install(f"file://{source}", folder, name="one")
    assert await install(str(source), folder, name="one") == first
    assert await install(str(source), folder, name="one", sha256=_sha256(source)) == first
    assert _incoming(folder) == []


async def test_another_model_of_the_name_is_a_conflict(
    folder: ModelsFolder, source: Path, tmp_path: Path, make_model: MakeModel
) -> None:
    await install(str(source), folder, name="one")
    for rows in (3000, 16):
        other = make_model(tmp_path / "other.gguf", seed=7, rows=rows)
        with pytest.raises(Conflict, match="another model called 'one'"):
            await install(str(other), folder, name="one")
    with pytest.raises(Conflict):
        await install(str(other), folder, name="one", sha256=_sha256(other))
    model = await install(str(other), folder, name="one", force=True)
    assert model.header is not None
    assert model.header.name == "Tiny 7"
    assert _visible(folder) == [".incoming", "one.gguf"]


async def test_force_replaces_the_file_whatever_it_is_called(
    folder: ModelsFolder, source: Path, make_model: MakeModel
) -> None:
    folder.path.mkdir()
    make_model(folder.path / "Tiny.Q8_0.gguf")
    await install(str(source), folder, force=True)
    assert _visible(folder) == [".incoming", "tiny.q8-0.gguf"]


async def test_wrong_sources(folder: ModelsFolder, tmp_path: Path) -> None:
    for text in (
        "",
        "a\0b",
        "ftp://x/y.gguf",
        "http://",
        "hf://owner",
        "~nobody-here/x",
        str(tmp_path),
    ):
        with pytest.raises(InvalidRequest) as caught:
            await install(text, folder, name="x")
        assert caught.value.field == "source", text
    with pytest.raises(NotFound):
        await install(str(tmp_path / "absent.gguf"), folder)
    with pytest.raises(InvalidRequest) as caught:
        await install("x.gguf", folder, sha256="abc")
    assert caught.value.field == "sha256"
    with pytest.raises(InvalidRequest) as caught:
        await install("x.gguf", folder, name="../x")
    assert caught.value.field == "name"
    assert _visible(folder) == []


@pytest.mark.parametrize("content", [b"", b"<html>", b"GGUF\3\0\0\0"])
async def test_what_is_no_model_is_not_installed(
    folder: ModelsFolder, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "bad.gguf").write_bytes(content)
    with pytest.raises(InvalidRequest, match="not a usable model file") as caught:
        await install(str(tmp_path / "bad.gguf"), folder)
    assert caught.value.field == "source"
    assert _visible(folder) == [".incoming"]
    assert _incoming(folder) == []


async def test_a_wrong_digest_leaves_nothing(folder: ModelsFolder, source: Path) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await install(str(source), folder, sha256="0" * 64)
    assert caught.value.field == "sha256"
    assert _visible(folder) == [".incoming"]
    assert _incoming(folder) == []


async def test_split_models_come_whole(
    folder: ModelsFolder, tmp_path: Path, make_model: MakeModel
) -> None:
    for number in (1, 2):
        make_model(tmp_path / f"Big-0000{number}-of-00002.gguf", split=(number - 1, 2))
    first = tmp_path / "Big-00001-of-00002.gguf"
    model = await install(str(first), folder)
    assert (model.name, len(model.paths), model.error) == ("big", 2, None)
    assert await install(str(first), folder) == model
    shutil.copy(first, tmp_path / "alone.gguf")
    with pytest.raises(InvalidRequest, match="one of 2"):
        await install(str(tmp_path / "alone.gguf"), folder)
    # as a kill between the two renames leaves it
    model.paths[1].unlink()
    assert (await install(str(first), folder)).error is None
    remove(folder, "big")
    assert folder.scan() == []


async def test_remove(folder: ModelsFolder, source: Path) -> None:
    await install(str(source), folder, name="one")
    with locked(folder.incoming, "one"), pytest.raises(Conflict):
        remove(folder, "one")
    remove(folder, "one")
    assert folder.scan() == []
    with pytest.raises(ModelNotFound):
        remove(folder, "one")
    with pytest.raises(ModelNotFound):
        remove(folder, "../one")


async def test_a_full_disk_is_said(
    folder: ModelsFolder, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Part, "publish", full)
    with pytest.raises(InstallFailed, match="no room") as caught:
        await install(str(source), folder)
    assert caught.value.reason == "DiskFull"
    assert str(folder.path) not in caught.value.message
    assert _incoming(folder) == [".json", ".part"]


async def test_a_read_only_folder_is_said(
    folder: ModelsFolder, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InstallFailed) as caught:
        await install(str(source), folder)
    assert caught.value.reason == "PermissionDenied"


async def test_two_at_once_do_not_mix(folder: ModelsFolder, source: Path) -> None:
    results = await asyncio.gather(
        *(install(str(source), folder, name="one") for _ in range(8)), return_exceptions=True
    )
    assert all(isinstance(result, Conflict) or hasattr(result, "header") for result in results)
    assert any(hasattr(result, "header") for result in results)
    assert (folder.path / "one.gguf").read_bytes() == source.read_bytes()
    assert _incoming(folder) == []


# --- addresses ---


async def test_from_an_address(folder: ModelsFolder, hub: HubServer, source: Path) -> None:
    url = _url(hub, source.name, source.read_bytes())
    model = await install(f"{url}?download=true", folder, token="secret")
    assert model.name == "tiny.q8-0"
    assert model.path.read_bytes() == source.read_bytes()
    tokens = [(path, headers.get("Authorization")) for _, path, headers in hub.requests]
    assert tokens[0][1] == "Bearer secret"
    assert tokens[1][0].startswith("/cdn/")
    assert tokens[1][1] is None  # another host than the address's own


async def test_a_dropped_connection_is_resumed(
    folder: ModelsFolder, hub: HubServer, source: Path
) -> None:
    url = _url(hub, source.name, source.read_bytes())
    hub.drop_after, hub.drops_left = 200_000, 3
    model = await install(url, folder)
    assert model.path.read_bytes() == source.read_bytes()
    assert hub.bytes_sent == source.stat().st_size


async def test_the_next_install_goes_on(
    folder: ModelsFolder, hub: HubServer, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inferno.models.download._MAX_ATTEMPTS", 1)
    url = _url(hub, source.name, source.read_bytes())
    hub.drop_after = 700_000
    with pytest.raises(InstallFailed, match="install again") as caught:
        await install(url, folder)
    assert caught.value.reason == "Unreachable"
    assert _visible(folder) == [".incoming"]
    hub.drop_after, hub.bytes_sent = None, 0
    model = await install(url, folder)
    assert model.path.read_bytes() == source.read_bytes()
    assert hub.bytes_sent == source.stat().st_size - 700_000


async def test_a_file_that_changed_meanwhile_is_fetched_anew(
    folder: ModelsFolder,
    hub: HubServer,
    source: Path,
    make_model: MakeModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("inferno.models.download._MAX_ATTEMPTS", 1)
    url = _url(hub, source.name, source.read_bytes())
    hub.drop_after = 700_000
    with pytest.raises(InstallFailed):
        await install(url, folder)
    hub.drop_after = None
    changed = make_model(source, seed=9, rows=3000).read_bytes()
    hub.add(REPO, source.name, changed)
    assert (await install(url, folder)).path.read_bytes() == changed


async def test_an_existing_model_of_another_size_is_not_downloaded_over(
    folder: ModelsFolder, hub: HubServer, source: Path, make_model: MakeModel
) -> None:
    folder.path.mkdir()
    make_model(folder.path / "tiny.q8-0.gguf")
    with pytest.raises(Conflict):
        await install(_url(hub, source.name, source.read_bytes()), folder)
    assert _incoming(folder) == []


async def test_cancelling_keeps_what_came(
    folder: ModelsFolder, hub: HubServer, source: Path
) -> None:
    url = _url(hub, source.name, source.read_bytes())
    hub.stall_after = 300_000
    task = asyncio.create_task(install(url, folder))
    await _until(lambda: Part(folder.incoming, "tiny.q8-0").size == 300_000)
    begun = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - begun < 2  # though the server says nothing
    assert _incoming(folder) == [".json", ".part"]
    hub.stall_after, hub.bytes_sent = None, 0
    await install(url, folder)
    assert hub.bytes_sent == source.stat().st_size - 300_000


async def test_a_killed_install_leaves_nothing_visible(
    folder: ModelsFolder, hub: HubServer, source: Path
) -> None:
    url = _url(hub, source.name, source.read_bytes())
    hub.stall_after = 300_000
    script = (
        "import asyncio, sys\n"
        "from inferno.models.folder import ModelsFolder\n"
        "from inferno.models.install import install\n"
        "asyncio.run(install(sys.argv[1], ModelsFolder(sys.argv[2])))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, url, str(folder.path)]) as process:
        await _until(lambda: Part(folder.incoming, "tiny.q8-0").size == 300_000)
        with pytest.raises(Conflict):
            await install(url, folder)
        process.send_signal(signal.SIGKILL)
    assert _visible(folder) == [".incoming"]
    assert folder.scan() == []
    hub.stall_after, hub.bytes_sent = None, 0
    model = await install(url, folder)
    assert model.path.read_bytes() == source.read_bytes()
    assert hub.bytes_sent == source.stat().st_size - 300_000
    assert _incoming(folder) == []


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.02)


# --- hostile servers ---

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def _server(answer: Answer) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                answer(self)
            except OSError:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/evil.gguf"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _reply(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda h: _reply(h, 200, b"x" * 10, Content_Length="1000"), "Unreachable"),
        (lambda h: _reply(h, 200, b"x", Content_Length=str(10**15)), "TooLarge"),
        (lambda h: _reply(h, 206, b"x", Content_Range="bytes 0-0/1"), "BadAnswer"),
        (lambda h: _reply(h, 206, b"x"), "BadAnswer"),
        (lambda h: _reply(h, 200, b"x", Content_Encoding="gzip"), "BadAnswer"),
        (lambda h: _reply(h, 302, b"", Location="file:///etc/passwd"), "BadAnswer"),
        (lambda h: _reply(h, 302, b"", Location="/evil.gguf"), "BadAnswer"),
        (lambda h: _reply(h, 418, b""), "BadAnswer"),
        (lambda h: _reply(h, 403, b""), "AccessDenied"),
        (lambda h: _reply(h, 503, b""), "Unreachable"),
        (lambda h: h.wfile.write(b"nonsense\r\n\r\n"), "Unreachable"),
        (lambda h: None, "Unreachable"),
    ],
)
async def test_hostile_answers(folder: ModelsFolder, answer: Answer, reason: str) -> None:
    with _server(answer) as url, pytest.raises(InstallFailed) as caught:
        await asyncio.wait_for(install(url, folder), 20)
    assert caught.value.reason == reason
    assert _visible(folder) == [".incoming"]


async def test_an_endless_body_ends(folder: ModelsFolder) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        _reply(handler, 200, b"GGUF")
        while True:
            handler.wfile.write(b"x" * 65536)

    with _server(endless) as url, pytest.raises(InstallFailed) as caught:
        await install(url, folder, max_bytes=1_000_000)
    assert caught.value.reason == "TooLarge"
    assert Part(folder.incoming, "evil").size == 0


async def test_a_wrong_range_is_refused(folder: ModelsFolder, source: Path) -> None:
    content = source.read_bytes()
    size = len(content)

    def shifted(handler: BaseHTTPRequestHandler) -> None:
        if "Range" not in handler.headers:
            _reply(handler, 200, content[:1000], Content_Length=str(size), ETag='"1"')
            return
        range_ = f"bytes 999-{size - 1}/{size}"
        _reply(handler, 206, content[999:], Content_Range=range_, ETag='"1"')

    with _server(shifted) as url, pytest.raises(InstallFailed, match="another part"):
        await install(url, folder)
    assert _incoming(folder) == []


async def test_a_server_without_ranges_restarts(folder: ModelsFolder, source: Path) -> None:
    content = source.read_bytes()
    sent: list[str | None] = []

    def whole(handler: BaseHTTPRequestHandler) -> None:
        body = content[:1000] if not sent else content
        sent.append(handler.headers.get("Range"))
        _reply(handler, 200, body, Content_Length=str(len(content)), ETag='"1"')

    with _server(whole) as url:
        model = await install(url, folder)
    assert sent == [None, "bytes=1000-"]
    assert model.path.read_bytes() == content


async def test_names_in_headers_are_ignored(folder: ModelsFolder, source: Path) -> None:
    def named(handler: BaseHTTPRequestHandler) -> None:
        name = 'attachment; filename="../../../other.gguf"'
        _reply(handler, 200, source.read_bytes(), Content_Disposition=name)

    with _server(named) as url:
        assert (await install(url, folder)).name == "evil"


async def test_nobody_there(folder: ModelsFolder) -> None:
    with _server(lambda _: None) as url:
        pass
    with pytest.raises(InstallFailed) as caught:
        await install(url, folder)
    assert caught.value.reason == "Unreachable"


# --- the hub ---


async def test_from_the_hub(folder: ModelsFolder, hub: HubServer, source: Path) -> None:
    content = source.read_bytes()
    hub.add(REPO, "README.md", b"# Tiny")
    hub.add(REPO, "tiny.Q8_0.gguf", content)
    states: list[Progress] = []
    model = await install(f"hf://{REPO}", folder, hub_endpoint=hub.url, progress=states.append)
    assert model.name == "tiny.q8-0"
    assert model.path.read_bytes() == content
    assert {state.phase for state in states} == {"downloading", "verifying"}
    sent = hub.bytes_sent
    pinned = f"hf://{REPO}/tiny.Q8_0.gguf@main"
    assert await install(pinned, folder, hub_endpoint=hub.url) == model
    assert hub.bytes_sent == sent  # the digest says that it is there


async def test_hub_downloads_resume(folder: ModelsFolder, hub: HubServer, source: Path) -> None:
    hub.add(REPO, "tiny.gguf", source.read_bytes())
    hub.drop_after, hub.drops_left = 300_000, 2
    await install(f"hf://{REPO}", folder, hub_endpoint=hub.url)
    assert hub.bytes_sent == source.stat().st_size


async def test_hub_digests_are_checked(folder: ModelsFolder, hub: HubServer, source: Path) -> None:
    hub.add(REPO, "tiny.gguf", source.read_bytes())
    hub.wrong_digest = True
    with pytest.raises(InstallFailed) as caught:
        await install(f"hf://{REPO}", folder, hub_endpoint=hub.url)
    assert caught.value.reason == "ChecksumMismatch"
    assert _incoming(folder) == []


async def test_hub_refusals(folder: ModelsFolder, hub: HubServer, source: Path) -> None:
    hub.add(REPO, "tiny.gguf", source.read_bytes())
    hub.add("owner/gated", "tiny.gguf", source.read_bytes(), token="right")
    for text in ("hf://owner/none", f"hf://{REPO}@v9", f"hf://{REPO}/other.gguf"):
        with pytest.raises(NotFound):
            await install(text, folder, hub_endpoint=hub.url)
    with pytest.raises(InstallFailed) as caught:
        await install("hf://owner/gated", folder, hub_endpoint=hub.url, token="wrong")
    assert caught.value.reason == "AccessDenied"
    await install("hf://owner/gated", folder, hub_endpoint=hub.url, token="right")
    with pytest.raises(InstallFailed) as caught:
        await install(f"hf://{REPO}", folder, hub_endpoint="http://127.0.0.1:9")
    assert caught.value.reason == "Unreachable"


async def test_split_models_from_the_hub(
    folder: ModelsFolder, hub: HubServer, tmp_path: Path, make_model: MakeModel
) -> None:
    for number in (1, 2):
        path = make_model(tmp_path / "x.gguf", split=(number - 1, 2))
        hub.add(REPO, f"Q8_0/Big-0000{number}-of-00002.gguf", path.read_bytes())
    model = await install(f"hf://{REPO}", folder, hub_endpoint=hub.url)
    assert (model.name, len(model.paths), model.error) == ("big", 2, None)


def test_hub_server_serves_the_hubs_own_downloader(
    hub: HubServer, tmp_path: Path, source: Path
) -> None:
    from huggingface_hub import hf_hub_download, snapshot_download

    hub.add(REPO, "tiny.gguf", source.read_bytes())
    hub.drop_after, hub.drops_left = 500_000, 1
    path = hf_hub_download(REPO, "tiny.gguf", endpoint=hub.url, local_dir=tmp_path / "one")
    assert Path(path).read_bytes() == source.read_bytes()
    hub.drop_after = None
    whole = snapshot_download(REPO, endpoint=hub.url, cache_dir=tmp_path / "cache")
    assert (Path(whole) / "tiny.gguf").read_bytes() == source.read_bytes()
    assert not any("xet" in path for _, path, _ in hub.requests)


@pytest.mark.parametrize(
    ("paths", "chosen"),
    [
        (["a.gguf", "README.md"], ["a.gguf"]),
        (["a.gguf", "mmproj-a.gguf"], ["a.gguf"]),
        (["a.Q8_0.gguf", "a.Q4_K_M.gguf", "a.Q2_K.gguf"], ["a.Q4_K_M.gguf"]),
        (["a-q8_0.gguf", "a-IQ4_K_M.gguf"], ["a-q8_0.gguf"]),
        (
            ["b-00002-of-00002.gguf", "b-00001-of-00002.gguf"],
            ["b-00001-of-00002.gguf", "b-00002-of-00002.gguf"],
        ),
    ],
)
def test_choice_among_files(paths: list[str], chosen: list[str]) -> None:
    assert choose(paths) == chosen


@pytest.mark.parametrize("paths", [["a.Q2_K.gguf", "b.Q2_K.gguf"], ["a.Q4_0.gguf", "b.Q4_0.gguf"]])
def test_no_obvious_choice_lists_the_files(paths: list[str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        choose(paths)
    assert caught.value.details["files"] == paths


def test_no_model_in_a_repository() -> None:
    with pytest.raises(NotFound):
        choose(["README.md"])
    with pytest.raises(NotFound):
        choose(["b-00001-of-00002.gguf"])


@pytest.mark.parametrize(
    "text",
    [
        "hf://a",
        "hf://a/b/../c.gguf",
        "hf://a/b/c.txt",
        "hf://../b",
        "hf://a/b/",
        "hf://a/b@",
        "hf://a/b//c.gguf",
    ],
)
def test_malformed_hub_sources(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse(text)


def test_importing_is_cheap() -> None:
    script = (
        "import sys, inferno.models.install, inferno.models.hub\n"
        "heavy = {'huggingface_hub', 'httpx2', 'watchfiles', 'numpy', 'fsspec'}\n"
        "sys.exit(', '.join(heavy & sys.modules.keys()) or None)"
    )
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
