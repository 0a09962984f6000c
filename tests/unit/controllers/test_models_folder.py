from __future__ import annotations

import shutil
from pathlib import Path

import gguf
import pytest

from inferno.controllers.models_folder import ModelsFolderController
from inferno.core.resources import (
    EngineOptions,
    InferenceService,
    LoRAAdapter,
    PredictorModel,
)
from inferno.models.folder import ModelsFolder
from inferno.storage.resources import SqlResourceStore
from tests.contract.runtimes.tiny_gguf import write_tiny_gguf


@pytest.fixture
def controller(store: SqlResourceStore, tmp_path: Path) -> ModelsFolderController:
    write_tiny_gguf(tmp_path / "base.gguf")
    return ModelsFolderController(
        store,
        ModelsFolder(tmp_path),
        bundled=None,
        options_of=lambda name: EngineOptions(),
        is_pinned=lambda name: False,
    )


def write_adapter(path: Path, architecture: str = "llama") -> None:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


async def served(store: SqlResourceStore) -> dict[str, PredictorModel]:
    services, _ = await store.list(InferenceService)
    return {one.metadata.name: one.spec.predictor.model for one in services}


async def test_an_adapter_goes_with_the_model_that_its_name_begins_with(
    store: SqlResourceStore, controller: ModelsFolderController, tmp_path: Path
) -> None:
    write_adapter(tmp_path / "Base+Legal v2.gguf")
    await controller.reconcile(first=True)
    (model,) = (await served(store)).values()
    (adapter,) = model.lora.adapters
    assert adapter.name == "legal-v2"
    assert adapter.uri == (tmp_path / "Base+Legal v2.gguf").as_uri()
    before = model.template
    write_adapter(tmp_path / "Base+Legal v2.gguf")
    await controller.reconcile()
    assert (await served(store))["base"].template != before, "a replaced file is another adapter"
    (tmp_path / "Base+Legal v2.gguf").unlink()
    await controller.reconcile()
    assert (await served(store))["base"].adapters == []


async def test_adapters_that_were_declared_stay(
    store: SqlResourceStore, controller: ModelsFolderController, tmp_path: Path
) -> None:
    await controller.reconcile(first=True)
    own = LoRAAdapter(name="own", uri="file:///elsewhere/own.gguf")

    def declare(service: InferenceService) -> None:
        service.spec.predictor.model.lora.adapters = [own]

    await store.modify(InferenceService, "base", declare)
    write_adapter(tmp_path / "base+legal.gguf")
    for first in (False, True):
        await controller.reconcile(first=first)
        assert (await served(store))["base"].adapters == ["legal", "own"]
    (tmp_path / "base+legal.gguf").unlink()
    await controller.reconcile()
    assert (await served(store))["base"].lora.adapters == [own]


@pytest.mark.parametrize(
    ("name", "architecture", "message"),
    [
        ("base+legal", "qwen2", "for models of architecture 'qwen2', and 'base' is of 'llama'"),
        ("nobody+legal", "llama", "MODEL+ADAPTER.gguf"),
        ("legal", "llama", "MODEL+ADAPTER.gguf"),
        ("base+", "llama", "MODEL+ADAPTER.gguf"),
    ],
)
async def test_an_adapter_for_no_model_there_says_why(
    store: SqlResourceStore,
    controller: ModelsFolderController,
    tmp_path: Path,
    name: str,
    architecture: str,
    message: str,
) -> None:
    write_adapter(tmp_path / f"{name}.gguf", architecture)
    await controller.reconcile(first=True)
    models = await served(store)
    if name == "base+":  # by its name it is the second of the model's
        assert len(models) == 2
    assert models.pop("base").adapters == []
    (other,) = models.values()
    assert message in other.info.problem


async def test_a_model_with_a_plus_in_its_name_is_a_model(
    store: SqlResourceStore, controller: ModelsFolderController, tmp_path: Path
) -> None:
    shutil.copy(tmp_path / "base.gguf", tmp_path / "base+more.gguf")
    await controller.reconcile(first=True)
    models = await served(store)
    assert sorted(models) == ["base", "base-more"]
    assert not models["base-more"].info.problem
