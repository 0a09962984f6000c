"""`POST /embeddings` and `POST /v1/embeddings`: one answer serves both APIs."""

from __future__ import annotations

from typing import Any

import msgspec

from inferno.core.errors import InvalidRequest, Unsupported
from inferno.gateway.forwarding import Call
from inferno.limits.tally import Tally
from inferno.server.operation import Services, Visited
from inferno.server.passthrough import passed_through
from inferno.server.relay import model_field, model_field_in, read_answer
from inferno.server.serving import serving
from inferno.server.types import EmbeddingRequest, Texts, TokenIdLists, TokenIds, fields_of
from inferno.web.exchange import decode_body

PATH = b"/v1/embeddings"

_requests: msgspec.json.Decoder[EmbeddingRequest] = msgspec.json.Decoder(EmbeddingRequest)


async def embeddings(exchange: Visited, services: Services) -> None:
    """Embed one text or many."""
    body = await exchange.body()
    if await passed_through(exchange, services, body, PATH, "embeddings"):
        return
    request: EmbeddingRequest = decode_body(_requests, body)
    if request.dimensions is not None:
        raise Unsupported(
            "'dimensions' is not supported: a model's embeddings have the length they have.",
            field="dimensions",
        )
    check_input(request.input)
    wanted = msgspec.json.encode(fields_of(request, frozenset({"user"})))
    needs = {"embeddings": "input"}
    tally = Tally.of(wanted, max_tokens=0)
    call = Call(request.model, PATH, wanted, exchange.request_id, needs, tally, streamed=False)
    work = await serving(exchange, services, [call], "embeddings")
    with work, exchange.client_present():
        answer = await read_answer(call, services.forwarder.open(call))
        theirs = model_field_in(answer)
        if theirs is not None:
            answer = answer.replace(theirs, model_field(call.model), 1)
        await exchange.respond(200, answer)


def check_input(value: str | list[Any]) -> None:
    """Refuse what is neither a text, texts, token ids nor lists of token ids.

    Raises:
        InvalidRequest: names the entry.
    """
    if isinstance(value, str):
        if not value:
            raise InvalidRequest("'input' must not be empty.", field="input")
        return
    for kind in (Texts, TokenIds, TokenIdLists):
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError:
            continue
        if "" in value:
            place = f"input[{value.index('')}]"
            raise InvalidRequest(f"'{place}' must not be empty.", field=place)
        return
    raise InvalidRequest(
        "'input' must be a text, a list of 1 to 2048 texts, a list of token ids, or a list of "
        "lists of token ids.",
        field="input",
    )
