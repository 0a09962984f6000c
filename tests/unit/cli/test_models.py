"""`inferno models`: over HTTP and on the models folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inferno.engines.bundled import MODEL_NAME, model_path
from tests.unit.cli.conftest import MODELS, Inferno, Platform, announce, failed


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """A real model, outside the models folder."""
    path = tmp_path / "My Model.gguf"
    path.write_bytes(model_path().read_bytes())
    return path


class TestWithServer:
    def test_list(self, inferno: Inferno, running: Platform) -> None:
        lines = inferno("models", "list").stdout.splitlines()
        assert lines[0].split() == ["NAME", "SIZE", "STATE", "CONTEXT", "CAPABILITIES"]
        assert lines[1].split(maxsplit=5) == [
            "llama-2-7b", "7.0", "GiB", "loaded", "4096", "text-generation, embeddings",
        ]  # fmt: skip
        assert lines[2].split() == ["odd[red]name", "12", "B"]

    def test_list_as_json(self, inferno: Inferno, running: Platform) -> None:
        assert json.loads(inferno("models", "list", "--json").stdout) == {"models": MODELS}

    def test_info(self, inferno: Inferno, running: Platform) -> None:
        lines = inferno("models", "info", "llama-2-7b").stdout.splitlines()
        facts = {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}
        assert facts["size bytes"] == "7.0 GiB"
        assert facts["loaded"] == "yes"
        assert facts["capabilities"] == "text-generation, embeddings"

    def test_info_as_json(self, inferno: Inferno, running: Platform) -> None:
        assert json.loads(inferno("models", "info", "llama-2-7b", "--json").stdout) == MODELS[0]

    def test_info_of_none(self, inferno: Inferno, running: Platform) -> None:
        said = failed(inferno("models", "info", "gpt-5"))
        assert said == "Model 'gpt-5' not found (available: llama-2-7b, odd[red]name)"

    def test_load(self, inferno: Inferno, running: Platform) -> None:
        result = inferno("models", "load", "llama-2-7b", "--gpu-layers", "-1", "--threads", "2")
        assert result.stdout == "Loaded llama-2-7b in 5.4 s (8.0 GiB of memory).\n"
        assert running.bodies("/models/llama-2-7b/load") == [{"gpu_layers": -1, "threads": 2}]

    def test_load_with_every_option(self, inferno: Inferno, running: Platform) -> None:
        options = ["gpu-layers", "context-size", "batch-size", "parallel", "threads"]
        given = [part for option in options for part in (f"--{option}", "3")]
        answer = json.loads(inferno("models", "load", "llama-2-7b", "--json", *given).stdout)
        assert answer["load_time_ms"] == 5432
        expected = {option.replace("-", "_"): 3 for option in options}
        assert running.bodies("/models/llama-2-7b/load") == [expected]

    def test_unload(self, inferno: Inferno, running: Platform) -> None:
        assert inferno("models", "unload", "llama-2-7b").stdout == "Unloaded llama-2-7b.\n"
        answer = json.loads(inferno("models", "unload", "llama-2-7b", "--json").stdout)
        assert answer == {"status": "unloaded", "model_id": "llama-2-7b"}

    def test_what_the_server_refuses(self, inferno: Inferno, running: Platform) -> None:
        said = failed(inferno("models", "load", "a/../b"))
        assert said == "Model not found (available: llama-2-7b, odd[red]name)"
        assert running.requests[-1][0] == "/models/a%2F..%2Fb/load"


class TestCredentials:
    def test_key_of_another_server_is_asked_for(self, inferno: Inferno, platform: Platform) -> None:
        said = failed(inferno("models", "list", "--url", platform.url))
        assert said == "Invalid credentials (give a key with INFERNO_API_KEY)"

    def test_kept_key_stays_here(
        self, inferno: Inferno, platform: Platform, data_dir: Path
    ) -> None:
        announce(data_dir, "http://127.0.0.1:1", pid=1)
        failed(inferno("models", "list", "--url", platform.url))

    def test_kept_key_for_the_server_here_by_its_url(
        self, inferno: Inferno, running: Platform
    ) -> None:
        assert inferno("models", "list", "--url", f"{running.url}/").returncode == 0

    def test_key_from_the_environment(self, inferno: Inferno, platform: Platform) -> None:
        arguments = ("models", "list", "--url", platform.url)
        assert inferno(*arguments, INFERNO_API_KEY="inf_test").returncode == 0

    def test_option_beats_environment(self, inferno: Inferno, running: Platform) -> None:
        arguments = ("models", "list", "--api-key", "inf_test")
        assert inferno(*arguments, INFERNO_API_KEY="wrong").returncode == 0
        failed(inferno("models", "list", INFERNO_API_KEY="wrong"))


class TestUnreachable:
    @pytest.mark.parametrize("url", ["localhost:8080", "ftp://x", "http://", "http://x:port"])
    def test_not_a_url(self, inferno: Inferno, url: str) -> None:
        assert url in failed(inferno("models", "list", "--url", url), 2)

    def test_nobody_listens(self, inferno: Inferno) -> None:
        said = failed(inferno("models", "list", "--url", "http://127.0.0.1:1"))
        assert said == "http://127.0.0.1:1: Connection refused"

    def test_load_needs_a_server(self, inferno: Inferno, data_dir: Path) -> None:
        for command in ("load", "unload"):
            said = failed(inferno("models", command, "m"))
            assert f"no server runs on {data_dir}; start one with `inferno serve`" in said
            assert "--data-dir" in said
            assert "--url" in said


class TestFolder:
    def test_lists_the_bundled_model(self, inferno: Inferno) -> None:
        models = json.loads(inferno("models", "list", "--json").stdout)["models"]
        assert [model["id"] for model in models] == [MODEL_NAME]
        assert models[0]["size_bytes"] == model_path().stat().st_size
        assert models[0]["context_size"] > 0
        assert not models[0]["loaded"]

    def test_without_the_bundled_model(self, inferno: Inferno) -> None:
        result = inferno("models", "list", "--json", INFERNO_BUNDLED_MODEL="false")
        assert json.loads(result.stdout) == {"models": []}

    def test_a_stale_announcement_is_no_server(self, inferno: Inferno, data_dir: Path) -> None:
        announce(data_dir, "http://127.0.0.1:1", pid=2**22 + 1)
        assert MODEL_NAME in inferno("models", "list").stdout

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x", "inference_url": 3}'])
    def test_a_broken_announcement_is_no_server(
        self, inferno: Inferno, data_dir: Path, content: str
    ) -> None:
        (data_dir / "run.json").write_text(content)
        assert MODEL_NAME in inferno("models", "list").stdout

    def test_install_list_info_remove(
        self, inferno: Inferno, data_dir: Path, model_file: Path
    ) -> None:
        assert inferno("models", "install", str(model_file)).stdout.startswith("Installed my-model")
        assert (data_dir / "models" / "my-model.gguf").read_bytes() == model_file.read_bytes()
        assert "my-model" in inferno("models", "list").stdout
        assert "gguf" in inferno("models", "info", "my-model").stdout
        assert inferno("models", "remove", "my-model", "--yes").stdout == "Removed my-model.\n"
        assert not (data_dir / "models" / "my-model.gguf").exists()

    def test_install_under_a_name_as_json(
        self, inferno: Inferno, model_file: Path, tmp_path: Path
    ) -> None:
        folder = ("--models-dir", str(tmp_path / "elsewhere"))
        result = inferno("models", "install", str(model_file), "--name", "mine", "--json", *folder)
        assert json.loads(result.stdout)["id"] == "mine"
        assert result.stderr == ""
        assert (tmp_path / "elsewhere" / "mine.gguf").is_file()

    def test_install_of_another_digest(self, inferno: Inferno, model_file: Path) -> None:
        said = failed(inferno("models", "install", str(model_file), "--sha256", "0" * 64))
        assert "SHA-256" in said

    def test_install_of_nothing(self, inferno: Inferno, tmp_path: Path) -> None:
        failed(inferno("models", "install", str(tmp_path / "none.gguf")))

    def test_install_replaces_by_force_only(
        self, inferno: Inferno, model_file: Path, data_dir: Path
    ) -> None:
        inferno("models", "install", str(model_file), "--name", "mine")
        model_file.write_bytes(model_file.read_bytes() + b"\0" * 32)
        failed(inferno("models", "install", str(model_file), "--name", "mine"))
        result = inferno("models", "install", str(model_file), "--name", "mine", "--force")
        assert result.returncode == 0, result.stderr
        installed = data_dir / "models" / "mine.gguf"
        assert installed.read_bytes() == model_file.read_bytes()

    def test_remove_asks(self, inferno: Inferno) -> None:
        said = failed(inferno("models", "remove", "mine"), 2)
        assert said == "give --yes to delete without being asked"

    def test_remove_of_none(self, inferno: Inferno) -> None:
        assert "not found" in failed(inferno("models", "remove", "mine", "--yes"))

    def test_remove_of_the_bundled_model(self, inferno: Inferno) -> None:
        said = failed(inferno("models", "remove", MODEL_NAME, "--yes"))
        assert "cannot be removed" in said

    def test_unusable_file_is_listed(self, inferno: Inferno, data_dir: Path) -> None:
        (data_dir / "models").mkdir()
        (data_dir / "models" / "broken.gguf").write_bytes(b"not a model")
        assert "unusable" in inferno("models", "list").stdout
        assert "error:" in inferno("models", "info", "broken").stdout
