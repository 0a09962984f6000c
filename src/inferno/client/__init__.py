"""The Python client of the inference API: `from inferno import Client, AsyncClient`.

It knows the API and nothing of the server behind it. `calls` and the modules beside it describe
what can be asked; `blocking` and `asynchronous` ask it.
"""

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
from inferno.client.retries import Retries
from inferno.client.sockets import Socket, SocketInference
from inferno.client.webhooks import WebhookEvent, verify_webhook

__all__ = [
    "ApiError",
    "AsyncClient",
    "AsyncSocket",
    "AsyncSocketInference",
    "AsyncStream",
    "Client",
    "ClientError",
    "Conflicting",
    "ConnectionFailed",
    "ContextTooLong",
    "InferenceError",
    "InvalidCall",
    "ModelUnavailable",
    "NoAnswerInTime",
    "NotAllowed",
    "NotAuthenticated",
    "NotThere",
    "RateLimited",
    "Retries",
    "ServerBusy",
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
