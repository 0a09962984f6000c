import json
import os
import signal
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import inferno
from inferno.core.errors import ConfigurationError
from inferno.core.resources import EngineOptions
from inferno.engines import engine
from inferno.engines.base import Adapter, Launch
from inferno.engines.llama_cpp import LlamaCpp, _has_pooling
from inferno.engines.llama_cpp_child import capabilities

LAUNCH = Launch(uid="u-1", served_name="m", model_path=Path("/secret/place/m.gguf"), key="k" * 64)


def _config(launch: Launch) -> dict[str, object]:
    line = LlamaCpp().config(launch)
    assert line.endswith(b"\n")
    decoded: dict[str, object] = json.loads(line)
    return decoded


def test_engines_are_found_by_name() -> None:
    assert engine("llama_cpp").name == "llama_cpp"
    with pytest.raises(ConfigurationError):
        engine("nonesuch")


def test_the_command_names_the_pod_and_not_the_key() -> None:
    command = LlamaCpp().command(LAUNCH)
    assert LAUNCH.uid in command
    assert any("inferno.engines" in argument for argument in command)
    assert not any(LAUNCH.key in argument for argument in command)
    assert LAUNCH.key not in repr(LAUNCH)


def test_defaults_are_filled_in_and_the_configuration_is_one_line() -> None:
    config = _config(LAUNCH)
    assert (config["context_size"], config["batch_size"], config["parallel"]) == (2048, 512, 4)
    assert (config["threads"], config["gpu_layers"]) == (None, None)
    assert config["http_threads"] == 32 + 16


def test_options_override_defaults() -> None:
    options = EngineOptions(context_size=100, batch_size=32, parallel=20, threads=3, gpu_layers=0)
    config = _config(
        Launch(uid="u", served_name="m", model_path=Path("m"), key="k", options=options)
    )
    assert (config["context_size"], config["batch_size"], config["parallel"]) == (100, 32, 20)
    assert (config["threads"], config["gpu_layers"]) == (3, 0)
    assert config["http_threads"] == 80 + 16


ADAPTERS = (Adapter("one", Path("/secret/it's/one.gguf")), Adapter("two", Path("/secret/two.gguf")))
ADAPTED = replace(LAUNCH, adapters=ADAPTERS)


def test_with_adapters_no_prompts_are_kept_that_another_adapter_could_take_for_its_own() -> None:
    assert _config(LAUNCH)["prompt_cache_mib"] != 0
    assert _config(ADAPTED)["prompt_cache_mib"] == 0
    assert _config(ADAPTED)["adapters"] == ["/secret/it's/one.gguf", "/secret/two.gguf"]


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (
            "llama_adapter_lora_init_from_file_ptr: failed to apply lora adapter: model arch and "
            "LoRA arch mismatch\n",
            "Adapter 'one' does not fit the model: model arch and LoRA arch mismatch.",
        ),
        (
            "llama_adapter_lora_init: failed to open '/secret/it's/one.gguf': No such file or "
            "directory\n",
            "Adapter 'one' cannot be loaded: the file one.gguf does not exist.",
        ),
        (
            "",
            "Adapter 'one' cannot be loaded: one.gguf is damaged, incomplete or no LoRA adapter "
            "in GGUF.",
        ),
    ],
)
def test_an_adapter_that_cannot_be_loaded_is_named(log: str, message: str) -> None:
    log += "cmn  common_init_: failed to load lora adapter '/secret/it's/one.gguf'\n"
    failure = LlamaCpp().diagnose(ADAPTED, log, 1, was_ready=False)
    assert (failure.reason, failure.adapter) == ("AdapterUnusable", "one")
    assert failure.message == message
    assert not LlamaCpp().diagnose(LAUNCH, log, 1, was_ready=False).adapter


def test_http_threads_follow_the_requests_in_flight() -> None:
    launch = Launch(uid="u", served_name="m", model_path=Path("m"), key="k", max_in_flight=200)
    assert _config(launch)["http_threads"] == 216


