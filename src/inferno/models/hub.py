"""Model files in repositories of the Hugging Face hub.

The hub's own client finds the repository, pins the commit and knows the files' digests; the
bytes come through our `download`. The client's downloader starts from nothing after every
failure of the process, and cannot be stopped from outside.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from inferno.core.errors import InvalidRequest, NotFound
from inferno.models.folder import SHARD
from inferno.models.source import WebItem, shard_names
from inferno.models.transfer import InstallFailed

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

PREFERRED = ("Q4_K_M", "Q8_0", "Q5_K_M", "Q4_K_S", "Q4_0", "Q6_K")
"""Which quantization to take of several: the usual compromise first, then what is near it."""

_TIMEOUT_SECONDS = 30.0
_SOURCE = re.compile(
    r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?P<file>/[^@\0]+)?(@(?P<revision>[\w./-]+))?", re.ASCII
)
_NOT_MODELS = re.compile(r"mmproj|imatrix", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class HubSource:
    """A parsed `hf://` source.

    Args:
        repo: `owner/name`.
        file: path in the repository; None to choose one.
        revision: branch, tag or commit; None for the main branch.
    """

    repo: str
    file: str | None
    revision: str | None


def parse(source: str) -> HubSource:
    """Takes `hf://owner/repo[/file][@revision]` apart.

    Raises:
        InvalidRequest: it is not of this form.
    """
    match = _SOURCE.fullmatch(source)
    file = match["file"][1:] if match and match["file"] else None
    steps = [*(match["repo"].split("/") if match else []), *(file.split("/") if file else [])]
    if match is None or any(step in ("", ".", "..") for step in steps):
        raise _invalid("A hub source has the form hf://owner/repo[/file.gguf][@revision].")
    if file is not None and not file.lower().endswith(".gguf"):
        raise _invalid("The file of a hub source must be a .gguf file.")
    return HubSource(match["repo"], file, match["revision"])


def choose(paths: list[str]) -> list[str]:
    """Chooses the model of a repository that somebody wants who names no file.

    Args:
        paths: all files of the repository.

    Returns:
        The path of the file, or those of all shards of a split model.

    Raises:
        NotFound: there is no model file, or a shard of the chosen model is missing.
        InvalidRequest: there are several, and none is the obvious one; lists them.
    """
    candidates = [path for path in paths if _is_candidate(path)]
    if not candidates:
        raise NotFound("The repository has no GGUF file. Choose one that has.")
    if len(candidates) == 1:
        return _with_shards(candidates[0], paths)
    for quantization in PREFERRED:
        pattern = rf"(?<![A-Za-z0-9_]){re.escape(quantization)}(?![A-Za-z0-9_])"
        named = [path for path in candidates if re.search(pattern, path, re.IGNORECASE)]
        if len(named) == 1:
            return _with_shards(named[0], paths)
    listed = ", ".join(candidates[:50])
    raise InvalidRequest(
        f"The repository has several model files. Name one of them: {listed}.",
        field="source",
        files=candidates[:50],
    )


def find_files(source: str, *, token: str | None, endpoint: str | None) -> list[WebItem]:
    """Asks the hub for the files that a source stands for, pinned to one commit.

    Args:
        source: `hf://owner/repo[/file][@revision]`.
        token: None means the one of the hub client's own settings (`HF_TOKEN`).
        endpoint: address of the hub; None means that of the client's settings (`HF_ENDPOINT`).

    Raises:
        InvalidRequest: the source is malformed or ambiguous.
        NotFound: there is no such repository, revision or file.
        InstallFailed: the hub refused or could not be reached.
    """
    wanted = parse(source)
    from huggingface_hub import HfApi, get_token, hf_hub_url

    with _hub_failures(wanted):
        info = HfApi(endpoint=endpoint, token=token).model_info(
            wanted.repo,
            revision=wanted.revision,
            files_metadata=True,
            timeout=_TIMEOUT_SECONDS,
        )
    files = {sibling.rfilename: sibling for sibling in info.siblings or []}
    paths = _with_shards(wanted.file, list(files)) if wanted.file else choose(list(files))
    bearer = token or get_token()
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    return [
        _item(
            files[path],
            hf_hub_url(wanted.repo, path, revision=_commit(info), endpoint=endpoint),
            headers,
        )
        for path in paths
    ]


def _is_candidate(path: str) -> bool:
    shard = SHARD.fullmatch(PurePosixPath(path).name)
    first = shard is None or int(shard["number"]) == 1
    return path.lower().endswith(".gguf") and first and not _NOT_MODELS.search(path)


def _with_shards(path: str, paths: list[str]) -> list[str]:
    folder, _, filename = path.rpartition("/")
    wanted = [f"{folder}/{name}".lstrip("/") for name in shard_names(filename)]
    for name in wanted:
        if name not in paths:
            raise NotFound(f"The repository has no file '{name[:200]}'.")
    return wanted


def _item(file: RepoSibling, url: str, headers: dict[str, str]) -> WebItem:
    sha256 = file.lfs.sha256 if file.lfs else None
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        raise InstallFailed("BadAnswer", "The hub gives a digest that is none for the file.")
    return WebItem(PurePosixPath(file.rfilename).name, url, headers, file.size, sha256)


def _commit(info: ModelInfo) -> str:
    if not info.sha:
        raise InstallFailed("BadAnswer", "The hub does not say which commit the files are of.")
    return info.sha


@contextmanager
def _hub_failures(wanted: HubSource) -> Iterator[None]:
    """Turns the hub client's errors into ours."""
    import httpx2
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise InstallFailed(
            "AccessDenied",
            f"'{wanted.repo}' is gated. Accept its terms on the hub, and give a token of the "
            "account that did.",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise NotFound(
            f"The hub has no repository '{wanted.repo}', or it is private: then give a token."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise NotFound(f"'{wanted.repo}' has no revision '{wanted.revision}'.") from error
    except errors.HFValidationError as error:
        raise _invalid("This cannot be a repository of the hub.") from error
    except errors.OfflineModeIsEnabled as error:
        raise InstallFailed(
            "Unreachable", "The hub's client is set to be offline (HF_HUB_OFFLINE)."
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        raise InstallFailed(
            "AccessDenied" if status in (401, 403) else "BadAnswer",
            f"The hub answers {status} for '{wanted.repo}'.",
        ) from error
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise InstallFailed(
            "Unreachable",
            f"The hub cannot be reached: {str(error) or type(error).__name__}. Check the network, "
            "or name a mirror.",
        ) from error


def _invalid(message: str) -> InvalidRequest:
    return InvalidRequest(message, field="source")
