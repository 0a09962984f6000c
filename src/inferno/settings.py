"""Typed settings: defaults < TOML file < environment (`INFERNO_…`) < flags.

Read once, at the start, by `load`; everything else receives a `Settings`.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from inferno.core.errors import ConfigurationError
from inferno.core.resources import EngineOptions
from inferno.core.tenancy import LimitOverrides, LimitPolicy, policy_of

ENVIRONMENT_PREFIX = "INFERNO_"

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[int, msgspec.Meta(ge=0)]
Limit = Annotated[int, msgspec.Meta(ge=-1, le=2**53)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]  # 30 years: no timer can wait for ever


SECRETS = frozenset(
    {"api_key", "admin_password", "jwt_secret", "database_url", "redis_url", "register_token"}
)
"""Settings that are never shown."""

LISTS = frozenset(
    {
        "trusted_proxies",
        "trusted_hosts",
        "cors_origins",
        "webhook_allow",
        "register_tags",
        "registry_probe_allow",
    }
)
"""Settings that are lists: separated by commas in the environment."""

OBJECTS = frozenset({"register_metadata"})
"""Settings that are tables in a TOML file, and JSON in the environment."""

TABLES = frozenset({"models", "issuers"})
"""Settings that only a TOML file can hold."""

NO_SETTINGS = frozenset({"INFERNO_CONFIG", "INFERNO_URL", "INFERNO_REGISTRY_URL"})
"""Variables of ours that are no settings: the TOML file, and where clients find the platform and
a registry."""

PATHS = ("data_dir", "models_dir", "tls_cert", "tls_key", "register_token_file")
"""Settings that are paths; in a TOML file they are relative to the file."""

SEED_VARIABLES = {
    "JWT_SECRET": "jwt_secret",
    "CORS_ORIGINS": "cors_origins",
    "RATE_LIMIT_REQUESTS": "requests_per_minute",
}
"""Variables that seed 003 documents without our prefix; the prefixed ones win over them."""


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one model: a `[models."name"]` table; None takes the platform's default.

    Args:
        gpu_layers: layers offloaded to a GPU; -1 for all.
        context_size: tokens that one request can hold.
        batch_size: tokens evaluated in one step of prompt processing.
        parallel: requests generated at once.
        threads: CPU threads of the engine.
        pinned: loaded at the start, never evicted.
    """

    gpu_layers: Annotated[int, msgspec.Meta(ge=-1)] | None = None
    context_size: Positive | None = None
    batch_size: Positive | None = None
    parallel: Positive | None = None
    threads: Positive | None = None
    pinned: bool = False


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting of the platform. Durations are in seconds, sizes in bytes.

    Args:
        host: address that both planes listen on.
        port: of the inference API; 0 for any free port.
        management_port: of the control plane; 0 for any free port.
        data_dir: where the platform keeps all that it keeps.
        models_dir: watched folder of model files; default `DATA_DIR/models`.
        database_url: SQLAlchemy URL; default a SQLite file in `data_dir`.
        auth: whether callers need credentials.
        api_key: the first start's API key; generated where not set.
        admin_password: the first start's admin password; generated where not set.
        jwt_secret: signs the platform's tokens; at least 32 characters; generated where not set.
        token_lifetime: of access tokens.
        refresh_token_lifetime: of refresh tokens, so of sessions that are not used.
        issuers: outside issuers of tokens that are trusted: `[[issuers]]` tables.
        requests_per_minute: limit of a caller for whom no other is set; -1 for none.
        requests_per_hour: likewise.
        tokens_per_minute: likewise.
        concurrent_requests: likewise.
        redis_url: counts limits in Redis, so that several processes share them.
        redis_failure: whether callers are let in (`open`) or not (`closed`) while Redis is away.
        trusted_proxies: networks whose `X-Forwarded-For` is believed.
        trusted_hosts: names that `Host` may have (`*.example.com`); empty for any.
        cors_origins: web origins whose pages may call; empty for none.
        tls_cert: PEM file with the certificate chain; serves HTTPS.
        tls_key: PEM file with its key.
        max_connections_per_address: further ones are refused; 0 for any number, which trusted
            proxies may always have.
        max_header_bytes: larger request heads are refused.
        header_timeout: how long a client may take to send a request's head.
        body_timeout: how long it may pause within a body.
        log_format: `console`, `json`, or `auto` (console on a terminal).
        log_level: least severe level that is logged.
        access_log: log every request, not only those that fail.
        trace_sampling: share of inferences that are traced, 0 to 1; 0 for none.
        trace_ring: traces that are kept for `GET /traces`.
        metrics_max_names: models, and tenants, that have metrics of their own.
        grace_period: how long running requests may take to finish at a shutdown.
        max_body_bytes: larger request bodies, and messages on WebSockets, are refused.
        max_streams_per_connection: inferences that may run at once on one WebSocket.
        auth_timeout: how long a WebSocket may stay open without saying who is calling.
        websocket_ping_interval: time between two pings to the client of a WebSocket.
        websocket_send_timeout: how long such a client may take to take what it is sent.
        websocket_idle_timeout: closes a WebSocket on which nothing was asked for so long.
        max_queue: requests that may wait for a replica, per model.
        queue_timeout: how long a request may wait for a replica.
        request_timeout: how long a request may take in all.
        first_byte_timeout: how long a streamed answer may take to begin; 0 for `request_timeout`.
        stream_idle_timeout: how long a streamed answer may pause; 0 for `request_timeout`.
        hedge_after: asks a second replica when an answer has not begun after so long; 0 for never.
        probe_interval: time between two looks at a model server that others run.
        scrape_interval: time between two questions to such a server how loaded it is; 0 for none.
        picker: scorers that choose among replicas, with weights (`prefix=3,queue=2`).
        load_timeout: how long a model may take to load.
        default_max_tokens: generated tokens where the request names no maximum.
        load_on_demand: whether a request for a model that is not loaded loads it.
        idle_unload_after: unloads a model that was not used for so long; 0 for never.
        max_loaded_models: ceiling on models in memory; 0 for none.
        max_model_memory_bytes: ceiling on the memory of all replicas; 0 for 80 % of the machine's.
        webhook_allow: networks and hosts (`*.example.com`) that webhooks may go to, beside the
            public internet.
        webhook_timeout: how long a receiver of a webhook may take to answer.
        max_webhooks: subscriptions that a tenant may have.
        max_batch_items: requests of one batch.
        max_file_bytes: larger files, and batches uploaded as JSON lines, are refused.
        max_tenant_bytes: what the files and batches of a tenant may take together.
        max_active_batches: batches of a tenant that are not finished.
        batch_concurrency: requests of batches that are worked on, or wait for a replica, at once.
        batch_attempts: tries at a request of a batch that fails for a reason that may pass.
        batch_window: how long a batch may take; what is not answered by then is given up.
        batch_retention: how long finished batches are kept; 0 for ever.
        registry_public_reads: whether strangers may read the registry of inference servers.
        max_registry_entries: inference servers that a caller who is no admin may register.
        registry_retention: how long an entry without a heartbeat is shown as expired,
            until it is removed.
        registry_probe_interval: time between two looks at an entry's server; 0 for none.
        registry_probe_timeout: how long a server may take to answer.
        registry_probe_concurrency: servers that are looked at at once.
        registry_probe_allow: networks and hosts (`*.example.com`) that are looked at, beside the
            public internet.
        register: control plane whose registry the platform announces itself in.
        register_token: API key or token for it.
        register_token_file: file with that; read anew for each call.
        register_name: of the entry; default the machine's name and the port.
        public_url: where clients reach the inference API; default `host` and port where others
            can reach that.
        register_tags: of the entry.
        register_metadata: of the entry, beside what the platform says of itself.
        register_ttl: how long the entry lives without a heartbeat.
        bundled_model: whether the bundled model is served.
        gpu_layers: engine default, see `ModelSettings`.
        context_size: engine default, see `ModelSettings`.
        batch_size: engine default, see `ModelSettings`.
        parallel: engine default, see `ModelSettings`.
        threads: engine default, see `ModelSettings`; default the machine's cores.
        models: settings per model, by model id.
    """

    host: str = "127.0.0.1"
    port: Port = 8080
    management_port: Port = 8085
    data_dir: Path
    models_dir: Path | None = None
    database_url: str | None = None
    auth: bool = True
    api_key: str | None = None
    admin_password: str | None = None
    jwt_secret: Annotated[str, msgspec.Meta(min_length=32)] | None = None
    token_lifetime: Annotated[int, msgspec.Meta(ge=60, le=31_536_000)] = 86_400
    refresh_token_lifetime: Annotated[int, msgspec.Meta(ge=60, le=31_536_000)] = 604_800
    issuers: list[dict[str, Any]] = []
    requests_per_minute: Limit = 60
    requests_per_hour: Limit = 1000
    tokens_per_minute: Limit = 10_000
    concurrent_requests: Limit = 10
    redis_url: str | None = None
    redis_failure: Literal["open", "closed"] = "open"
    trusted_proxies: list[str] = []
    trusted_hosts: list[str] = []
    cors_origins: list[str] = []
    tls_cert: Path | None = None
    tls_key: Path | None = None
    max_connections_per_address: Annotated[int, msgspec.Meta(ge=0, le=10**6)] = 1000
    max_header_bytes: Annotated[int, msgspec.Meta(ge=1024, le=2**24)] = 64 * 1024
    header_timeout: Seconds = 10.0
    body_timeout: Seconds = 30.0
    log_format: Literal["auto", "console", "json"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    access_log: bool = False
    trace_sampling: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    trace_ring: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 1000
    metrics_max_names: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100
    grace_period: Seconds = 30.0
    max_body_bytes: Positive = 16 * 2**20
    max_streams_per_connection: Positive = 32
    auth_timeout: Annotated[float, msgspec.Meta(gt=0, le=1e9)] = 10.0
    websocket_ping_interval: Annotated[float, msgspec.Meta(gt=0, le=1e9)] = 25.0
    websocket_send_timeout: Annotated[float, msgspec.Meta(gt=0, le=1e9)] = 60.0
    websocket_idle_timeout: Annotated[float, msgspec.Meta(gt=0, le=1e9)] = 3600.0
    max_queue: NotNegative = 1000
    queue_timeout: Seconds = 60.0
    request_timeout: Seconds = 300.0
    first_byte_timeout: Seconds = 0.0
    stream_idle_timeout: Seconds = 120.0
    hedge_after: Seconds = 0.0
    probe_interval: Annotated[float, msgspec.Meta(ge=0.1, le=1e9)] = 5.0
    scrape_interval: Seconds = 0.25
    picker: str = "cost=4,session=3,lora=2,kv-cache=1"
    load_timeout: Seconds = 120.0
    default_max_tokens: Positive = 512
    load_on_demand: bool = True
    idle_unload_after: Seconds = 1800.0
    max_loaded_models: NotNegative = 0
    max_model_memory_bytes: NotNegative = 0
    webhook_allow: list[str] = []
    webhook_timeout: Annotated[float, msgspec.Meta(gt=0, le=300)] = 30.0
    max_webhooks: NotNegative = 20
    max_batch_items: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 100_000
    max_file_bytes: Positive = 200 * 2**20
    max_tenant_bytes: Positive = 10 * 2**30
    max_active_batches: Positive = 100
    batch_concurrency: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 64
    batch_attempts: Annotated[int, msgspec.Meta(ge=1, le=100)] = 5
    batch_window: Annotated[int, msgspec.Meta(ge=1, le=10**9)] = 86_400
    batch_retention: Annotated[int, msgspec.Meta(ge=0, le=10**9)] = 2_592_000
    registry_public_reads: bool = False
    max_registry_entries: NotNegative = 1000
    registry_retention: Seconds = 86_400.0
    registry_probe_interval: Seconds = 0.0
    registry_probe_timeout: Annotated[float, msgspec.Meta(gt=0, le=300)] = 5.0
    registry_probe_concurrency: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 16
    registry_probe_allow: list[str] = []
    register: str | None = None
    register_token: str | None = None
    register_token_file: Path | None = None
    register_name: str | None = None
    public_url: str | None = None
    register_tags: list[str] = []
    register_metadata: dict[str, Any] = {}
    register_ttl: Annotated[int, msgspec.Meta(ge=5, le=31 * 86_400)] = 60
    bundled_model: bool = True
    gpu_layers: Annotated[int, msgspec.Meta(ge=-1)] | None = None
    context_size: Positive | None = None
    batch_size: Positive | None = None
    parallel: Positive | None = None
    threads: Positive | None = None
    models: dict[str, ModelSettings] = {}

    def __repr__(self) -> str:
        """Name the settings that differ from the defaults; never the values of secrets."""
        defaults = Settings(data_dir=self.data_dir)
        changed = [n for n in self.__struct_fields__ if getattr(self, n) != getattr(defaults, n)]
        shown = [f"{n}={'…' if n in SECRETS else repr(getattr(self, n))}" for n in changed]
        return f"Settings({', '.join(shown)})"

    @property
    def models_path(self) -> Path:
        """The watched folder of model files."""
        return self.models_dir or self.data_dir / "models"

    @property
    def database(self) -> str:
        """The URL of the database in use."""
        return self.database_url or f"sqlite+aiosqlite:///{self.data_dir / 'inferno.db'}"

    @property
    def default_limits(self) -> LimitPolicy:
        """The limits of callers of whom nothing else is said."""
        names = LimitOverrides.__struct_fields__
        given = LimitOverrides(**{name: getattr(self, name) for name in names})
        return policy_of(LimitPolicy(), given)

    def engine_options(self, model: str) -> EngineOptions:
        """Return how the engine runs a model: its own settings over the platform's defaults."""
        own = self.models.get(model, ModelSettings())
        names = EngineOptions.__struct_fields__
        chosen = {name: getattr(own, name) for name in names}
        return EngineOptions(**{k: getattr(self, k) if v is None else v for k, v in chosen.items()})

    def pinned(self, model: str) -> bool:
        """Return whether a model is loaded at the start and never evicted."""
        return model in self.models and self.models[model].pinned


