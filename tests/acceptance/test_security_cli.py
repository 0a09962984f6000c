"""`inferno security`, from the first user to the audit, whether the platform runs or not."""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest

from inferno.cli.main import main
from tests.acceptance.platform import Platform, clean_environment, wait_until

NOTICED = 5.0
"""Seconds in which a change is noticed; half a second, but the machine may be busy."""

PASSWORD = "correct horse battery"


class Security:
    """The command `inferno security` on a data folder."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    def __call__(
        self, *arguments: str, stdin: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, whatever comes of it."""
        command = [sys.executable, "-m", "inferno", "security", *arguments]
        return subprocess.run(
            [*command, "--data-dir", str(self.data_dir)],
            input=stdin,
            env={**clean_environment(), **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def say(self, *arguments: str, stdin: str = "") -> str:
        """Run a command that works, and return what it prints."""
        result = self(*arguments, stdin=stdin)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def tell(self, *arguments: str, stdin: str = "") -> Any:
        """Run a command that works, and return its JSON document."""
        return json.loads(self.say(*arguments, "--json", stdin=stdin))

    def fail(self, *arguments: str, stdin: str = "", exit_code: int = 1) -> str:
        """Run a command that fails as it should, and return the one line that it says."""
        result = self(*arguments, stdin=stdin)
        assert result.returncode == exit_code, (result.stdout, result.stderr)
        lines = [line for line in result.stderr.splitlines() if "warning:" not in line]
        assert len(lines) == 1, result.stderr
        assert lines[0].startswith("inferno: ")
        return lines[0].removeprefix("inferno: ")


class QuickSecurity(Security):
    """The same in the process of the tests: many commands, and no start for each of them."""

    def __call__(
        self, *arguments: str, stdin: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, whatever comes of it."""
        printed, said = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
        with (
            mock.patch.dict("os.environ", {**clean_environment(), **environment}, clear=True),
            mock.patch("sys.stdin", io.StringIO(stdin)),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(said),
        ):
            code = main(["security", *arguments, "--data-dir", str(self.data_dir)])
        printed.seek(0)
        return subprocess.CompletedProcess(arguments, code, printed.read(), said.getvalue())


@pytest.fixture
def security(tmp_path: Path) -> Security:
    """The command, on the folder of the platform that `start` starts."""
    return Security(tmp_path / "data")


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Security:
    """The command on a stopped platform with the user `ada`."""
    security = QuickSecurity(tmp_path_factory.mktemp("security") / "data")
    security.say("init")
    security.say("user", "create", "--username", "ada", "--password-stdin", stdin=PASSWORD)
    return security


def status(platform: Platform, credential: str) -> int:
    """Return how a call with a key or a token ends."""
    headers = {"Authorization": f"Bearer {credential}"}
    return httpx.get(f"{platform.url}/models", headers=headers, timeout=30).status_code


def refused_soon(platform: Platform, credential: str) -> None:
    wait_until(
        lambda: status(platform, credential) == 401, NOTICED, "the credential is still accepted"
    )


def test_the_life_of_a_user_while_the_platform_runs(
    start: Callable[..., Platform], security: Security
) -> None:
    platform = start()
    user = security.tell("user", "create", "--username", "ada", "--tenant", "research")
    assert len(user["password"]) >= 12

    shown = security.say("api-key", "create", "--user", user["id"], "--name", "My API Key")
    (key,) = [line.split()[-1] for line in shown.splitlines() if line.startswith("API key:")]
    assert status(platform, key) == 200, "a new key works at once"
    assert key not in security.say("api-key", "list")
    (listed,) = security.tell("api-key", "list", "--user", "ada")["api_keys"]
    assert listed["name"] == "My API Key"

    new = security.tell("api-key", "rotate", listed["id"], "--grace", "600")
    assert [status(platform, one) for one in (key, new["api_key"])] == [200, 200]
    security.say("api-key", "revoke", "--key-id", listed["id"], "--user", "ada")
    refused_soon(platform, key)
    assert status(platform, new["api_key"]) == 200

    last = security.tell("api-key", "rotate", new["id"], "--grace", "0")
    refused_soon(platform, new["api_key"])

    token = security.say("token", "generate", "--user", "ada").strip()
    assert status(platform, token) == 200
    security.say("user", "modify", "ada", "--disable")
    refused_soon(platform, last["api_key"])
    assert status(platform, token) == 401
    login = {"username": "ada", "password": user["password"]}
    assert httpx.post(f"{platform.url}/auth/login", json=login).status_code == 401

    events = security.tell("audit", "--limit", "100")["events"]
    assert [event["seq"] for event in events] == sorted(
        (event["seq"] for event in events), reverse=True
    )
    done = [e["action"] for e in reversed(events) if e["actor"].startswith("cli:")]
    assert done == [
        "user.create", "api_key.create", "api_key.rotate", "api_key.revoke", "api_key.rotate",
        "token.create", "user.change",
    ]  # fmt: skip
    assert "login" in {e["action"] for e in events if e["outcome"] == "refused"}
    text = json.dumps(events)
    assert not any(secret in text for secret in (key, token, user["password"], last["api_key"]))
    assert "whole" in security.say("audit", "--verify")


def test_the_life_of_a_user_while_the_platform_is_stopped(
    start: Callable[..., Platform], security: Security
) -> None:
    first = security.tell("init")
    assert first["created"]
    security.say("user", "create", "--username", "ada", "--password-stdin", stdin=PASSWORD + "\n")
    assert security.tell("token", "list-revoked") == {"revoked": []}
    keys = {
        name: security.tell("api-key", "generate", "--user", "ada", "--name", name)
        for name in ("kept", "rotated", "revoked", "disabled")
    }
    rotated = security.tell("api-key", "rotate", "--key-id", keys["rotated"]["id"])
    security.say("api-key", "revoke", keys["revoked"]["id"])
    security.say("api-key", "disable", keys["disabled"]["id"])
    token = security.tell("token", "generate", "--user", "ada")
    ended = security.tell("token", "generate", "--user", "ada")
    security.say("token", "revoke", "--jti", ended["jti"])
    limits = ("--requests-per-minute", "1000", "--concurrent", "-1")
    security.say("rate-limit", "set", "--user", "ada", *limits)

    platform = start()
    assert status(platform, first["api_key"]) == 200
    for name, wanted in (("kept", 200), ("rotated", 200), ("revoked", 401), ("disabled", 401)):
        assert status(platform, keys[name]["api_key"]) == wanted, name
    assert status(platform, rotated["api_key"]) == 200
    assert [status(platform, one["token"]) for one in (token, ended)] == [200, 401]
    login = {"username": "ada", "password": PASSWORD}
    signed_in = httpx.post(f"{platform.url}/auth/login", json=login).json()
    assert security("token", "verify", signed_in["token"]).returncode == 0
    me = httpx.get(
        f"{platform.url}/auth/me", headers={"Authorization": f"Bearer {signed_in['token']}"}
    ).json()
    assert me["limits"]["requests_per_minute"] == 1000
    assert me["limits"]["concurrent_requests"] is None
    platform.stop()

    (kept,) = [key for key in security.tell("api-key", "list")["api_keys"] if key["name"] == "kept"]
    assert kept["last_used_at"] is not None
    assert "whole" in security.say("audit", "--verify")


def test_tampering_shows(security: Security) -> None:
    security.say("init")
    for name in ("ada", "bob", "eve"):
        security.say("user", "create", "--username", name, "--generate-password")
    assert security.tell("audit", "--verify")["events"] == 4

    with closing(sqlite3.connect(security.data_dir / "inferno.db")) as database:
        database.execute("UPDATE audit_events SET actor = 'cli:nobody' WHERE seq = 3")
        database.commit()
    result = security("audit", "--verify")
    assert result.returncode == 1
    assert "at event 3" in result.stdout
    assert security("audit", "--verify", "--json").returncode == 1

    with closing(sqlite3.connect(security.data_dir / "inferno.db")) as database:
        database.execute("DELETE FROM audit_events WHERE seq = 2")
        database.commit()
    broken = json.loads(security("audit", "--verify", "--json").stdout)
    assert (broken["intact"], broken["broken_at"], broken["events"]) == (False, 3, 1)


class TestWithoutAPlatform:
    @pytest.mark.parametrize(
        "arguments",
        [
            ("user", "list"),
            ("user", "create", "--username", "ada", "--generate-password"),
            ("audit",),
            ("token", "generate", "--user", "admin"),
        ],
    )
    def test_nothing_is_made(self, security: Security, arguments: tuple[str, ...]) -> None:
        assert "inferno security init" in security.fail(*arguments)
        assert not security.data_dir.exists()

    def test_init_makes_one_and_says_so_once(self, security: Security) -> None:
        shown = security.say("init")
        kept = json.loads((security.data_dir / "credentials.json").read_text())
        assert kept["password"] in shown
        assert kept["api_key"] in shown
        again = security.say("init")
        assert "already" in again
        assert kept["api_key"] not in again
        assert security.tell("init")["created"] is False
        private = {"credentials.json", "inferno.db", "secret.key"}
        modes = {name: (security.data_dir / name).stat().st_mode for name in private}
        assert {stat.S_IMODE(mode) for mode in modes.values()} == {0o600}
        assert stat.S_IMODE(security.data_dir.stat().st_mode) == 0o700

    def test_init_takes_what_is_given_and_does_not_repeat_it(self, security: Security) -> None:
        key = "a-key-of-our-own-choosing-0123456789"
        given = {"INFERNO_API_KEY": key, "INFERNO_ADMIN_PASSWORD": PASSWORD}
        result = security("init", **given)
        assert result.returncode == 0, result.stderr
        assert key not in result.stdout
        assert PASSWORD not in result.stdout
        assert "State: " in security.say("api-key", "test", stdin=key)


class TestOnOnePlatform:
    """All that the commands do, and how they fail."""

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("user", "create", "--username", "a b", "--generate-password"), "--username: letters"),
            (("user", "create", "--username", "x", "--email", "x"), "--email: an address"),
            (("user", "create", "--username", "x", "--tenant", "X"), "--tenant: small letters"),
            (("user", "create", "--username", "x", "--role", "king"), "--role"),
            (("user", "create", "--username", "x", "--password-stdin"), "--password: 1 to 1024"),
            (("user", "create", "--username", "x", "--password", "\udcff"), "not text in UTF-8"),
            (
                ("user", "create", "--username", "x", "--password", "x", "--password-stdin"),
                "exclude each other",
            ),
            (("user", "modify", "ada"), "at least one thing to change"),
            (("user", "modify"), "give one USER"),
            (("user", "delete", "ada"), "give --yes"),
            (("user", "delete", "ada", "--id", "bob", "--yes"), "give one USER"),
            (("api-key", "create", "--user", "ada", "--name", "x", "--expires-in", "366"), "365"),
            (("api-key", "create", "--user", "ada", "--name", ""), "--name: 1 to 255 characters"),
            (
                ("api-key", "create", "--user", "ada", "--name", "x", "--permissions", "fly"),
                "no permission 'fly'; there are read_models",
            ),
            (("api-key", "revoke"), "give one KEY_ID"),
            (("token", "revoke", "--jti", ""), "--jti: 1 to 256 characters"),
            (("rate-limit", "set", "--concurrent", "1"), "give one of --user"),
            (("rate-limit", "set", "--user", "ada", "--role", "user", "--clear"), "give one of"),
            (("rate-limit", "set", "--user", "ada"), "at least one limit"),
            (("audit", "--since", "yesterday"), "--since: 'yesterday' is not a time"),
            (("audit", "--verify", "--user", "ada"), "take the whole trail"),
            (("audit", "--verify", "--export", "-"), "take the whole trail"),
        ],
    )
    def test_wrong_usage(self, quick: Security, arguments: tuple[str, ...], said: str) -> None:
        assert said in quick.fail(*arguments, exit_code=2)

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("user", "create", "--username", "ada", "--generate-password"), "'ada' is taken"),
            (("user", "create", "--username", "x", "--password", "admin123"), "too easy to guess"),
            (("user", "delete", "admin", "--yes"), "The last admin cannot"),
            (("user", "modify", "admin", "--role", "user"), "The last admin cannot"),
            (("user", "modify", "eve", "--disable"), "no user 'eve'"),
            (("api-key", "create", "--user", "eve", "--name", "x"), "no user 'eve'"),
            (
                ("api-key", "create", "--user", "ada", "--name", "x", "--permissions",
                 "manage_users"),
                "'user' does not have: manage_users",
            ),
            (("api-key", "revoke", "made-up"), "no API key 'made-up'"),
            (("api-key", "rotate", "made-up"), "no API key 'made-up'"),
            (("rate-limit", "set", "--role", "king", "--concurrent", "1"), "no role 'king'"),
            (("rate-limit", "reset", "--user", "ada"), "no server runs on"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_done(
        self, quick: Security, arguments: tuple[str, ...], said: str
    ) -> None:
        assert said in quick.fail(*arguments)

    def test_passwords_on_the_command_line_are_warned_of(self, quick: Security) -> None:
        result = quick("user", "create", "--username", "loud", "--password", PASSWORD)
        assert result.returncode == 0
        assert "warning: other users of this machine can see --password" in result.stderr
        assert PASSWORD not in result.stdout

    def test_users_are_changed_by_name_and_by_id(self, quick: Security) -> None:
        made = quick.tell("user", "create", "--username", "temp", "--generate-password")
        assert made["role"] == "user"
        wanted = ("--role", "service", "--tenant", "sales", "--email", "t@example.com")
        changed = quick.tell("user", "modify", "--id", made["id"], *wanted)
        assert [changed[k] for k in ("role", "tenant", "email")] == [
            "service", "sales", "t@example.com",
        ]  # fmt: skip
        assert len(quick.tell("user", "modify", "temp", "--generate-password")["password"]) > 11
        rows = [line.split() for line in quick.say("user", "list").splitlines()]
        assert [made["id"], "temp", "service", "sales", "active", "t@example.com"] in rows
        assert "Deleted temp" in quick.say("user", "delete", made["id"], "--yes")
        names = [user["username"] for user in quick.tell("user", "list")["users"]]
        assert "temp" not in names

    def test_testing_a_key_says_what_it_is(self, quick: Security) -> None:
        made = quick.tell("api-key", "create", "--user", "ada", "--name", "tested")
        key, key_id = made["api_key"], made["id"]

        def state() -> tuple[int, str]:
            result = quick("api-key", "test", "--json", stdin=key + "\n")
            return result.returncode, json.loads(result.stdout)["state"]

        assert state() == (0, "valid")
        assert "ada" in quick.say("api-key", "test", "--key", key)
        quick.say("api-key", "disable", key_id)
        assert state() == (1, "disabled")
        quick.say("api-key", "enable", key_id)
        quick.say("user", "modify", "ada", "--disable")
        assert state() == (1, "user disabled")
        assert "'ada' is disabled" in quick.fail("token", "generate", "--user", "ada")
        quick.say("user", "modify", "ada", "--enable")
        quick.say("api-key", "rotate", key_id, "--grace", "0")
        assert state() == (1, "expired")
        quick.say("api-key", "revoke", key_id)
        assert state() == (1, "unknown")

    def test_verifying_a_token_says_what_it_is(self, quick: Security) -> None:
        made = quick.tell("token", "generate", "--user", "ada")
        verdict = quick.tell("token", "verify", stdin=made["token"])
        assert (verdict["valid"], verdict["claims"]["username"]) == (True, "ada")
        assert "valid" in quick.say("token", "verify", made["token"])
        forged = made["token"][:-4] + ("AAAA" if made["token"][-4:] != "AAAA" else "BBBB")
        result = quick("token", "verify", forged)
        assert result.returncode == 1
        assert "not valid: wrong signature" in result.stdout
        quick.say("token", "revoke", "--jti", made["jti"])
        assert "revoked" in quick("token", "verify", made["token"]).stdout
        listed = quick.tell("token", "list-revoked")["revoked"]
        assert made["jti"] in [token["jti"] for token in listed]

    def test_limits_say_where_they_are_set(self, quick: Security) -> None:
        key_id = quick.tell("api-key", "create", "--user", "ada", "--name", "limited")["id"]
        for target in (
            ("--tenant", "default", "--requests-per-minute", "1", "--requests-per-hour", "1"),
            ("--role", "user", "--requests-per-hour", "2", "--tokens-per-minute", "2"),
            ("--user", "ada", "--tokens-per-minute", "3"),
            ("--user", "ada", "--concurrent", "-1"),
            ("--key-id", key_id, "--concurrent", "4"),
        ):
            quick.say("rate-limit", "set", *target)
        shown = quick.tell("rate-limit", "status", "--key-id", key_id)
        assert shown["limits"] == {
            "requests_per_minute": 1,
            "requests_per_hour": 2,
            "tokens_per_minute": 3,
            "concurrent_requests": 4,
        }
        assert shown["set_by"] == {
            "requests_per_minute": "tenant default",
            "requests_per_hour": "role user",
            "tokens_per_minute": "user ada",
            "concurrent_requests": f"key {key_id}",
        }
        table = quick.say("rate-limit", "status", "--user", "ada")
        assert ["concurrent", "requests", "none", "user", "ada"] in [
            line.split() for line in table.splitlines()
        ]
        everything = quick.tell("rate-limit", "status")
        assert everything["defaults"]["requests_per_minute"] == 60
        assert [o["scope"] for o in everything["overrides"]] == ["role", "tenant", "user", "key"]
        quick.say("rate-limit", "set", "--user", "ada", "--clear")
        cleared = quick.tell("rate-limit", "status", "--user", "ada")
        assert cleared["limits"]["concurrent_requests"] == 10
        for wider in (("--tenant", "default"), ("--role", "user")):
            quick.say("rate-limit", "set", *wider, "--clear")

    def test_the_audit_is_searched_and_exported(self, quick: Security) -> None:
        time.sleep(1.1)  # what came before is in an earlier second
        before = time.strftime("%Y-%m-%dT%H:%M:%S")
        quick.say("api-key", "create", "--user", "ada", "--name", "audited")
        (event,) = quick.tell("audit", "--action", "api_key.", "--since", before)["events"]
        assert event["action"] == "api_key.create"
        assert event["address"] == "local"
        assert event["actor"].startswith("cli:")
        named = quick.tell("audit", "--user", event["actor"], "--limit", "1")["events"]
        assert named == [event]
        assert quick.tell("audit", "--failures-only")["events"] == []
        assert quick.tell("audit", "--outcome", "refused")["events"] == []
        assert quick.tell("audit", "--until", "2020-01-01")["events"] == []
        file = quick.data_dir.parent / "audit.jsonl"
        quick.say("audit", "--export", str(file))
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        lines = file.read_text().splitlines()
        assert quick.say("audit", "--export", "-").splitlines() == lines
        assert [json.loads(line)["seq"] for line in lines] == list(range(1, len(lines) + 1))
        assert json.loads(lines[-1]) == event


def test_what_was_used_is_forgotten_by_the_running_platform(
    start: Callable[..., Platform], security: Security
) -> None:
    platform = start()
    security.say("user", "create", "--username", "ada", "--generate-password")
    key = security.tell("api-key", "create", "--user", "ada", "--name", "x")["api_key"]
    security.say("rate-limit", "set", "--user", "ada", "--requests-per-minute", "2")
    wait_until(lambda: status(platform, key) == 429, NOTICED, "the limit does not hold")
    assert "Reset" in security.say("rate-limit", "reset", "--user", "ada")
    assert status(platform, key) == 200
    assert security.tell("audit", "--action", "limits.reset")["events"][0]["actor"] == "admin"
