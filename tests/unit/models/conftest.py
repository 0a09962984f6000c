"""Small real model files, made by the reference writer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter

MakeModel = Callable[..., Path]


@pytest.fixture
def make_model() -> MakeModel:
    return write_model


def write_model(
    path: Path,
    *,
    seed: int = 0,
    tokens: int = 16,
    rows: int = 16,
    infill: bool = False,
    template: bool = True,
    split: tuple[int, int] | None = None,
    architecture: str = "llama",
) -> Path:
    """Writes a minimal llama file; `split` is the shard's number from 0 and the count."""
    writer = GGUFWriter(str(path), architecture)
    writer.add_name(f"Tiny {seed}")
    writer.add_license("apache-2.0")
    writer.add_context_length(256)
    writer.add_embedding_length(64)
    writer.add_block_count(2)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_file_type(7)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"token{number}" for number in range(tokens)])
    writer.add_token_scores([0.0] * tokens)
    writer.add_token_types([1] * tokens)
    writer.add_array("test.nested", [[1, 2], [3]])
    if infill:
        writer.add_uint32("tokenizer.ggml.fim_pre_token_id", 1)
        writer.add_uint32("tokenizer.ggml.fim_suf_token_id", 2)
        writer.add_uint32("tokenizer.ggml.fim_mid_token_id", 3)
    if template:
        writer.add_chat_template("{{ messages }}" * 200)
    if split:
        writer.add_uint16("split.no", split[0])
        writer.add_uint16("split.count", split[1])
    generator = np.random.default_rng(seed)
    weights = generator.standard_normal((rows, 64), dtype=np.float32)
    writer.add_tensor("token_embd.weight", weights)
    writer.add_tensor("output_norm.weight", np.ones(64, dtype=np.float32))
    quantized = generator.integers(0, 255, (rows, 68), dtype=np.uint8)
    writer.add_tensor("output.weight", quantized, raw_dtype=GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
