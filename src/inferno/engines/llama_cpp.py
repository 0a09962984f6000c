"""llama.cpp as an engine: GGUF models, in a process that runs its own C++ HTTP server."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import struct
import sys
from pathlib import Path

import msgspec

import inferno
from inferno.core.resources import DEFAULT_BATCH_SIZE, DEFAULT_CONTEXT_SIZE, DEFAULT_PARALLEL
from inferno.engines import loopback
from inferno.engines.base import Failure, Launch
from inferno.models.gguf import GGUFError, read_header

_CHILD = "inferno.engines.llama_cpp_child"
_SPARE_THREADS = 16  # HTTP threads for probes and metrics while all requests are streams
_PROMPT_CACHE_MIB = 256

# What a child may see of the platform's environment: where things are, how the GPU and its
# libraries are set up; none of our settings, which hold secrets.
_INHERITED = re.compile(
    r"^(PATH|HOME|USER|LANG|LC_\w+|TZ|TMPDIR|TEMP|TMP|SYSTEMROOT|LD_LIBRARY_PATH|LD_PRELOAD"
    r"|DYLD_\w+|(CUDA|NVIDIA|HIP|ROCR|HSA|GGML|OMP|KMP|GOMP|MKL|VK|ONEAPI|SYCL|MALLOC)_\w+)$"
)

# Threads of a model this small spend their time waiting for each other: one is as fast on an idle
# machine, and many times faster as soon as any other process wants a core.
_ONE_THREAD_BELOW = 64 * 2**20

_HEAD_BYTES = 1 << 20  # architecture keys stand before the vocabulary, well within this
_KEY_LENGTH = struct.Struct("<Q")
_UNSIGNED = struct.Struct("<II")  # value type 4 (32 bits, unsigned), value


class _Symptom(msgspec.Struct, frozen=True):
    """A line in the engine's log and what it means; `{file}` and groups fill the message."""

    pattern: str
    reason: str
    message: str
    permanent: bool = True


# Order matters: a bad version also says "failed to read header".
_SYMPTOMS = (
    _Symptom(
        r"failed to open GGUF file .*\(No such file or directory\)",
        "FileMissing",
        "The model file {file} does not exist.",
    ),
    _Symptom(
        r"failed to open GGUF file .*\((?P<why>[^)]*)\)",
        "FileUnreadable",
        "The model file {file} cannot be read: {why}.",
    ),
    _Symptom(
        r"GGUF file is version (?P<version>\d+)",
        "UnsupportedVersion",
        "{file} is a GGUF file of version {version}, which this engine cannot read.",
    ),
    _Symptom(
        r"GGUFv1 is no longer supported",
        "UnsupportedVersion",
        "{file} is a GGUF file of version 1, which this engine cannot read.",
    ),
    _Symptom(
        r"invalid magic characters|failed to read magic",
        "NotGGUF",
        "{file} is not a GGUF file.",
    ),
    _Symptom(
        r"unknown model architecture: '(?P<architecture>[^']*)'",
        "UnsupportedArchitecture",
        "{file} holds a model of architecture '{architecture}', which this engine cannot run.",
    ),
    _Symptom(
        r"(?i)bad_alloc|out of memory|failed to allocate|unable to allocate"
        r"|cannot allocate memory|alloc\w* (\w+ )?failed",
        "OutOfMemory",
        "There is not enough memory to load {file}. Use a smaller context_size, fewer parallel "
        "requests or a smaller model.",
        permanent=False,
    ),
    _Symptom(
        r"not within the file bounds|corrupted or incomplete|failed to read (header|key-value"
        r"|tensor)|exceeds remaining file size|gguf_init_from|missing tensor|wrong number of"
        r" tensors|has wrong shape|key not found in model|error loading model vocabulary",
        "Corrupt",
        "{file} is damaged or incomplete. Install the model again.",
    ),
    _Symptom(
        r"ModuleNotFoundError: No module named '?xllamacpp|ImportError: ",
        "EngineMissing",
        "The llama.cpp engine is not installed on this machine.",
    ),
)