def load(
    flags: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    config: Path | None = None,
) -> Settings:
    """Read all sources and return the settings.

    Args:
        flags: values given on the command line, by setting name; None values are ignored.
        environment: default `os.environ`.
        config: the TOML file; default `INFERNO_CONFIG`, else `inferno/config.toml` in the user's
            configuration folder, where that exists.

    Raises:
        ConfigurationError: an unknown key (the nearest known one is named), a value of the wrong
            type or out of range, or a file that cannot be read.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {"data_dir": str(_user_folder(environment, "XDG_DATA_HOME"))}
    values.update(_from_file(config, environment))
    values.update(_from_environment(environment))
    values.update({k: v for k, v in (flags or {}).items() if v is not None})
    for name in PATHS:
        if isinstance(values.get(name), str | Path):
            values[name] = str(Path(values[name]).expanduser().absolute())
    return _convert(values, "the command line or defaults")


def default_data_dir(environment: Mapping[str, str]) -> Path:
    """Return the data folder of a platform that nobody told of another one."""
    return _user_folder(environment, "XDG_DATA_HOME").absolute()


def _user_folder(environment: Mapping[str, str], variable: str) -> Path:
    """Return Inferno's folder under an XDG base directory (XDG Base Directory Specification)."""
    fallback = {"XDG_DATA_HOME": ".local/share", "XDG_CONFIG_HOME": ".config"}[variable]
    base = environment.get(variable) or str(Path(environment.get("HOME", "~")) / fallback)
    return Path(base).expanduser() / "inferno"


