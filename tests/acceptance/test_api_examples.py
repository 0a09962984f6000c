"""Seed 001's own examples, run as they are written, byte for byte but for the host and the key.

They are kept in `examples/`. A model of the name that they use is served: the bundled one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inferno.engines import bundled
from tests.acceptance.platform import Platform, clean_environment

EXAMPLES = Path(__file__).with_name("examples")
HOST = "localhost:8080"
KEY = "your_api_key"
MODEL = "llama-2-7b"
CARGO_SECONDS = 900


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    data_dir = tmp_path_factory.mktemp("examples") / "data"
    (data_dir / "models").mkdir(parents=True)
    model = bundled.model_path()
    assert model is not None
    shutil.copyfile(model, data_dir / "models" / f"{MODEL}.gguf")
    with Platform(data_dir) as running:
        yield running


def example(platform: Platform, name: str) -> str:
    """Return an example with the platform's host and key in place of those it was written with."""
    text = (EXAMPLES / f"{name}.txt").read_text("utf-8")
    assert HOST in text
    return text.replace(HOST, platform.url.removeprefix("http://")).replace(KEY, platform.api_key)


def run(
    command: list[str], folder: Path, *, timeout: float = 60, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program and return what it wrote. Fails where it fails."""
    ran = subprocess.run(
        command,
        cwd=folder,
        env={**clean_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran


def test_python(platform: Platform, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(example(platform, "example.py"))
    whole, _, streamed = run([sys.executable, str(script)], tmp_path).stdout.partition("\n")
    assert whole
    assert streamed


def node_flags() -> list[str]:
    """Return what this Node needs to have `WebSocket`, which is there by itself from 22 on."""
    shown = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    return ["--experimental-websocket"] if int(shown[1:].split(".")[0]) < 22 else []


def without_types(typescript: str) -> str:
    """Return the example as JavaScript: not every Node understands its three annotations."""
    plain, count = re.subn(r": (?:string|Promise<string>)(?=[,){ ])", "", typescript)
    assert count == 3
    return plain


def test_javascript(platform: Platform, tmp_path: Path) -> None:
    script = tmp_path / "example.mjs"
    calls = """
        runInference('What is machine learning?').then((text) => {
          console.log(JSON.stringify(text));
          streamInference('Explain quantum physics');
        });
    """
    script.write_text(without_types(example(platform, "example.ts")) + calls)
    shown = run(["node", *node_flags(), str(script)], tmp_path)
    whole, _, streamed = shown.stdout.partition("\n")
    assert json.loads(whole)
    assert streamed.endswith("\nDone!\n")
    assert len(streamed) > len("\nDone!\n")
    assert "Error:" not in shown.stderr


def curl(platform: Platform, folder: Path, purpose: str) -> str:
    """Run one of the commands of the script; `purpose` is the comment that it stands under."""
    commands = re.split(r"^# (.*)\n", example(platform, "example.sh"), flags=re.MULTILINE)
    command = dict(zip(commands[1::2], commands[2::2], strict=True))[purpose]
    return run(["bash", "-euc", command], folder, API_KEY=platform.api_key).stdout


@pytest.mark.parametrize(
    ("purpose", "path", "value"),
    [
        ("Health check", ["status"], "healthy"),
        ("List models", ["models", 1, "id"], MODEL),
        ("Run inference", ["choices", 0, "finish_reason"], ...),
        ("OpenAI-compatible chat", ["choices", 0, "message", "role"], "assistant"),
    ],
)
def test_curl(
    platform: Platform, tmp_path: Path, purpose: str, path: list[Any], value: Any
) -> None:
    found: Any = json.loads(curl(platform, tmp_path, purpose))
    for step in path:
        found = found[step]
    assert isinstance(found, str)
    assert value in (..., found)


def test_curl_streams(platform: Platform, tmp_path: Path) -> None:
    lines = [line for line in curl(platform, tmp_path, "Stream inference").splitlines() if line]
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert len(events) > 1
    assert all(set(event) == {"token", "index"} for event in events[:-1])
    assert events[-1]["done"] is True


GO_MAIN = """
package main

import "fmt"

func main() {
    text, err := runInference("What is machine learning?")
    if err != nil {
        panic(err)
    }
    fmt.Print(text)
}
"""


@pytest.mark.skipif(shutil.which("go") is None, reason="needs go")
def test_go(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "example.go").write_text(example(platform, "example.go"))
    (tmp_path / "main.go").write_text(GO_MAIN)
    (tmp_path / "go.mod").write_text("module example\n\ngo 1.20\n")
    ran = run(["go", "run", "."], tmp_path, timeout=300, GOFLAGS="-mod=mod", GOPROXY="off")
    assert ran.stdout


CARGO = """
[package]
name = "example"
version = "0.0.0"
edition = "2021"

[dependencies]
reqwest = { version = ">=0.11, <0.13", default-features = false, features = ["json"] }
serde = { version = "1", features = ["derive"] }
tokio = { version = "1", features = ["macros", "rt"] }
"""
RUST_MAIN = """
#[tokio::main(flavor = "current_thread")]
async fn main() {
    print!("{}", run_inference("What is machine learning?").await.unwrap());
}
"""


DEBIAN_CRATES = Path("/usr/share/cargo/registry")
CARGO_SOURCE = f"""
[source.crates-io]
replace-with = "debian"

[source.debian]
directory = "{DEBIAN_CRATES}"
"""


@pytest.mark.skipif(shutil.which("cargo") is None, reason="needs cargo")
def test_rust(platform: Platform, tmp_path: Path) -> None:
    """Only where the example's crates are here, since tests use no network.

    Debian packages them (`librust-reqwest-dev`, `librust-serde-derive-dev`, `librust-tokio-dev`);
    else they may be in cargo's cache.
    """
    (tmp_path / "src").mkdir()
    (tmp_path / "Cargo.toml").write_text(CARGO)
    if list(DEBIAN_CRATES.glob("reqwest-*")):
        (tmp_path / ".cargo").mkdir()
        (tmp_path / ".cargo" / "config.toml").write_text(CARGO_SOURCE)
    (tmp_path / "src" / "main.rs").write_text(example(platform, "example.rs") + RUST_MAIN)
    resolved = subprocess.run(
        ["cargo", "fetch", "--offline", "--quiet"], cwd=tmp_path, capture_output=True, check=False
    )
    if resolved.returncode != 0:
        pytest.skip("the example's crates are not in cargo's cache")
    target = {"CARGO_TARGET_DIR": os.environ.get("CARGO_TARGET_DIR", str(tmp_path / "target"))}
    ran = run(["cargo", "run", "--offline", "--quiet"], tmp_path, timeout=CARGO_SECONDS, **target)
    assert ran.stdout
