"""Settings: where each value comes from, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferno.core.errors import ConfigurationError
from inferno.core.resources import EngineOptions
from inferno.settings import TABLES, ModelSettings, Settings, load

HOME = {"HOME": "/home/somebody"}

EXAMPLES: dict[str, tuple[str, Any]] = {
    "host": ("0.0.0.0", "0.0.0.0"),
    "port": ("9000", 9000),
    "management_port": ("0", 0),
    "data_dir": ("/data", Path("/data")),
    "models_dir": ("/models", Path("/models")),
    "database_url": ("postgresql+asyncpg://db/x", "postgresql+asyncpg://db/x"),
    "auth": ("false", False),
    "api_key": ("12345", "12345"),
    "admin_password": ("null", "null"),
    "jwt_secret": ("x" * 32, "x" * 32),
    "token_lifetime": ("60", 60),
    "refresh_token_lifetime": ("61", 61),
    "requests_per_minute": ("-1", -1),
    "requests_per_hour": ("0", 0),
    "tokens_per_minute": ("12", 12),
    "concurrent_requests": ("13", 13),
    "redis_url": ("redis://cache:6379/0", "redis://cache:6379/0"),
    "redis_failure": ("closed", "closed"),
    "trusted_proxies": ("10.0.0.0/8, 127.0.0.1", ["10.0.0.0/8", "127.0.0.1"]),
    "trusted_hosts": ("a.example", ["a.example"]),
    "cors_origins": ("https://a.example,", ["https://a.example"]),
    "tls_cert": ("/cert.pem", Path("/cert.pem")),
    "tls_key": ("/key.pem", Path("/key.pem")),
    "max_connections_per_address": ("0", 0),
    "first_byte_timeout": ("2.5", 2.5),
    "stream_idle_timeout": ("30", 30.0),
    "probe_interval": ("1", 1.0),
    "picker": ("queue=1", "queue=1"),
    "hedge_after": ("0.5", 0.5),
    "max_header_bytes": ("1024", 1024),
    "header_timeout": ("14", 14.0),
    "body_timeout": ("15", 15.0),
    "log_format": ("json", "json"),
    "log_level": ("debug", "debug"),
    "access_log": ("true", True),
    "trace_sampling": ("0.25", 0.25),
    "trace_ring": ("3", 3),
    "metrics_max_names": ("3", 3),
    "scrape_interval": ("3", 3.0),
    "grace_period": ("1.5", 1.5),
    "max_body_bytes": ("1024", 1024),
    "max_streams_per_connection": ("16", 16),
    "auth_timeout": ("17", 17.0),
    "websocket_ping_interval": ("18", 18.0),
    "websocket_send_timeout": ("19", 19.0),
    "websocket_idle_timeout": ("20", 20.0),
    "max_queue": ("0", 0),
    "queue_timeout": ("2", 2.0),
    "request_timeout": ("3", 3.0),
    "load_timeout": ("4", 4.0),
    "default_max_tokens": ("5", 5),
    "load_on_demand": ("0", False),
    "idle_unload_after": ("0", 0.0),
    "max_loaded_models": ("6", 6),
    "max_model_memory_bytes": ("7", 7),
    "webhook_allow": ("10.0.0.0/8, *.a.example", ["10.0.0.0/8", "*.a.example"]),
    "webhook_timeout": ("22", 22.0),
    "max_webhooks": ("23", 23),
    "max_batch_items": ("21", 21),
    "max_file_bytes": ("22", 22),
    "max_tenant_bytes": ("23", 23),
    "max_active_batches": ("24", 24),
    "batch_concurrency": ("25", 25),
    "batch_attempts": ("26", 26),
    "batch_window": ("27", 27),
    "batch_retention": ("0", 0),
    "registry_public_reads": ("true", True),
    "max_registry_entries": ("7", 7),
    "registry_retention": ("60", 60.0),
    "registry_probe_interval": ("61", 61.0),
    "registry_probe_timeout": ("2", 2.0),
    "registry_probe_concurrency": ("3", 3),
    "registry_probe_allow": ("10.0.0.0/8", ["10.0.0.0/8"]),
    "register": ("https://r.example", "https://r.example"),
    "register_token": ("null", "null"),
    "register_token_file": ("/token", Path("/token")),
    "register_name": ("east", "east"),
    "public_url": ("https://i.example", "https://i.example"),
    "register_tags": ("NLP, LLM", ["NLP", "LLM"]),
    "register_metadata": ('{"region": "east", "gpus": 2}', {"region": "east", "gpus": 2}),
    "register_ttl": ("5", 5),
    "bundled_model": ("False", False),
    "gpu_layers": ("-1", -1),
    "context_size": ("8", 8),
    "batch_size": ("9", 9),
    "parallel": ("10", 10),
    "threads": ("11", 11),
}
"""For every setting but the tables: what the environment says, and what it means."""

NAMES = [name for name in Settings.__struct_fields__ if name not in TABLES]


def read(
    flags: Mapping[str, Any] | None = None,
    config: Path | None = None,
    variables: Mapping[str, str] | None = None,
    **environment: str,
) -> Settings:
    return load(flags, environment={**HOME, **environment, **(variables or {})}, config=config)


def refused(
    flags: Mapping[str, Any] | None = None,
    config: Path | None = None,
    variables: Mapping[str, str] | None = None,
    **environment: str,
) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(flags, config, variables, **environment)
    return caught.value.message


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


class TestDefaults:
    def test_are_those_of_the_class(self) -> None:
        settings = read()
        assert settings == Settings(data_dir=Path("/home/somebody/.local/share/inferno"))
        assert (settings.host, settings.port, settings.management_port) == ("127.0.0.1", 8080, 8085)
        assert settings.auth

    def test_data_folder_follows_xdg(self) -> None:
        assert read(XDG_DATA_HOME="/xdg").data_dir == Path("/xdg/inferno")

    def test_derived_places_lie_in_the_data_folder(self) -> None:
        settings = read(INFERNO_DATA_DIR="/data")
        assert settings.models_path == Path("/data/models")
        assert settings.database == "sqlite+aiosqlite:////data/inferno.db"

    def test_derived_places_can_be_set(self) -> None:
        settings = read(INFERNO_MODELS_DIR="/m", INFERNO_DATABASE_URL="sqlite+aiosqlite://")
        assert settings.models_path == Path("/m")
        assert settings.database == "sqlite+aiosqlite://"

    def test_without_home_the_user_database_knows(self) -> None:
        settings = load({}, environment={})
        assert settings.data_dir == Path("~/.local/share/inferno").expanduser()

    def test_the_process_environment_is_the_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("INFERNO_PORT", "9001")
        assert load().port == 9001

    def test_are_immutable(self) -> None:
        with pytest.raises(AttributeError):
            read().port = 1  # type: ignore[misc]


class TestPrecedence:
    def test_flags_environment_file_default(self, file: Path) -> None:
        file.write_text("port = 1\nmax_queue = 1\nthreads = 1")
        settings = read({"port": 3}, file, INFERNO_PORT="2", INFERNO_MAX_QUEUE="2")
        assert (settings.port, settings.max_queue, settings.threads) == (3, 2, 1)
        assert settings.default_max_tokens == 512

    def test_flags_of_none_are_not_given(self) -> None:
        assert read({"port": None}, INFERNO_PORT="2").port == 2

    def test_a_false_flag_is_given(self) -> None:
        assert read({"auth": False}, INFERNO_AUTH="true").auth is False

    def test_named_file_beats_the_one_in_the_environment(self, tmp_path: Path) -> None:
        named, other = tmp_path / "a.toml", tmp_path / "b.toml"
        named.write_text("port = 1")
        other.write_text("port = 2")
        assert read(config=named, INFERNO_CONFIG=str(other)).port == 1
        assert read(INFERNO_CONFIG=str(other)).port == 2

    def test_the_users_file_is_found(self, tmp_path: Path) -> None:
        (tmp_path / "inferno").mkdir()
        (tmp_path / "inferno" / "config.toml").write_text("port = 7")
        assert read(XDG_CONFIG_HOME=str(tmp_path)).port == 7

    def test_empty_variables_are_not_set(self) -> None:
        settings = read(INFERNO_PORT="", INFERNO_API_KEY="", INFERNO_CONFIG="")
        assert settings.port == 8080
        assert settings.api_key is None

    def test_where_clients_find_a_platform_is_no_setting(self) -> None:
        assert read(INFERNO_URL="https://platform.example:1") == read()


class TestEverySetting:
    def test_has_an_example_here(self) -> None:
        assert set(EXAMPLES) == set(NAMES)

    @pytest.mark.parametrize("name", NAMES)
    def test_from_the_environment(self, name: str) -> None:
        text, meant = EXAMPLES[name]
        assert getattr(read(variables={f"INFERNO_{name.upper()}": text}), name) == meant

    @pytest.mark.parametrize("name", NAMES)
    def test_from_flags(self, name: str) -> None:
        meant = EXAMPLES[name][1]
        assert getattr(read({name: meant}), name) == meant

    @pytest.mark.parametrize("name", NAMES)
    def test_from_the_file(self, name: str, file: Path) -> None:
        meant = EXAMPLES[name][1]
        file.write_text(f"{name} = {_toml(meant)}")
        assert getattr(read(config=file), name) == meant

    @given(st.integers(0, 65535), st.booleans(), st.floats(0, 1e9))
    def test_any_allowed_value_survives_the_environment(
        self, port: int, auth: bool, grace: float
    ) -> None:
        settings = read(
            INFERNO_PORT=str(port), INFERNO_AUTH=str(auth), INFERNO_GRACE_PERIOD=repr(grace)
        )
        assert (settings.port, settings.auth, settings.grace_period) == (port, auth, grace)

    @given(st.text(alphabet=st.characters(exclude_characters="\0", codec="utf-8"), min_size=1))
    def test_secrets_are_taken_literally(self, secret: str) -> None:
        if not re.match("(tcp|udp|sctp)://", secret):
            assert read(INFERNO_API_KEY=secret).api_key == secret


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(_toml(entry) for entry in value)}]"
    return str(value) if isinstance(value, int | float) else f'"{value}"'


def test_variables_of_the_seed_count_without_our_prefix_and_behind_it() -> None:
    theirs = {"JWT_SECRET": "s" * 32, "CORS_ORIGINS": "https://a", "RATE_LIMIT_REQUESTS": "7"}
    settings = read(variables=theirs)
    assert settings.jwt_secret == "s" * 32
    assert settings.cors_origins == ["https://a"]
    assert settings.requests_per_minute == 7
    assert read(variables={**theirs, "INFERNO_REQUESTS_PER_MINUTE": "8"}).requests_per_minute == 8


def test_secrets_are_not_shown() -> None:
    secrets = {"INFERNO_API_KEY": "canary-1", "INFERNO_JWT_SECRET": "canary-2" * 8}
    shown = repr(read(variables=secrets))
    assert "canary" not in shown
    assert "api_key" in shown


class TestRefused:
    def test_unknown_variable(self) -> None:
        message = refused(INFERNO_PROT="1")
        assert message == (
            "environment: unknown setting 'INFERNO_PROT'; did you mean 'INFERNO_PORT'?"
        )

    def test_unknown_key(self, file: Path) -> None:
        file.write_text("idle_unload = 3")
        message = refused(config=file)
        assert message.startswith(f"{file}: unknown setting 'idle_unload'")
        assert "did you mean 'idle_unload_after'?" in message

    def test_unknown_key_of_a_model(self, file: Path) -> None:
        file.write_text('[models."llama-2-7b"]\ncontext = 3')
        message = refused(config=file)
        assert '[models."llama-2-7b"]' in message
        assert "did you mean 'context_size'?" in message

    def test_unknown_flag(self) -> None:
        assert "prot" in refused({"prot": 1})

    def test_model_tables_in_the_environment(self) -> None:
        assert "'INFERNO_MODELS'" in refused(INFERNO_MODELS="{}")

    @pytest.mark.parametrize(
        ("variable", "text", "expected"),
        [
            ("INFERNO_PORT", "http", "Expected `int`"),
            ("INFERNO_PORT", "80.5", "Expected `int`"),
            ("INFERNO_PORT", "65536", "<= 65535"),
            ("INFERNO_PORT", "-1", ">= 0"),
            ("INFERNO_THREADS", "0", ">= 1"),
            ("INFERNO_GPU_LAYERS", "-2", ">= -1"),
            ("INFERNO_MAX_QUEUE", "-1", ">= 0"),
            ("INFERNO_GRACE_PERIOD", "-0.1", ">= 0"),
            ("INFERNO_GRACE_PERIOD", "nan", "Expected `float`"),
            ("INFERNO_GRACE_PERIOD", "inf", "<= 1000000000"),
            ("INFERNO_AUTH", "no", "write true or false"),
            ("INFERNO_LOG_LEVEL", "loud", "choose one of debug, info, warning, error"),
            ("INFERNO_LOG_FORMAT", "xml", "choose one of auto, console, json"),
        ],
    )
    def test_wrong_variable(self, variable: str, text: str, expected: str) -> None:
        message = refused(variables={variable: text})
        assert message.startswith("environment: ")
        assert f"'{variable.removeprefix('INFERNO_').lower()}'" in message
        assert expected in message

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ('port = "80"', "'port': Expected `int`"),
            ("port = 80.0", "'port': Expected `int`"),
            ("auth = 1", "'auth': Expected `bool`"),
            ("data_dir = 5", "'data_dir': Expected a path"),
            ("models = 3", "'models'"),
            ("[models]\na = 3", "'models"),
            ('[models.a]\ncontext_size = "3"', "context_size"),
            ("[models.a]\nthreads = 0", ">= 1"),
        ],
    )
    def test_wrong_value_in_the_file(self, text: str, expected: str, file: Path) -> None:
        file.write_text(text)
        message = refused(config=file)
        assert message.startswith(f"{file}: ")
        assert expected in message

    def test_wrong_flag(self) -> None:
        assert "'port'" in refused({"port": 70_000})

    def test_a_wrong_value_that_something_overrides(self, file: Path) -> None:
        """A file is right or wrong whatever else is given: no surprise the day the flag goes."""
        file.write_text("port = 70000")
        assert "'port'" in refused({"port": 1}, file)

    def test_missing_file(self, file: Path) -> None:
        assert refused(config=file) == f"{file}: No such file or directory"
        assert refused(INFERNO_CONFIG=str(file)) == f"{file}: No such file or directory"

    def test_folder_instead_of_a_file(self, tmp_path: Path) -> None:
        assert "Is a directory" in refused(config=tmp_path)

    @pytest.mark.parametrize("content", [b"port = ", b"\xff\xfe", b"a = 1\na = 2"])
    def test_not_toml(self, content: bytes, file: Path) -> None:
        file.write_bytes(content)
        assert "not TOML" in refused(config=file)

    def test_secrets_are_not_repeated(self, file: Path) -> None:
        file.write_text("api_key = ['hunter2']")
        assert "hunter2" not in refused(config=file)


class TestKubernetes:
    @pytest.mark.parametrize(
        ("variable", "text"),
        [
            ("INFERNO_PORT", "tcp://10.0.0.1:8080"),
            ("INFERNO_PORT", "udp://10.0.0.1:8080"),
            ("INFERNO_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("INFERNO_PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("INFERNO_PORT_8080_TCP_PORT", "8080"),
            ("INFERNO_PORT_8080_TCP_PROTO", "tcp"),
            ("INFERNO_SERVICE_HOST", "10.0.0.1"),
            ("INFERNO_SERVICE_PORT", "8080"),
            ("INFERNO_SERVICE_PORT_HTTP", "8080"),
            ("INFERNO_GATEWAY_SERVICE_HOST", "10.0.0.1"),
            ("INFERNO_GATEWAY_PORT", "tcp://10.0.0.2:8080"),
            ("INFERNO_GATEWAY_PORT_8080_TCP_ADDR", "10.0.0.2"),
        ],
    )
    def test_service_links_are_not_settings(self, variable: str, text: str) -> None:
        assert read(variables={variable: text}) == read()


class TestFolders:
    def test_flags_and_variables_are_relative_to_the_current_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        settings = read({"models_dir": Path("m")}, INFERNO_DATA_DIR="d")
        assert settings.data_dir == tmp_path / "d"
        assert settings.models_dir == tmp_path / "m"

    def test_in_the_file_they_are_relative_to_it(self, file: Path) -> None:
        file.write_text('data_dir = "d"\nmodels_dir = "/m"')
        settings = read(config=file)
        assert settings.data_dir == file.parent / "d"
        assert settings.models_dir == Path("/m")

    def test_a_relative_file_too(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file.write_text('data_dir = "d"')
        monkeypatch.chdir(file.parent)
        assert read(config=Path(file.name)).data_dir == file.parent / "d"

    @pytest.mark.parametrize("source", ["flag", "variable", "file"])
    def test_tilde_is_home(self, source: str, file: Path) -> None:
        file.write_text('data_dir = "~/d"')
        settings = {
            "flag": lambda: read({"data_dir": "~/d"}),
            "variable": lambda: read(INFERNO_DATA_DIR="~/d"),
            "file": lambda: read(config=file),
        }[source]()
        assert settings.data_dir == Path("~/d").expanduser()


class TestModels:
    TOML = '[models."llama-2-7b"]\ncontext_size = 4096\npinned = true\n'

    def test_own_settings_over_defaults(self, file: Path) -> None:
        file.write_text(self.TOML)
        settings = read(config=file, INFERNO_THREADS="2", INFERNO_CONTEXT_SIZE="1024")
        assert settings.engine_options("llama-2-7b") == EngineOptions(context_size=4096, threads=2)
        assert settings.engine_options("other") == EngineOptions(context_size=1024, threads=2)

    def test_pinned(self, file: Path) -> None:
        file.write_text(self.TOML)
        settings = read(config=file)
        assert settings.pinned("llama-2-7b")
        assert not settings.pinned("other")

    def test_every_engine_option_is_a_setting_of_both(self) -> None:
        for name in EngineOptions.__struct_fields__:
            assert name in ModelSettings.__struct_fields__
            assert name in Settings.__struct_fields__

    def test_zero_layers_are_not_unset(self, file: Path) -> None:
        file.write_text("gpu_layers = 32\n[models.a]\ngpu_layers = 0")
        assert read(config=file).engine_options("a").gpu_layers == 0


def test_every_setting_is_described_in_the_docstring() -> None:
    for kind in (Settings, ModelSettings):
        described = re.findall(r"^ {8}(\w+): ", kind.__doc__ or "", re.MULTILINE)
        assert described == [field.name for field in msgspec.structs.fields(kind)]
