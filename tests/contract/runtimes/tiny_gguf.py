"""Makes GGUF files that load in milliseconds and say nothing sensible."""

from pathlib import Path

import gguf
import numpy as np

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOOLS = (
    "{% if tools %}{% for t in tools %}{{ t | tojson }}{% endfor %}{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% if m.tool_calls %}{% for c in m.tool_calls %}{{ c.function.name }}"
    "{{ c.function.arguments | tojson }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
)
INFILL = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
_VOCABULARY = 512
_WIDTH = 64
_LAYERS = 2
_HIDDEN = 128


def _byte_tokens() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    stand_ins = dict(zip(printable, map(chr, printable), strict=True))
    stand_ins |= {byte: chr(256 + at) for at, byte in enumerate(others)}
    return [stand_ins[byte] for byte in range(256)]


def write_tiny_gguf(
    path: Path,
    *,
    architecture: str = "llama",
    context: int = 4096,
    template: str | None = CHAT,
    infill: bool = False,
) -> Path:
    """Write a model and return its path."""
    tokens = [*_byte_tokens(), "<|im_start|>", "<|im_end|>", *(INFILL if infill else [])]
    special = len(tokens) - 256
    tokens += [f"tok{at}" for at in range(_VOCABULARY - len(tokens))]
    types = [1] * 256 + [3] * special + [1] * (_VOCABULARY - 256 - special)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(_LAYERS)
    writer.add_context_length(context)
    writer.add_embedding_length(_WIDTH)
    writer.add_feed_forward_length(_HIDDEN)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_WIDTH // 2)
    writer.add_vocab_size(_VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_array("tokenizer.ggml.merges", ["a b"])
    writer.add_eos_token_id(257)
    writer.add_bos_token_id(257)
    writer.add_add_bos_token(False)
    if template is not None:
        writer.add_chat_template(template)
    _add_tensors(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tensors(writer: gguf.GGUFWriter) -> None:
    random = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return (random.standard_normal(shape) * 0.05).astype(np.float32)

    ones = np.ones(_WIDTH, np.float32)
    writer.add_tensor("token_embd.weight", weights(_VOCABULARY, _WIDTH))
    writer.add_tensor("output_norm.weight", ones)
    for layer in range(_LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", weights(_WIDTH, _WIDTH))
        for name in ("ffn_gate", "ffn_up"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", weights(_HIDDEN, _WIDTH))
        writer.add_tensor(f"blk.{layer}.ffn_down.weight", weights(_WIDTH, _HIDDEN))
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", ones)
        writer.add_tensor(f"blk.{layer}.ffn_norm.weight", ones)
