"""Model names: what a file name or a hub id is called everywhere else.

A name is used in URLs, as a resource name and as a file name, so it is what all three allow:
labels of lower-case letters, digits and inner `-`, joined by single dots. `safe_name` makes one
out of any text; `require_name` checks one that a caller gave. A file called `NAME.gguf` is
listed under exactly NAME, because `safe_name` leaves every valid name as it is.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

from inferno.core.errors import InvalidRequest

MAX_LENGTH = 200
"""Longest name, in characters: below the 253 of resources, with room for suffixes."""

_HASH_LENGTH = 8
_FORBIDDEN = re.compile(r"[^a-z0-9.]+")
_DOTS = re.compile(r"-*\.[-.]*")
_SUFFIX = re.compile(r"(\.gguf|-[0-9]{5}-of-[0-9]{5})$")
_WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")


def safe_name(text: str) -> str:
    """Turns a file name or hub id into a model name.

    Look-alike and accented letters become their plain ASCII form, everything else that a name
    cannot hold becomes `-`, and a trailing `.gguf` or shard number goes away. Separators are
    characters like any other: they never survive, so no result points out of the folder that it
    is used in.

    Args:
        text: a file name (`Llama-2-7B.Q4_K_M.gguf`), a hub id or a title.

    Returns:
        The name (`llama-2-7b.q4-k-m`); always the same for the same text.

    Raises:
        InvalidRequest: nothing is left of the text.
    """
    name = _strip_suffix(_plain(text))
    if not name:
        raise InvalidRequest(
            "A model name needs at least one letter a-z or digit; "
            f"nothing is left of '{_printable(text)}'.",
            field="name",
        )
    if _WINDOWS_DEVICE.fullmatch(name):
        name = f"model-{name}"
    if len(name) > MAX_LENGTH:
        return hashed_name(name, text)
    return name


def require_name(text: str, *, field: str = "name") -> str:
    """Checks a name that a caller gave.

    Args:
        text: the name, as given.
        field: what to call it in the error.

    Returns:
        The text, unchanged.

    Raises:
        InvalidRequest: it is not a model name; the message says what is right, and proposes the
            nearest valid name where there is one.
    """
    try:
        nearest = safe_name(text)
    except InvalidRequest:
        nearest = ""
    if nearest and nearest == text:
        return text
    proposal = f" Did you mean '{nearest}'?" if nearest else ""
    raise InvalidRequest(
        f"'{_printable(text)}' is not a model name. A name has up to {MAX_LENGTH} lower-case "
        "letters a-z, digits, single '-' and '.', begins and ends with a letter or digit, and "
        f"leaves out '.gguf' and shard numbers.{proposal}",
        field=field,
    )


def hashed_name(name: str, text: str) -> str:
    """Makes a name unique by a short hash, for names that are taken or too long.

    Args:
        name: a valid name, of any length.
        text: what the hash is of; tells apart the texts that share the name.
    """
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_LENGTH]
    return f"{name[: MAX_LENGTH - _HASH_LENGTH - 1].rstrip('-.')}-{digest}"


def _plain(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text)
    letters = "".join(char for char in decomposed if not unicodedata.combining(char))
    return _DOTS.sub(".", _FORBIDDEN.sub("-", letters.lower())).strip("-.")


def _strip_suffix(name: str) -> str:
    # repeated, so that the result is stable: "a.gguf.gguf" must not become a name with a suffix
    while suffix := _SUFFIX.search(name):
        name = name[: suffix.start()].rstrip("-.")
    return "" if name == "gguf" else name


def _printable(text: str) -> str:
    shown = text[:80] + ("…" if len(text) > 80 else "")
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in shown)
