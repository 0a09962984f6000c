"""LoRA adapters for the bundled model, of random weights: large enough to change what it says."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from inferno.engines.bundled import model_path

RANK = 4


def write_adapter(path: Path, *, seed: int, architecture: str = "llama", renamed: str = "") -> Path:
    """Write an adapter for the bundled model, and return where it is.

    Args:
        path: of the file.
        seed: of its weights; another seed is another adapter.
        architecture: that it says it is for.
        renamed: put behind the names of its tensors, so that it fits no model.
    """
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 2.0 * RANK)
    random = np.random.default_rng(seed)
    for tensor in gguf.GGUFReader(model_path()).tensors:
        if not tensor.name.endswith(("attn_v.weight", "ffn_down.weight")):
            continue
        inputs, outputs = (int(length) for length in tensor.shape)
        for part, shape in (("a", (RANK, inputs)), ("b", (outputs, RANK))):
            weights = random.normal(0, 0.3, shape).astype(np.float32)
            writer.add_tensor(f"{tensor.name}{renamed}.lora_{part}", weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
