"""`inferno serve`: both planes in this process, until SIGTERM or Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from inferno.cli.options import DataDir, ModelsDir

Host = Annotated[
    str | None,
    typer.Option(
        "--host",
        metavar="ADDRESS",
        show_default=False,
        help="Address that both planes listen on. Default: 127.0.0.1.",
    ),
]
Port = Annotated[
    int | None,
    typer.Option(
        "--port",
        metavar="N",
        show_default=False,
        help="Port of the inference API; 0 for any free port. Default: 8080.",
    ),
]
ManagementPort = Annotated[
    int | None,
    typer.Option(
        "--management-port",
        metavar="N",
        show_default=False,
        help="Port of the control plane; 0 for any free port. Default: 8085.",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        show_default=False,
        help="TOML file of settings. Default: INFERNO_CONFIG, else ~/.config/inferno/config.toml "
        "where that exists.",
    ),
]
NoAuth = Annotated[
    bool,
    typer.Option(
        "--no-auth", help="Ask callers for no credentials; refused on a non-loopback address."
    ),
]
TLSCert = Annotated[
    Path | None,
    typer.Option(
        "--tls-cert",
        metavar="FILE",
        show_default=False,
        help="PEM file with the certificate chain; serves HTTPS, together with --tls-key.",
    ),
]
TLSKey = Annotated[
    Path | None,
    typer.Option(
        "--tls-key", metavar="FILE", show_default=False, help="PEM file with the certificate's key."
    ),
]
Register = Annotated[
    str | None,
    typer.Option(
        "--register",
        metavar="URL",
        show_default=False,
        help="Control plane of the platform in whose registry this one announces itself. The key "
        "for it is INFERNO_REGISTER_TOKEN.",
    ),
]
PublicUrl = Annotated[
    str | None,
    typer.Option(
        "--public-url",
        metavar="URL",
        show_default=False,
        help="Where clients reach the inference API, as it is announced. Default: host and port, "
        "where others can reach those.",
    ),
]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"] | None,
    typer.Option(
        "--log-level", show_default=False, help="Least severe level that is logged. Default: info."
    ),
]
LogFormat = Annotated[
    Literal["auto", "console", "json"] | None,
    typer.Option(
        "--log-format",
        show_default=False,
        help="Default: auto, which is console on a terminal and json elsewhere.",
    ),
]


def serve(
    host: Host = None,
    port: Port = None,
    management_port: ManagementPort = None,
    data_dir: DataDir = None,
    models_dir: ModelsDir = None,
    config: Config = None,
    no_auth: NoAuth = False,
    tls_cert: TLSCert = None,
    tls_key: TLSKey = None,
    register: Register = None,
    public_url: PublicUrl = None,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> int:
    """Serve models over HTTP.

    Prints the two URLs once both planes answer, and writes them to DATA_DIR/run.json. The first
    start also shows the admin password and an API key, and keeps them in
    DATA_DIR/credentials.json. SIGTERM and Ctrl-C let running requests finish, then stop.

    Secrets are never options: give INFERNO_API_KEY and INFERNO_ADMIN_PASSWORD to choose those of
    the first start. All other settings are listed in docs/reference/settings.md.
    """
    flags = {
        "host": host,
        "port": port,
        "management_port": management_port,
        "data_dir": data_dir,
        "models_dir": models_dir,
        "auth": False if no_auth else None,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "register": register,
        "public_url": public_url,
        "log_level": log_level,
        "log_format": log_format,
    }
    from inferno import settings

    chosen = settings.load(flags, config=config)
    from inferno import assembly  # late: a mistake in the settings shows at once

    return assembly.serve(chosen)
