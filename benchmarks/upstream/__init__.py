"""The gateway's HTTP client against aiohttp's, on the same backend in the same run."""
