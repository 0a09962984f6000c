"""What counting and tracing an inference costs on the event loop."""
