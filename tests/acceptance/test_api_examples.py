"""The documented examples, as written but for the model's name, the key and the address."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.platform import MODEL, Platform


def test_the_python_example(platform: Platform) -> None:
    headers = {
        "Authorization": f"Bearer {platform.api_key}",
        "Content-Type": "application/json",
    }
    response = httpx.post(
        f"{platform.url}/inference",
        headers=headers,
        json={
            "model": MODEL,
            "prompt": "What is machine learning?",
            "max_tokens": 100,
            "temperature": 0.7,
        },
        timeout=60,
    )
    result = response.json()
    assert result["choices"][0]["text"]

    said = ""
    ended = False
    with httpx.stream(
        "POST",
        f"{platform.url}/inference/stream",
        headers=headers,
        json={
            "model": MODEL,
            "prompt": "Explain quantum physics",
            "max_tokens": 200,
            "stream": True,
        },
        timeout=60,
    ) as streamed:
        for line in streamed.iter_lines():
            if not line:
                continue
            data = json.loads(line.removeprefix("data: "))
            if "token" in data:
                said += data["token"]
            elif "done" in data:
                ended = True
                break
    assert said
    assert ended


CURLS: dict[str, list[str]] = {
    "health": ["$URL/health"],
    "models": ["-H", "Authorization: Bearer $API_KEY", "$URL/models"],
    "inference": [
        "-X", "POST", "-H", "Authorization: Bearer $API_KEY", "-H",
        "Content-Type: application/json", "-d",
        '{"model": "$MODEL", "prompt": "Hello, how are you?", "max_tokens": 50}',
        "$URL/inference",
    ],
    "stream": [
        "-X", "POST", "-H", "Authorization: Bearer $API_KEY", "-H",
        "Content-Type: application/json", "-H", "Accept: text/event-stream", "-d",
        '{"model": "$MODEL", "prompt": "Tell me a joke", "max_tokens": 100, "stream": true}',
        "$URL/inference/stream",
    ],
    "chat": [
        "-X", "POST", "-H", "Authorization: Bearer $API_KEY", "-H",
        "Content-Type: application/json", "-d",
        '{"model": "$MODEL", "messages": [{"role": "user", "content": "What is 2+2?"}]}',
        "$URL/v1/chat/completions",
    ],
}  # fmt: skip


def curl(platform: Platform, name: str) -> str:
    values = {"$URL": platform.url, "$API_KEY": platform.api_key, "$MODEL": MODEL}
    arguments = list(CURLS[name])
    for word, value in values.items():
        arguments = [argument.replace(word, value) for argument in arguments]
    command = ["curl", "-s", "-S", "--fail-with-body", "--max-time", "60", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("health", ["status"]),
        ("models", ["models", 0, "id"]),
        ("inference", ["choices", 0, "text"]),
        ("chat", ["choices", 0, "message", "content"]),
    ],
)
def test_the_curl_examples(platform: Platform, name: str, path: list[Any]) -> None:
    found: Any = json.loads(curl(platform, name))
    for step in path:
        found = found[step]
    assert isinstance(found, str)
    assert found


def test_the_curl_example_of_a_stream(platform: Platform) -> None:
    lines = [line for line in curl(platform, "stream").splitlines() if line]
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert all("token" in event for event in events[:-1])
    assert events[-1]["done"] is True


JAVASCRIPT = """
const API_KEY = process.env.API_KEY;
const BASE_URL = process.env.BASE_URL;

async function runInference(prompt) {
  const response = await fetch(`${BASE_URL}/inference`, {
    method: 'POST',
    headers: {
      'Authorization': `Bearer ${API_KEY}`,
      'Content-Type': 'application/json'
    },
    body: JSON.stringify({
      model: process.env.MODEL,
      prompt: prompt,
      max_tokens: 100,
      temperature: 0.7
    })
  });

  const result = await response.json();
  return result.choices[0].text;
}

runInference('What is the capital of France?').then((text) => process.stdout.write(text));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_javascript_example(platform: Platform, tmp_path: Path) -> None:
    script = tmp_path / "example.mjs"
    script.write_text(JAVASCRIPT)
    environment = {"API_KEY": platform.api_key, "BASE_URL": platform.url, "MODEL": MODEL}
    shown = subprocess.run(
        ["node", str(script)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=os.environ | environment,
    )
    assert shown.stdout
