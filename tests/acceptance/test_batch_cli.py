"""`inferno batch`, the real command against a real platform."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.acceptance.batches import entries, jsonl, openai_lines
from tests.acceptance.platform import MODEL, Platform, clean_environment, wait_until

Start = Callable[..., Platform]
INFERNO = [sys.executable, "-m", "inferno", "batch"]


def begin(platform: Platform, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start the command."""
    return subprocess.Popen(
        [*INFERNO, *arguments, "--data-dir", str(platform.data_dir)],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=options.pop("stderr", subprocess.PIPE),
        text=True,
        **options,
    )


def command(platform: Platform, *arguments: str) -> tuple[int, str, str]:
    """Run the command to its end."""
    with begin(platform, *arguments) as process:
        out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def batches(platform: Platform) -> list[dict[str, Any]]:
    with platform.http() as client:
        return list(client.get("/batch").json()["batches"])


def test_from_file_to_file(platform: Platform, tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(jsonl(entries(20)))
    run = ("run", str(source), "-o", str(output), "--model", MODEL, "--max-tokens", "3")
    code, out, err = command(platform, *run)
    assert (code, err) == (0, "")
    assert out == f"Wrote 20 results to {output}.\n"
    results = read(output)
    assert [one["id"] for one in results] == [f"request-{i}" for i in range(20)]
    assert all(one["usage"]["completion_tokens"] <= 3 for one in results)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]
    code, _, err = command(platform, *run)
    assert code == 1
    assert "--force" in err


def test_lines_of_openai(platform: Platform, tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = openai_lines(3)
    lines[1]["body"]["top_p"] = 7
    source.write_bytes(jsonl(lines))
    code, _, err = command(platform, "run", str(source), "-o", str(output))
    assert code == 1
    assert "1 of 3 requests failed" in err
    results = read(output)
    assert [one["custom_id"] for one in results] == ["request-0", "request-1", "request-2"]
    assert [one["response"]["status_code"] for one in results] == [200, 400, 200]


def test_what_cannot_be_used_is_named(platform: Platform, tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(jsonl([*entries(2), {"id": "x", "promt": "typo"}]))
    code, _, err = command(platform, "run", str(source), "-o", str(output), "-m", MODEL)
    assert code == 1
    assert "Line 3" in err
    assert "promt" in err
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_no_server(tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(jsonl(entries(1)))
    code, _, err = command(Platform(tmp_path / "data"), "run", str(source), "-o", str(output))
    assert code == 1
    assert "no server runs" in err
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_it_goes_on_after_interruptions(start: Start, tmp_path: Path) -> None:
    """The command is killed, interrupted, and the platform is killed: it is still one batch."""
    platform = start()
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(jsonl(entries(80)))
    run = ("run", str(source), "-o", str(output), "-m", MODEL, "--max-tokens", "64")
    state = tmp_path / "out.jsonl.batch"
    for number in (signal.SIGINT, signal.SIGKILL):
        with begin(platform, *run) as process:
            wait_until(lambda: batches(platform), 30, "nothing was handed in")
            wait_until(
                lambda: state.exists() and json.loads(state.read_text())["batch_id"], 30, "no id"
            )
            process.send_signal(number)
            _, err = process.communicate(timeout=30)
        assert process.returncode == (-9 if number == signal.SIGKILL else 130)
        assert number == signal.SIGKILL or "goes on" in err
        assert not output.exists()
    with begin(platform, *run) as process:
        platform.kill()
        (platform.data_dir / "run.json").unlink(missing_ok=True)
        platform.start()
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert out == f"Wrote 80 results to {output}.\n"
    assert [one["id"] for one in read(output)] == [f"request-{i}" for i in range(80)]
    assert len(batches(platform)) == 1
    assert not state.exists()


def test_a_download_goes_on_where_it_stopped(platform: Platform, tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(jsonl(entries(10)))
    run = ("run", str(source), "-o", str(output), "-m", MODEL, "--max-tokens", "2")
    state, part = tmp_path / "out.jsonl.batch", tmp_path / "out.jsonl.part"
    with begin(platform, *run) as process:
        wait_until(
            lambda: state.exists() and json.loads(state.read_text())["batch_id"], 30, "no id"
        )
        process.kill()
        process.communicate()
    if not state.exists():  # it was quick
        return
    part.write_bytes(b'{"id":"mine"}\n' * 4 + b'{"id":"half')
    assert command(platform, *run)[0] == 0
    assert [one["id"] for one in read(output)] == [
        *["mine"] * 4,
        *(f"request-{i}" for i in range(4, 10)),
    ]


def test_a_terminal_sees_progress(platform: Platform, tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(jsonl(entries(30)))
    controller, terminal = pty.openpty()
    run = ("run", str(source), "-o", str(output), "-m", MODEL, "--max-tokens", "40")
    with begin(platform, *run, stderr=terminal) as process:
        os.close(terminal)
        shown = b""
        while part := read_some(controller):
            shown += part
        assert process.wait(60) == 0
    os.close(controller)
    assert re.search(rb"\d+/30", shown)


def read_some(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux says so when the other end is closed
        return b""


def test_seeing_to_batches(platform: Platform, tmp_path: Path) -> None:
    with platform.http() as client:
        body = {"model": MODEL, "requests": entries(2, max_tokens=2)}
        quick = client.post("/batch", json=body).json()["batch_id"]
        body = {"model": MODEL, "requests": entries(200, max_tokens=300)}
        slow = client.post("/batch", json=body).json()["batch_id"]
    code, out, _ = command(platform, "list", "--limit", "2")
    assert code == 0
    assert out.index(slow) < out.index(quick)
    code, _, err = command(platform, "delete", slow)
    assert code == 1
    assert "cancel" in err
    assert command(platform, "cancel", slow)[1].startswith(f"Batch {slow} is cancel")

    def has_ended(batch: str) -> bool:
        shown = json.loads(command(platform, "get", batch, "--json")[1])
        return shown["status"] not in ("processing", "cancelling")

    for batch in (quick, slow):
        wait_until(lambda batch=batch: has_ended(batch), 60, "it did not end")  # type: ignore[misc]
    assert "cancelled" in command(platform, "get", slow)[1]
    lines = command(platform, "results", quick)[1].splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["request-0", "request-1"]
    assert command(platform, "delete", slow)[1] == f"Deleted {slow}.\n"
    code, _, err = command(platform, "get", slow)
    assert code == 1
    assert "no batch" in err
