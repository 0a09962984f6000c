"""Write the trained network and its tokenizer as one GGUF file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
from torch import Tensor

from training.inferno_tiny.model import ModelConfig, TinyLlama
from training.inferno_tiny.tokenizer import CONTROL, END_ID, PRE_TOKENIZER, TEXT_ID

_TEMPLATE = Path(__file__).with_name("chat_template.jinja")


def _array(weight: Tensor) -> np.ndarray:
    array: np.ndarray = weight.detach().float().cpu().numpy()
    return array


def _tensors(model: TinyLlama) -> Iterator[tuple[str, np.ndarray]]:
    """Weights under llama.cpp's names. The output matrix is absent: it is the embedding."""
    yield "token_embd.weight", _array(model.embedding.weight)
    yield "output_norm.weight", _array(model.output_norm.weight)
    for index, block in enumerate(model.blocks):
        prefix = f"blk.{index}"
        q, k, v = _array(block.qkv.weight).reshape(3, -1, model.config.width)
        gate, up = _array(block.gate_up.weight).reshape(2, -1, model.config.width)
        yield f"{prefix}.attn_norm.weight", _array(block.attn_norm.weight)
        yield f"{prefix}.attn_q.weight", q
        yield f"{prefix}.attn_k.weight", k
        yield f"{prefix}.attn_v.weight", v
        yield f"{prefix}.attn_output.weight", _array(block.attn_output.weight)
        yield f"{prefix}.ffn_norm.weight", _array(block.ffn_norm.weight)
        yield f"{prefix}.ffn_gate.weight", gate
        yield f"{prefix}.ffn_up.weight", up
        yield f"{prefix}.ffn_down.weight", _array(block.ffn_down.weight)


def _write_shape(writer: gguf.GGUFWriter, config: ModelConfig) -> None:
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.ffn)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.heads)
    writer.add_rope_dimension_count(config.head_width)
    writer.add_rope_freq_base(config.rope_base)
    writer.add_layer_norm_rms_eps(config.norm_epsilon)
    writer.add_vocab_size(config.vocab)


def _write_description(writer: gguf.GGUFWriter) -> None:
    writer.add_name("inferno-tiny")
    writer.add_description(
        "A very small chat model, trained from scratch on generated text, that comes with Inferno."
    )
    writer.add_license("apache-2.0")
    writer.add_languages(["en"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _write_tokenizer(writer: gguf.GGUFWriter, tokenizer_file: Path) -> None:
    model = json.loads(tokenizer_file.read_text(encoding="utf-8"))["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    types = [
        gguf.TokenType.CONTROL if token in CONTROL else gguf.TokenType.NORMAL for token in tokens
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TOKENIZER)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(TEXT_ID)
    writer.add_add_bos_token(True)
    writer.add_eos_token_id(END_ID)
    writer.add_eot_token_id(END_ID)
    writer.add_pad_token_id(TEXT_ID)
    writer.add_add_eos_token(False)
    writer.add_chat_template(_TEMPLATE.read_text(encoding="utf-8"))


def export_gguf(model: TinyLlama, tokenizer_file: Path, path: Path) -> None:
    """Write `path`: matrices as Q8_0, norms as F32, tokenizer and chat template.

    Args:
        model: trained network.
        tokenizer_file: the tokenizer.json that it was trained with.
        path: file to write, replaced if it exists.
    """
    writer = gguf.GGUFWriter(str(path), "llama")
    _write_description(writer)
    _write_shape(writer, model.config)
    _write_tokenizer(writer, tokenizer_file)
    for name, weight in _tensors(model):
        if weight.ndim == 1:
            writer.add_tensor(name, weight)
            continue
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(weight, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
