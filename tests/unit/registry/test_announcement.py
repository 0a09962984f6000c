"""What a platform says of itself in public, and what it keeps to itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from inferno.core.resources import (
    EngineOptions,
    InferenceService,
    InferenceServiceSpec,
    ModelFormat,
    ModelInfo,
    ObjectMeta,
    Pod,
    PodSpec,
    PodStatus,
    Predictor,
    PredictorModel,
)
from inferno.core.tenancy import LimitPolicy
from inferno.registry.announcement import (
    MAX_MODELS,
    Profile,
    announcement,
    public_models,
    urls_of,
)
from inferno.registry.entries import METADATA, NAME, TAGS, TTL, URL, URLS, new_entry

NOW = datetime(2026, 1, 31, tzinfo=UTC)
PROFILE = Profile(
    name="east",
    url="https://east.example.com",
    ttl=60,
    version="1.2.3",
    limits=LimitPolicy(requests_per_hour=None),
    tags=("NLP",),
    metadata={"region": "us-east-1", "quota_management_data": {"requests_per_second_total": 9}},
)


def model(**info: Any) -> PredictorModel:
    return PredictorModel(
        model_format=ModelFormat(name="gguf"),
        storage_uri="file:///secret/folder/model.gguf",
        options=EngineOptions(),
        info=ModelInfo(display_name="Internal name", context_length=2048, **info),
    )


def service(name: str, namespace: str = "default", **info: Any) -> InferenceService:
    spec = InferenceServiceSpec(predictor=Predictor(model=model(**info)))
    return InferenceService(metadata=ObjectMeta(name=name, namespace=namespace), spec=spec)


def pod(service: str, namespace: str = "default", phase: str = "Ready") -> Pod:
    return Pod(
        metadata=ObjectMeta(name=f"{service}-1", namespace=namespace),
        spec=PodSpec(service=service, engine="llama_cpp", model=model()),
        status=PodStatus(phase=phase, context_size=512, capabilities=["embeddings"]),  # type: ignore[arg-type]
    )


def test_models_for_everybody_are_listed_by_name() -> None:
    services = [service("b", quantization="Q8_0"), service("a")]
    found = public_models(services, [pod("b"), pod("a", phase="Starting")], ["a", "named"])
    assert found == [
        {
            "id": "a",
            "type": "gguf",
            "loaded": False,
            "context_size": 2048,
            "capabilities": ["text-generation"],
        },
        {
            "id": "b",
            "type": "gguf",
            "loaded": True,
            "context_size": 512,
            "capabilities": ["embeddings"],
            "quantization": "Q8_0",
        },
        {"id": "named", "type": "pool"},
    ]


def test_tenants_models_paths_and_what_cannot_be_served_are_not() -> None:
    services = [service("mine", "acme"), service("a", "acme"), service("bad", problem="broken")]
    assert public_models(services, [pod("a", "acme")], []) == []
    shown = str(public_models([service("a")], [pod("a", "acme")], []))
    assert "secret" not in shown
    assert "Internal" not in shown
    assert "'loaded': False" in shown  # another tenant's replica of that name


def test_an_entry_says_what_the_platform_is() -> None:
    hardware = {"cpu_cores": 2, "memory_bytes": 1, "gpus": [{"name": "H100", "memory_bytes": 8}]}
    entry = announcement(PROFILE, hardware, [{"id": "a"}])
    assert entry == {
        NAME: "east",
        METADATA: {
            "engine": "inferno",
            "version": "1.2.3",
            "models": [{"id": "a"}],
            "model_count": 1,
            "hardware": hardware,
            "gpu_available": True,
            "limits": {
                "requests_per_minute": 60,
                "tokens_per_minute": 10_000,
                "concurrent_requests": 10,
            },
            "region": "us-east-1",
            "quota_management_data": {"requests_per_second_total": 9},
        },
        TAGS: ["NLP"],
        URL: "https://east.example.com",
        URLS: {
            "https": "https://east.example.com",
            "rest": "https://east.example.com",
            "openai": "https://east.example.com/v1",
            "wss": "wss://east.example.com/ws",
        },
        TTL: 60,
    }


def test_the_operators_own_metadata_wins() -> None:
    profile = Profile("a", "", 60, "1", LimitPolicy(), metadata={"engine": "other"})
    assert announcement(profile, {}, [])[METADATA]["engine"] == "other"


def test_however_many_models_there_are_the_entry_is_one_that_registries_take() -> None:
    info: dict[str, Any] = {
        "architecture": "a" * 40,
        "quantization": "Q4_K_M",
        "parameters": 10**12,
    }
    services = [service(f"{number:03}{'x' * 250}", **info) for number in range(500)]
    models = public_models(services, [], [])
    gpus = [{"name": "NVIDIA H200", "memory_bytes": 2**37}] * 8
    entry = new_entry(announcement(PROFILE, {"gpus": gpus}, models), NOW)
    assert entry[METADATA]["model_count"] == 500
    assert len(entry[METADATA]["models"]) == MAX_MODELS


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", {}),
        (
            "http://10.0.0.1:8080",
            {
                "http": "http://10.0.0.1:8080",
                "rest": "http://10.0.0.1:8080",
                "openai": "http://10.0.0.1:8080/v1",
                "ws": "ws://10.0.0.1:8080/ws",
            },
        ),
        (
            "https://a.example/x/",
            {
                "https": "https://a.example/x",
                "rest": "https://a.example/x",
                "openai": "https://a.example/x/v1",
                "wss": "wss://a.example/x/ws",
            },
        ),
    ],
)
def test_addresses_by_protocol(url: str, expected: dict[str, str]) -> None:
    assert urls_of(url) == expected