class LlamaCpp:
    """Starts `llama_cpp_child` and reads its log."""

    name = "llama_cpp"

    def command(self, launch: Launch) -> list[str]:
        """Return the argv of the child. `-S` and `-P` keep its start short and its path ours."""
        return [sys.executable, "-S", "-P", "-m", _CHILD, launch.uid]

    def environment(self) -> dict[str, str]:
        """Return what the child inherits, and where it finds its modules."""
        inherited = {key: value for key, value in os.environ.items() if _INHERITED.match(key)}
        ours = {"PYTHONPATH": os.pathsep.join(_module_folders())}
        return inherited | ours

    def config(self, launch: Launch) -> bytes:
        """Return the child's configuration with all defaults filled in. Reads the file's header."""
        options = launch.options
        traits = _read_traits(launch.model_path)
        parallel = options.parallel or DEFAULT_PARALLEL
        in_flight = launch.max_in_flight or max(32, 4 * parallel)
        config = {
            "parent": os.getpid(),
            "model": str(launch.model_path),
            "name": launch.served_name,
            "key": launch.key,
            "context_size": options.context_size
            or min(DEFAULT_CONTEXT_SIZE, traits.context_length or DEFAULT_CONTEXT_SIZE),
            "batch_size": options.batch_size or DEFAULT_BATCH_SIZE,
            "parallel": parallel,
            "threads": options.threads or self._threads(launch.model_path),
            "gpu_layers": options.gpu_layers,
            "http_threads": in_flight + _SPARE_THREADS,
            "encoder": traits.is_encoder,
            "own_pooling": traits.has_pooling,
            # What the engine keeps of prompts in the host's memory does not say which adapter
            # read them, so that one adapter would go on from what another one read.
            "prompt_cache_mib": 0 if launch.adapters else _PROMPT_CACHE_MIB,
            "adapters": [str(adapter.path) for adapter in launch.adapters],
            "grace": launch.grace,
        }
        return msgspec.json.encode(config) + b"\n"

    @staticmethod
    def _threads(model: Path) -> int | None:
        """Return how many threads run a model where nobody says; None for one per core."""
        try:
            return 1 if model.stat().st_size < _ONE_THREAD_BELOW else None
        except OSError:
            return None  # the engine says what is wrong with the file

    def diagnose(
        self, launch: Launch, log_tail: str, exit_code: int, *, was_ready: bool
    ) -> Failure:
        """Explain an exit from the engine's own words, else from how the process ended.

        Once the model was loaded, nothing is wrong with its file for good, whatever the log says.
        """
        if launch.adapters and not was_ready:
            refused = _refused_adapter(launch, log_tail)
            if refused is not None:
                return refused
        for symptom in _SYMPTOMS:
            if was_ready and symptom.permanent:
                continue
            if found := re.search(symptom.pattern, log_tail):
                message = symptom.message.format(file=launch.model_path.name, **found.groupdict())
                return Failure(symptom.reason, message, symptom.permanent)
        if exit_code == -signal.SIGKILL and not was_ready:
            return Failure(
                "OutOfMemory",
                "The replica was killed while it loaded the model, most likely because the "
                "machine ran out of memory.",
            )
        return Failure("Crashed", f"The replica ended unexpectedly ({_describe(exit_code)}).")

    async def probe(self, host: str, port: int, *, within: float) -> bool:
        """Ask `/health`, which needs no key and no slot."""
        return await loopback.status(host, port, "/health", within=within) == 200

    async def works(self, host: str, port: int, key: str, *, within: float) -> bool:
        """Ask `/metrics`: the loop that generates answers it, between two steps."""
        return await loopback.status(host, port, "/metrics", key=key, within=within) == 200


_ADAPTER = re.compile(r"failed to load lora adapter '(?P<path>.*)'")
_WHY_NOT = re.compile(r"failed to apply lora adapter: (?P<why>.*)")


def _refused_adapter(launch: Launch, log_tail: str) -> Failure | None:
    """Return what is wrong with the adapter that the engine could not load, if that is it."""
    found = _ADAPTER.search(log_tail)
    by_path = {str(adapter.path): adapter for adapter in launch.adapters}
    adapter = by_path.get(found["path"]) if found else None
    if adapter is None:
        return None
    file, why = adapter.path.name, _WHY_NOT.search(log_tail)
    if why:
        message = f"does not fit the model: {why['why'].strip()}."
    elif "No such file or directory" in log_tail:
        message = f"cannot be loaded: the file {file} does not exist."
    else:
        message = f"cannot be loaded: {file} is damaged, incomplete or no LoRA adapter in GGUF."
    message = f"Adapter '{adapter.name}' {message}"
    return Failure("AdapterUnusable", message, permanent=True, adapter=adapter.name)


class _Traits(msgspec.Struct, frozen=True, kw_only=True):
    """What decides how a model is started.

    Args:
        context_length: tokens it was trained for; 0 when the file does not say.
        is_encoder: it only embeds.
        has_pooling: it was made to embed and says how.
    """

    context_length: int = 0
    is_encoder: bool = False
    has_pooling: bool = False


def _read_traits(path: Path) -> _Traits:
    """Read a model's traits; a file that cannot be read is left for the engine to complain of."""
    try:
        header = read_header(path)
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except (GGUFError, OSError):
        return _Traits()
    architecture = header.architecture
    return _Traits(
        context_length=header.context_length,
        is_encoder="bert" in architecture or architecture == "t5encoder",
        has_pooling=_has_pooling(head, architecture),
    )


def _has_pooling(head: bytes, architecture: str) -> bool:
    """Tell whether the header names a pooling other than none."""
    key = f"{architecture}.pooling_type".encode()
    at = head.find(_KEY_LENGTH.pack(len(key)) + key)
    if at < 0:
        return False
    at += _KEY_LENGTH.size + len(key)
    if len(head) < at + _UNSIGNED.size:
        return False
    value_type, value = _UNSIGNED.unpack_from(head, at)
    return bool(value_type == 4 and value != 0)


def _module_folders() -> list[str]:
    """Folders of our own package and of the engine's, since the child runs without `site`."""
    folders = [str(Path(inferno.__file__).parent.parent)]
    spec = importlib.util.find_spec("xllamacpp")
    if spec is not None and spec.origin is not None:
        folders.append(str(Path(spec.origin).parent.parent))
    return folders


def _describe(exit_code: int) -> str:
    """Name a signal or an exit code."""
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        return f"signal {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"signal {-exit_code}"
