"""The Python client of the inference API: `from inferno import Client, AsyncClient`.

`Registry` and `AsyncRegistry` are clients of a registry of inference servers.
It knows the API and nothing of the server behind it. `calls` and the modules beside it describe
what can be asked; `blocking` and `asynchronous` ask it.
"""

from inferno.client.async_registries import AsyncRegistry
from inferno.client.async_sockets import AsyncSocket, AsyncSocketInference
from inferno.client.asynchronous import AsyncClient, AsyncStream
from inferno.client.blocking import Client, Stream
from inferno.client.errors import (
    ApiError,
    ClientError,
    Conflicting,
    ConnectionFailed,
    ContextTooLong,
    InferenceError,
    InvalidCall,
    ModelUnavailable,
    NoAnswerInTime,
    NotAllowed,
    NotAuthenticated,
    NotThere,
    RateLimited,
    ServerBusy,
    ServerFailed,
    TimedOut,
    UnexpectedAnswer,
    UnknownModel,
    WebhookRefused,
)
from inferno.client.registries import Registry
from inferno.client.registry_calls import InferenceServer, ServerChange
from inferno.client.retries import Retries
from inferno.client.sockets import Socket, SocketInference
from inferno.client.webhooks import WebhookEvent, verify_webhook

__all__ = [
    "ApiError",
    "AsyncClient",
    "AsyncRegistry",
    "AsyncSocket",
    "AsyncSocketInference",
    "AsyncStream",
    "Client",
    "ClientError",
    "Conflicting",
    "ConnectionFailed",
    "ContextTooLong",
    "InferenceError",
    "InferenceServer",
    "InvalidCall",
    "ModelUnavailable",
    "NoAnswerInTime",
    "NotAllowed",
    "NotAuthenticated",
    "NotThere",
    "RateLimited",
    "Registry",
    "Retries",
    "ServerBusy",
    "ServerChange",
    "ServerFailed",
    "Socket",
    "SocketInference",
    "Stream",
    "TimedOut",
    "UnexpectedAnswer",
    "UnknownModel",
    "WebhookEvent",
    "WebhookRefused",
    "verify_webhook",
]