def test_secrets_of_the_platform_stay_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("INFERNO_API_KEY", "INFERNO_ADMIN_PASSWORD", "HF_TOKEN", "PYTHONSTARTUP"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    environment = LlamaCpp().environment()
    assert "secret" not in environment.values()
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert environment["OMP_WAIT_POLICY"] == "active"
    assert str(Path(inferno.__file__).parents[1]) in environment["PYTHONPATH"].split(os.pathsep)


def test_how_threads_wait_is_left_to_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert "OMP_WAIT_POLICY" not in LlamaCpp().environment()


@pytest.mark.parametrize(
    ("log", "reason", "permanent"),
    [
        ("E gguf_init_from_file: failed to open GGUF file '/secret/place/m.gguf' (No such file or"
         " directory)", "FileMissing", True),
        ("failed to open GGUF file '/secret/place/m.gguf' (Permission denied)",
         "FileUnreadable", True),
        ("invalid magic characters: 'hell', expected 'GGUF'", "NotGGUF", True),
        ("failed to read magic", "NotGGUF", True),
        ("this GGUF file is version 99 but this software only supports up to version 3\n"
         "E gguf_init_from_reader: failed to read header", "UnsupportedVersion", True),
        ("tensor 'a' data is not within the file bounds, model is corrupted or incomplete",
         "Corrupt", True),
        ("gguf_init_from_reader: failed to read key-value pairs", "Corrupt", True),
        ("unknown model architecture: 'nonesuch'", "UnsupportedArchitecture", True),
        ("failed to initialize the context: std::bad_alloc", "OutOfMemory", False),
        ("ggml_backend_cuda_buffer_type_alloc_buffer: cudaMalloc failed: out of memory",
         "OutOfMemory", False),
        ("ModuleNotFoundError: No module named 'xllamacpp'", "EngineMissing", True),
        ("all was well", "Crashed", False),
    ],
)  # fmt: skip
def test_the_log_tells_why(log: str, reason: str, permanent: bool) -> None:
    failure = LlamaCpp().diagnose(LAUNCH, log, 1, was_ready=False)
    assert (failure.reason, failure.permanent) == (reason, permanent)
    assert "/secret" not in failure.message


def test_a_kill_during_loading_points_at_memory() -> None:
    failure = LlamaCpp().diagnose(LAUNCH, "", -signal.SIGKILL, was_ready=False)
    assert (failure.reason, failure.permanent) == ("OutOfMemory", False)


def test_what_served_before_is_never_given_up() -> None:
    for log in ("failed to read header", "all was well"):
        failure = LlamaCpp().diagnose(LAUNCH, log, -signal.SIGSEGV, was_ready=True)
        assert (failure.reason, failure.permanent) == ("Crashed", False)
        assert "SIGSEGV" in failure.message


@pytest.mark.parametrize(("value", "expected"), [(3, True), (0, False)])
def test_a_model_may_bring_its_own_pooling(value: int, expected: bool) -> None:
    key = b"qwen3.pooling_type"
    entry = struct.pack("<Q", len(key)) + key + struct.pack("<II", 4, value)
    assert _has_pooling(b"GGUF" + bytes(20) + entry + bytes(8), "qwen3") is expected
    assert not _has_pooling(entry, "llama")
    assert not _has_pooling(entry[:-2], "qwen3")


def test_capabilities() -> None:
    assert capabilities({}, can_infill=False) == ["embeddings", "text-generation"]
    chat = {"chat_template": "x", "chat_template_caps": {"supports_tools": True}}
    assert capabilities(chat, can_infill=True) == [
        "chat", "embeddings", "infill", "text-generation", "tools",
    ]  # fmt: skip


async def test_a_probe_of_nothing_fails(unused_tcp_port: int) -> None:
    assert not await LlamaCpp().probe("127.0.0.1", unused_tcp_port, within=1.0)


def test_a_child_without_its_parent_ends() -> None:
    child = subprocess.run(
        LlamaCpp().command(LAUNCH),
        env=LlamaCpp().environment(),
        input=LlamaCpp().config(LAUNCH).replace(b'"parent":', b'"parent":1'),
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert child.returncode == 1
    assert child.stdout == b""


def test_the_child_imports_little() -> None:
    code = (
        "import sys, inferno.engines.llama_cpp_child; "
        "print(*[m for m in sys.modules if m.startswith('inferno')])"
    )
    output = subprocess.run(
        [sys.executable, "-S", "-P", "-c", code],
        env=LlamaCpp().environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(output.stdout.split()) == {
        "inferno", "inferno.engines", "inferno.engines.llama_cpp_child",
    }  # fmt: skip
