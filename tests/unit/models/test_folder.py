from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from inferno.core.errors import ConfigurationError
from inferno.models import folder as folder_module
from inferno.models.folder import ModelFile, ModelsFolder
from inferno.models.gguf import read_header
from tests.unit.models.conftest import MakeModel


def _only(folder: ModelsFolder) -> ModelFile:
    (model,) = folder.scan()
    return model


def _reason(model: ModelFile) -> str | None:
    return model.error.reason if model.error else None


def test_a_folder_that_is_not_there_has_no_models(tmp_path: Path) -> None:
    assert ModelsFolder(tmp_path / "absent").scan() == []


def test_something_else_in_its_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        ModelsFolder(tmp_path / "file").scan()


def test_lists_model_files_only(tmp_path: Path, make_model: MakeModel) -> None:
    path = make_model(tmp_path / "Tiny-1.Q8_0.gguf")
    for ignored in (".hidden.gguf", "b.gguf.part", "notes.txt"):
        shutil.copy(path, tmp_path / ignored)
    (tmp_path / "folder.gguf").mkdir()
    (tmp_path / "sub").mkdir()
    shutil.copy(path, tmp_path / "sub" / "deep.gguf")
    (tmp_path / "nowhere.gguf").symlink_to("absent")
    (tmp_path / "link-to-folder.gguf").symlink_to("sub")
    os.mkfifo(tmp_path / "pipe.gguf")
    model = _only(ModelsFolder(tmp_path))
    assert (model.name, model.path, model.error) == ("tiny-1.q8-0", path, None)
    assert model.header is not None
    assert model.header.architecture == "llama"
    assert model.size_bytes == path.stat().st_size


def test_links_to_files_count(tmp_path: Path, make_model: MakeModel) -> None:
    (tmp_path / "models").mkdir()
    target = make_model(tmp_path / "elsewhere.bin")
    (tmp_path / "models" / "linked.gguf").symlink_to(target)
    assert _only(ModelsFolder(tmp_path / "models")).header is not None


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "Truncated"), (b"html", "NotGGUF"), (b"GGUF\x63", "Truncated")]
)
def test_bad_files_are_listed_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "bad.gguf").write_bytes(content)
    model = _only(ModelsFolder(tmp_path))
    assert (model.name, model.header, _reason(model)) == ("bad", None, reason)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_files_are_listed(tmp_path: Path, make_model: MakeModel) -> None:
    make_model(tmp_path / "secret.gguf").chmod(0)
    assert _reason(_only(ModelsFolder(tmp_path))) == "Unreadable"


def test_files_without_an_architecture_are_no_models(tmp_path: Path, make_model: MakeModel) -> None:
    make_model(tmp_path / "m.gguf", architecture="")
    assert _reason(_only(ModelsFolder(tmp_path))) == "NotAModel"


def test_shards_are_one_model(tmp_path: Path, make_model: MakeModel) -> None:
    paths = [
        make_model(tmp_path / f"Big.Q8_0-0000{number}-of-00003.gguf", split=(number - 1, 3))
        for number in (1, 2, 3)
    ]
    model = _only(ModelsFolder(tmp_path))
    assert model.name == "big.q8-0"
    assert model.path == paths[0]
    assert model.paths == tuple(paths)
    assert model.size_bytes == sum(path.stat().st_size for path in paths)
    assert model.header is not None
    assert model.header.tensor_count == 9

    paths[1].unlink()
    model = _only(ModelsFolder(tmp_path))
    assert _reason(model) == "MissingShards"
    assert "these are missing: 2." in (model.error.message if model.error else "")


def test_a_renamed_shard_is_not_taken_for_a_model(tmp_path: Path, make_model: MakeModel) -> None:
    make_model(tmp_path / "whole.gguf", split=(0, 3))
    assert _reason(_only(ModelsFolder(tmp_path))) == "MissingShards"


def test_names_stay_unique_and_deterministic(tmp_path: Path, make_model: MakeModel) -> None:
    for name in ("Tiny.gguf", "tiny.gguf", "TINY.gguf", "日本.gguf", "中国.gguf"):
        make_model(tmp_path / name)
    models = {model.path.name: model.name for model in ModelsFolder(tmp_path).scan()}
    assert models["tiny.gguf"] == "tiny"
    assert len(set(models.values())) == 5
    assert models["Tiny.gguf"].startswith("tiny-")
    assert models["日本.gguf"].startswith("model-")
    (tmp_path / "tiny.gguf").rename(tmp_path / "aside.gguf")
    (tmp_path / "aside.gguf").rename(tmp_path / "tiny.gguf")
    assert {model.path.name: model.name for model in ModelsFolder(tmp_path).scan()} == models


