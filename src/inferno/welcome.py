"""What `inferno serve` prints once it serves."""

from __future__ import annotations

import shlex

from inferno.data_dir import DataDir
from inferno.engines import bundled
from inferno.settings import Settings
from inferno.tenancy.first_start import FirstCredentials

PROMPT = "What is the capital of France?"


def text(
    settings: Settings, data_dir: DataDir, urls: tuple[str, str], first: FirstCredentials | None
) -> str:
    """Return the welcome.

    Args:
        settings: in use.
        data_dir: in use.
        urls: of the inference API and of the control plane.
        first: the credentials, where this is the first start.
    """
    inference, management = urls
    lines = ["", f"  Inference API   {inference}", f"  Control plane   {management}"]
    lines.append(f"  Documentation   {inference}/docs{_docs_hint(settings)}")
    lines.append(f"  Models folder   {settings.models_path}")
    if first is not None and settings.auth:
        lines += ["", *_credentials(settings, data_dir, first)]
    lines += ["", "  Try it:", f"    {curl(settings, data_dir, inference, first)}", ""]
    return "\n".join(lines)


def _docs_hint(settings: Settings) -> str:
    return "  (sign in with the API key as the password)" if settings.auth else ""


def _credentials(settings: Settings, data_dir: DataDir, first: FirstCredentials) -> list[str]:
    """Show what was generated, this once."""
    lines = [f"  Admin           {first.username}"]
    if settings.admin_password is None:
        lines.append(f"  Password        {first.password}")
    if settings.api_key is None:
        lines.append(f"  API key         {first.api_key}")
    lines.append(f"  These are shown once, and kept in {data_dir.credentials_file}.")
    return lines


def curl(settings: Settings, data_dir: DataDir, url: str, first: FirstCredentials | None) -> str:
    """Return a curl line that works when it is pasted into a shell."""
    path = "/inference" if settings.bundled_model else "/models"
    line = f"curl -s {url}{path}"
    if settings.auth:
        line += f' -H "Authorization: Bearer {_key(settings, data_dir, first)}"'
    if not settings.bundled_model:
        return line
    body = f'{{"model": "{bundled.MODEL_NAME}", "prompt": "{PROMPT}"}}'
    return f"{line} -H 'Content-Type: application/json' -d {shlex.quote(body)}"


def _key(settings: Settings, data_dir: DataDir, first: FirstCredentials | None) -> str:
    """Return the key itself at the first start; later, words that make the shell find it."""
    if settings.api_key is None and first is not None:
        return first.api_key
    if settings.api_key is not None or "api_key" not in data_dir.credentials():
        return "$INFERNO_API_KEY"  # its owner chose it, and nobody else keeps it
    file = shlex.quote(str(data_dir.credentials_file))
    return f'$(sed -n \'s/.*"api_key": "\\(.*\\)".*/\\1/p\' {file})'