def _from_file(config: Path | None, environment: Mapping[str, str]) -> dict[str, Any]:
    """Read the TOML file; relative folders in it are relative to the file."""
    named = config or (Path(p) if (p := environment.get("INFERNO_CONFIG")) else None)
    path = named or _user_folder(environment, "XDG_CONFIG_HOME") / "config.toml"
    if named is None and not path.is_file():
        return {}
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not TOML: {error}") from None
    _check_names(values, Settings.__struct_fields__, str(path))
    _check_model_tables(values.get("models"), path)
    _convert({"data_dir": "", **values}, str(path), strict=True)
    for name in PATHS:
        if name in values:
            values[name] = str(path.parent / Path(values[name]).expanduser())
    return values


def _check_model_tables(tables: Any, path: Path) -> None:
    """Name unknown keys of `[models."name"]`; wrong types are for the conversion to find."""
    for model, table in tables.items() if isinstance(tables, dict) else ():
        if isinstance(table, dict):
            _check_names(table, ModelSettings.__struct_fields__, f'{path}: [models."{model}"]')


_KUBERNETES_SERVICE_LINK = re.compile(r"INFERNO_(?:[A-Z0-9_]*_)?(?:SERVICE_|PORT_\d+_)")
_KUBERNETES_PORT = re.compile(r"(?:tcp|udp|sctp)://")


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Pick the `INFERNO_…` variables.

    Kubernetes puts `INFERNO_PORT=tcp://…` and the like into every pod beside a Service of that
    name; those are not ours.
    """
    names: dict[str, str] = {}
    for variable, text in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in NO_SETTINGS:
            continue
        if _KUBERNETES_SERVICE_LINK.match(variable) or _KUBERNETES_PORT.match(text):
            continue
        names[variable.removeprefix(ENVIRONMENT_PREFIX).lower()] = text
    settable = [n for n in Settings.__struct_fields__ if n not in TABLES]
    _check_names(names, settable, "environment", shown=lambda n: ENVIRONMENT_PREFIX + n.upper())
    for variable, name in SEED_VARIABLES.items():
        names.setdefault(name, environment.get(variable, ""))
    values: dict[str, Any] = {name: text for name, text in names.items() if text != ""}
    for name in LISTS & values.keys():
        values[name] = [part.strip() for part in values[name].split(",") if part.strip()]
    for name in OBJECTS & values.keys():
        values[name] = _json(values[name], ENVIRONMENT_PREFIX + name.upper())
    _convert({"data_dir": "", **values}, "environment")
    return values


def _json(text: str, variable: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ConfigurationError(f"environment: {variable} is not JSON: {error}") from None


def _check_names(
    given: Iterable[str],
    known: Iterable[str],
    source: str,
    shown: Any = lambda name: name,
) -> None:
    known = list(known)
    for name in given:
        if name in known:
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=0)
        raise ConfigurationError(
            f"{source}: unknown setting '{shown(name)}'; did you mean '{shown(near[0])}'?"
        )


def _convert(values: Mapping[str, Any], source: str, *, strict: bool = False) -> Settings:
    try:
        return msgspec.convert(values, Settings, strict=strict, dec_hook=_decode)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$")
        name = path.strip(".`")
        raise ConfigurationError(f"{source}: setting '{name}': {_advice(name, problem)}") from None


def _advice(name: str, problem: str) -> str:
    """Return what msgspec found wrong, and what would be right where it does not say so."""
    wanted = get_type_hints(Settings).get(name)
    if wanted is bool:
        return f"{problem}; write true or false"
    if get_origin(wanted) is Literal:
        return f"{problem}; choose one of {', '.join(get_args(wanted))}"
    return problem


def _decode(wanted: type, value: Any) -> Any:
    """Decode the one type of a setting that msgspec does not know."""
    if wanted is Path and isinstance(value, str):
        return Path(value)
    raise TypeError(f"Expected a path, got {type(value).__name__}")