def test_headers_are_read_once_for_each_state(
    tmp_path: Path, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_model(tmp_path / "m.gguf")
    reads = []

    def counted(path: Path) -> object:
        reads.append(path)
        return read_header(path)

    monkeypatch.setattr(folder_module, "read_header", counted)
    monkeypatch.setattr(folder_module, "_SETTLED_NS", 0)
    folder = ModelsFolder(tmp_path)
    for _ in range(3):
        folder.scan()
    assert len(reads) == 1
    make_model(path, seed=2)
    header = _only(folder).header
    assert header is not None
    assert header.name == "Tiny 2"


@asynccontextmanager
async def _watching(folder: ModelsFolder) -> AsyncIterator[asyncio.Queue[list[ModelFile]]]:
    """Scans at every change, as a caller does."""
    stop = asyncio.Event()
    scans: asyncio.Queue[list[ModelFile]] = asyncio.Queue()

    async def run() -> None:
        async for _ in folder.watch(stop):
            scans.put_nowait(await asyncio.to_thread(folder.scan))

    task = asyncio.create_task(run())
    try:
        yield scans
    finally:
        stop.set()
        await asyncio.wait_for(task, 5)


async def _until(
    scans: asyncio.Queue[list[ModelFile]], wanted: dict[str, str | None], seconds: float = 3.0
) -> None:
    """Waits for a scan that shows these names with these errors; the bound is loose for CI."""
    seen: list[ModelFile] = []
    try:
        async with asyncio.timeout(seconds):
            while True:
                seen = await scans.get()
                if {model.name: _reason(model) for model in seen} == wanted:
                    return
    except TimeoutError:
        pytest.fail(f"wanted {wanted}, last seen {seen}")


async def test_watch_sees_files_come_change_and_go(tmp_path: Path, make_model: MakeModel) -> None:
    folder = ModelsFolder(tmp_path / "models")
    async with _watching(folder) as scans:
        await _until(scans, {})
        folder.path.mkdir()  # created later
        await _until(scans, {})
        make_model(folder.path / "a.gguf")
        await _until(scans, {"a": None})
        (folder.path / "a.gguf").rename(folder.path / "b.gguf")
        await _until(scans, {"b": None})
        (folder.path / "b.gguf").write_bytes(b"html")
        await _until(scans, {"b": "NotGGUF"})
        (folder.path / "b.gguf").unlink()
        await _until(scans, {})


async def test_watch_sees_the_folder_replaced(tmp_path: Path, make_model: MakeModel) -> None:
    folder = ModelsFolder(tmp_path / "models")
    folder.path.mkdir()
    make_model(folder.path / "old.gguf")
    (tmp_path / "next").mkdir()
    make_model(tmp_path / "next" / "new.gguf")
    async with _watching(folder) as scans:
        await _until(scans, {"old": None})
        folder.path.rename(tmp_path / "away")
        (tmp_path / "next").rename(folder.path)
        await _until(scans, {"new": None})
        make_model(folder.path / "later.gguf")
        await _until(scans, {"new": None, "later": None})
        shutil.rmtree(folder.path)
        await _until(scans, {})


async def test_watch_follows_a_slow_copy(tmp_path: Path, make_model: MakeModel) -> None:
    content = make_model(tmp_path / "source.bin", rows=4096).read_bytes()
    folder = ModelsFolder(tmp_path / "models")
    folder.path.mkdir()
    states = []
    async with _watching(folder) as scans:
        with (folder.path / "slow.gguf").open("wb") as file:
            for start in range(0, len(content), len(content) // 10 + 1):
                file.write(content[start : start + len(content) // 10 + 1])
                file.flush()
                await asyncio.sleep(0.1)
                while not scans.empty():
                    states += [_reason(model) for model in scans.get_nowait()]
        if not states or states[-1] is not None:
            await _until(scans, {"slow": None})
    assert "Truncated" in states
    assert states.count(None) == states[::-1].index("Truncated")  # good only at the end


async def test_watch_works_without_the_systems_help(
    tmp_path: Path, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_watches_left(*_: object, **__: object) -> AsyncIterator[object]:
        async def changes() -> AsyncIterator[object]:
            raise OSError(28, "inotify watch limit reached")
            yield

        return changes()

    monkeypatch.setattr("watchfiles.awatch", no_watches_left)
    folder = ModelsFolder(tmp_path)
    async with _watching(folder) as scans:
        await _until(scans, {})
        make_model(tmp_path / "a.gguf")
        await _until(scans, {"a": None})


async def test_watch_sees_what_a_link_leads_to_change(
    tmp_path: Path, make_model: MakeModel
) -> None:
    folder = ModelsFolder(tmp_path / "models")
    folder.path.mkdir()
    target = make_model(tmp_path / "elsewhere.bin")
    (folder.path / "a.gguf").symlink_to(target)
    async with _watching(folder) as scans:
        await _until(scans, {"a": None})
        target.write_bytes(b"html")
        await _until(scans, {"a": "NotGGUF"})


async def test_cancelling_a_watch_leaves_the_callers_event_alone(tmp_path: Path) -> None:
    stop = asyncio.Event()

    async def run() -> None:
        async for _ in ModelsFolder(tmp_path).watch(stop):
            pass

    task = asyncio.create_task(run())
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not stop.is_set()
