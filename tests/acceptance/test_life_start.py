"""Starting the platform: what it writes, prints, honours and refuses."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.acceptance.platform import Platform, clean_environment, wait_until

Start = Callable[..., Platform]

KEY = "inf_a-key-that-somebody-chose-0123456789"
PASSWORD = "a phrase that nobody guesses 42"


WITHOUT_MODELS = {"INFERNO_BUNDLED_MODEL": "false"}
"""Starts sooner."""


def refused(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Run `inferno serve` where it must not start, and return the one line that says why."""
    done = subprocess.run(
        [sys.executable, "-m", "inferno", "serve", *arguments],
        env={**clean_environment(), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode in (1, 2), done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("inferno: ")
    return line


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def serves(platform: Platform) -> bool:
    """Return whether `run.json` is this run's, and not that of one that was killed."""
    try:
        return bool(platform.run_file["pid"] == platform.pid)
    except FileNotFoundError:
        return False


def curl_line(platform: Platform) -> str:
    """Return the line that was printed last for people to paste."""
    lines = [line.strip() for line in platform.log_text().splitlines()]
    return [line for line in lines if line.startswith("curl ")][-1]


def paste(line: str) -> str:
    """Run a line as somebody's shell would."""
    done = subprocess.run(
        ["bash", "-c", line], env=clean_environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_first_start_and_second_start(start: Start, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    platform = start(environment={"HOME": str(home)})
    data = platform.data_dir
    assert platform.run_file == {
        "inference_url": platform.url,
        "management_url": platform.management_url,
        "pid": platform.pid,
    }
    for url in (platform.url, platform.management_url):
        assert httpx.get(f"{url}/health").status_code == 200
    credentials = json.loads((data / "credentials.json").read_text())
    assert credentials["username"] == "admin"
    assert mode_of(data) == 0o700
    assert mode_of(data / "credentials.json") == 0o600
    assert {mode_of(file) for file in data.iterdir() if file.is_file()} == {0o600}
    printed = platform.log_text()
    for shown in (credentials["password"], credentials["api_key"], platform.url):
        assert shown in printed
    assert platform.management_url in printed
    assert f"{platform.url}/docs" in printed
    assert "Paris" in paste(curl_line(platform))
    assert httpx.get(f"{platform.url}/models").status_code == 401
    assert platform.stop() == 0
    assert not (data / "run.json").exists()

    before = len(platform.log_text())
    platform.start()
    printed = platform.log_text()[before:]
    assert credentials["password"] not in printed
    assert credentials["api_key"] not in printed
    assert json.loads((data / "credentials.json").read_text()) == credentials
    assert "Paris" in paste(curl_line(platform))
    assert platform.stop() == 0
    assert list(home.rglob("*")) == []  # all that the platform keeps is in its data folder


def test_chosen_credentials_are_honoured_and_kept_nowhere(start: Start) -> None:
    chosen = {"INFERNO_API_KEY": KEY, "INFERNO_ADMIN_PASSWORD": PASSWORD}
    platform = start(environment={**chosen, **WITHOUT_MODELS})
    headers = {"Authorization": f"Bearer {KEY}"}
    assert httpx.get(f"{platform.url}/models", headers=headers).json() == {"models": []}
    wrong = {"Authorization": f"Bearer {KEY}0"}
    assert httpx.get(f"{platform.url}/models", headers=wrong).status_code == 401
    assert paste(f"export INFERNO_API_KEY={KEY}\n{curl_line(platform)}") == '{"models":[]}'
    assert platform.stop() == 0

    again = start(environment=WITHOUT_MODELS)  # the key still works, and nothing here knows it
    assert paste(f"export INFERNO_API_KEY={KEY}\n{curl_line(again)}") == '{"models":[]}'
    assert again.stop() == 0
    kept = [file for file in platform.data_dir.rglob("*") if file.is_file()]
    for file in [*kept, platform.log]:
        content = file.read_bytes()
        assert KEY.encode() not in content, file
        assert PASSWORD.encode() not in content, file


def test_key_in_the_environment_of_a_later_start_opens_nothing(start: Start) -> None:
    platform = start(environment=WITHOUT_MODELS)
    first = platform.api_key
    assert platform.stop() == 0
    again = start(environment={**WITHOUT_MODELS, "INFERNO_API_KEY": KEY})
    for key, status in ((first, 200), (KEY, 401)):
        headers = {"Authorization": f"Bearer {key}"}
        assert httpx.get(f"{again.url}/models", headers=headers).status_code == status


def test_without_authentication_on_loopback(start: Start) -> None:
    platform = start("--no-auth", environment=WITHOUT_MODELS)
    assert paste(curl_line(platform)) == '{"models":[]}'
    assert "Authorization" not in curl_line(platform)
    assert "API key" not in platform.log_text()
    assert platform.stop() == 0


def test_all_addresses(start: Start) -> None:
    platform = start("--host", "0.0.0.0", environment=WITHOUT_MODELS)
    assert paste(curl_line(platform)) == '{"models":[]}'


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform without models, for others to collide with."""
    data = tmp_path_factory.mktemp("start") / "data"
    with Platform(data, environment=WITHOUT_MODELS) as platform:
        yield platform


def test_port_that_is_taken(empty: Platform, tmp_path: Path) -> None:
    port = empty.url.rpartition(":")[2]
    line = refused("--port", port, "--management-port", "0", "--data-dir", str(tmp_path / "other"))
    assert f"127.0.0.1:{port}" in line
    assert "in use" in line
    assert not (tmp_path / "other" / "credentials.json").exists()


def test_two_platforms_on_one_data_folder(empty: Platform) -> None:
    data = str(empty.data_dir)
    line = refused("--port", "0", "--management-port", "0", "--data-dir", data)
    assert "Another inferno" in line
    assert data in line
    assert empty.run_file["pid"] == empty.pid  # the running one is left alone
    assert httpx.get(f"{empty.url}/health").status_code == 200


def test_curl_line_without_the_bundled_model(empty: Platform) -> None:
    assert json.loads(paste(curl_line(empty))) == {"models": []}


def test_killed_platform_leaves_a_folder_that_can_be_served_from(start: Start) -> None:
    platform = start(environment=WITHOUT_MODELS)
    key = platform.api_key
    platform.kill()
    assert (platform.data_dir / "run.json").exists()
    platform.start()
    wait_until(lambda: serves(platform), 60, "it did not start again", platform.log_text)
    assert platform.api_key == key
    assert platform.models() == {}


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["--no-auth", "--host", "0.0.0.0"], {}, "--no-auth on 0.0.0.0"),
        (["--host", "0.0.0.0"], {"INFERNO_ADMIN_PASSWORD": "admin123"}, "INFERNO_ADMIN_PASSWORD"),
        ([], {"INFERNO_PROT": "9"}, "did you mean 'INFERNO_PORT'"),
        ([], {"INFERNO_PORT": "many"}, "port"),
        (["--port", "99999"], {}, "port"),
        (["--host", "192.0.2.1"], {}, "192.0.2.1"),
        (["--config", "/nowhere/inferno.toml"], {}, "/nowhere/inferno.toml"),
        (["--data-dir", "/proc/inferno"], {}, "/proc/inferno"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], words: str
) -> None:
    data = tmp_path / "data"
    ports = {"INFERNO_PORT": "0", "INFERNO_MANAGEMENT_PORT": "0", "INFERNO_DATA_DIR": str(data)}
    assert words in refused(*arguments, environment={**ports, **environment})
    assert not (data / "credentials.json").exists()


def test_unknown_key_in_the_settings_file(tmp_path: Path) -> None:
    config = tmp_path / "inferno.toml"
    config.write_text('[models."tiny"]\npined = true\n')
    line = refused("--config", str(config), "--data-dir", str(tmp_path / "data"))
    assert "pined" in line
    assert "did you mean 'pinned'" in line


def test_damaged_secret_is_named(tmp_path: Path) -> None:
    (tmp_path / "secret.key").write_text("not hex")
    line = refused("--port", "0", "--management-port", "0", "--data-dir", str(tmp_path))
    assert str(tmp_path / "secret.key") in line


def test_logs_are_json_lines(start: Start) -> None:
    platform = start(environment=WITHOUT_MODELS)
    assert platform.stop() == 0
    lines = [line for line in platform.log_text().splitlines() if line.startswith("{")]
    events = [json.loads(line) for line in lines]
    assert {"draining", "stopped"} <= {event["event"] for event in events}
    for event in events:
        assert re.match(r"\d{4}-\d\d-\d\dT", event["timestamp"])
    assert platform.api_key not in "".join(lines)
