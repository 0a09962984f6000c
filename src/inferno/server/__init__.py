"""The inference API: native and OpenAI-compatible. Protocol work only."""
