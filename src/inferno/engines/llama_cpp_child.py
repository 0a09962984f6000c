"""The program of a llama.cpp replica: `python -m inferno.engines.llama_cpp_child POD_UID`.

It lives as long as its parent, says once when it is ready, and drains on SIGTERM. Loading a model
is all it does, so it imports little: its start is part of the time to the first token.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.05
_PROBE_TIMEOUT = 2.0
_LOG_PATIENCE = 2.0  # seconds
_LAST_WORDS = b"exiting due to"  # of an engine that failed to start


def main() -> None:
    """Serve until SIGTERM or until the parent is gone."""
    _die_with_parent()
    events = _claim_stdout()
    log_start = os.fstat(2).st_size
    config = json.loads(sys.stdin.buffer.readline())
    if os.getppid() != config["parent"]:  # it died before the signal was armed
        os._exit(1)
    threading.Thread(target=_exit_at_end_of_stdin, daemon=True).start()
    started = time.monotonic()
    try:
        server = serve(config)
    except RuntimeError as error:
        _await_log(log_start)
        sys.exit(f"\n{error}")
    load_time_ms = round((time.monotonic() - started) * 1000)
    asked_to_stop = _catch_sigterm()
    port = int(server.listening_address.rpartition(":")[2])
    ready = describe(port, config["key"], encoder=config["encoder"])
    os.write(events, json.dumps(ready | {"load_time_ms": load_time_ms}).encode() + b"\n")
    os.read(asked_to_stop, 1)
    drain(port, config["key"], config["grace"])
    sys.stderr.write("\ndrained\n")
    sys.stderr.flush()
    os._exit(0)  # the engine's destructors would wait for open connections


def serve(config: dict[str, Any]) -> Any:
    """Load the model and listen on a free loopback port.

    Args:
        config: as written by `LlamaCpp.config`.

    Raises:
        RuntimeError: the engine could not start; its log says why.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = config["model"]
    params.model_alias = {config["name"]}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [config["key"]]
    params.n_threads_http = config["http_threads"]
    params.endpoint_metrics = True
    params.ui = False
    params.use_jinja = True
    params.n_parallel = config["parallel"]
    params.n_ctx = config["context_size"] * config["parallel"]
    # One cache for all slots: with one each, the engine splits texts of unequal length that it
    # embeds together over several steps, and pools only the last of them.
    params.kv_unified = True
    params.kv_unified_per_slot = config["context_size"]  # or a slot might take all of it
    params.n_batch = params.n_ubatch = config["batch_size"]  # embeddings need them equal
    params.embedding = True  # completions work all the same
    if not config["own_pooling"]:
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.cache_ram_mib = config["prompt_cache_mib"]
    if config["adapters"]:
        # At scale 0: a request names the one that it wants.
        params.lora_adapters = [
            xllamacpp.CommonAdapterLoraInfo(path, 0.0) for path in config["adapters"]
        ]
        params.lora_init_without_apply = True
    if config["threads"] is not None:
        params.cpuparams.n_threads = config["threads"]
    if config["gpu_layers"] is not None:
        params.n_gpu_layers = config["gpu_layers"]
        params.fit_params = False  # what somebody asked for is not second-guessed
    return xllamacpp.Server(params)


def describe(port: int, key: str, *, encoder: bool) -> dict[str, Any]:
    """Ask the server on `port` what it can do; returns the ready event less its load time."""
    _, body = _request(port, key, "GET", "/props")
    props = json.loads(body)
    return {
        "port": port,
        "context_size": props["default_generation_settings"]["n_ctx"],
        "parallel": props["total_slots"],
        "capabilities": (
            ["embeddings"] if encoder else capabilities(props, can_infill=_can_infill(port, key))
        ),
    }


def _can_infill(port: int, key: str) -> bool:
    """Tell whether the model has fill-in-the-middle tokens, by using them once."""
    body = b'{"input_prefix":"a","input_suffix":"b","n_predict":1}'
    status, _ = _request(port, key, "POST", "/infill", body)
    return status == 200


def capabilities(props: dict[str, Any], *, can_infill: bool) -> list[str]:
    """Name what the engine can do with a generating model, sorted.

    Args:
        props: the engine's answer to `/props`.
        can_infill: the model has fill-in-the-middle tokens.
    """
    found = {"text-generation", "embeddings"}
    if props.get("chat_template"):
        found.add("chat")
        if props.get("chat_template_caps", {}).get("supports_tools"):
            found.add("tools")
    if can_infill:
        found.add("infill")
    return sorted(found)


def drain(port: int, key: str, grace: float) -> None:
    """Wait until nothing runs or waits in the server on `port`, at most `grace` seconds.

    Two idle polls in a row are needed: a request may be between its connection and its slot.
    """
    deadline = time.monotonic() + grace
    idle_polls = 0
    while idle_polls < 2 and time.monotonic() < deadline:
        idle_polls = idle_polls + 1 if _is_idle(port, key) else 0
        time.sleep(_POLL_SECONDS)


def _is_idle(port: int, key: str) -> bool:
    """Tell whether no request is processed and none is deferred."""
    try:
        status, body = _request(port, key, "GET", "/metrics")
    except OSError:  # every HTTP thread is taken, so requests are running
        return False
    if status != 200:
        return False
    counts = dict(
        line.split(" ", 1) for line in body.decode().splitlines() if line.startswith("llamacpp:")
    )
    names = ("llamacpp:requests_processing", "llamacpp:requests_deferred")
    return all(float(counts.get(name, "1")) == 0 for name in names)


def _request(port: int, key: str, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """Send one request to our own server; `http.client` would cost more than all else here.

    Returns:
        The status code and the body.

    Raises:
        OSError: no answer in time.
    """
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=_PROBE_TIMEOUT) as connection:
        connection.sendall(head.encode() + body)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    headers, _, content = answer.partition(b"\r\n\r\n")
    return int(headers.split(b" ", 2)[1]), content


def _die_with_parent() -> None:
    """Have Linux kill us when our parent dies, even while the engine holds the interpreter."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _exit_at_end_of_stdin() -> None:
    """End the process when the parent's end of the pipe closes; works on every platform."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    os._exit(1)


def _claim_stdout() -> int:
    """Keep standard output for our events and send what the engine prints there to the log."""
    events = os.dup(1)
    os.dup2(2, 1)
    return events


def _catch_sigterm() -> int:
    """Turn SIGTERM into a byte on a pipe; until now it ended the process, as nothing ran.

    Returns:
        The file descriptor to read from.
    """
    reading, writing = os.pipe()
    signal.signal(signal.SIGTERM, lambda *_: os.write(writing, b"x"))
    return reading


def _await_log(start: int) -> None:
    """Wait until the engine has logged why it failed: it writes in the background.

    Leaving earlier would lose the reason, and so would a normal exit.

    Args:
        start: size of the log when this process began, in bytes.
    """
    deadline = time.monotonic() + _LOG_PATIENCE
    while time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        if not stat.S_ISREG(os.fstat(2).st_mode):  # somebody else's pipe or terminal
            return
        try:
            with open("/proc/self/fd/2", "rb") as log:
                log.seek(start)
                if _LAST_WORDS in log.read():
                    return
        except OSError:  # no such file system here
            continue


if __name__ == "__main__":
    main()
