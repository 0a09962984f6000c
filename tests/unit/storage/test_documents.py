"""Documents: what may be stored and what comes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferno.core.errors import InfernoError, InvalidRequest
from inferno.core.resources import InferenceService, ObjectMeta
from inferno.storage.documents import (
    checked,
    decode,
    encode,
    kind_key,
    timestamp,
    valid_name,
    valid_namespace,
)

METADATA = st.builds(
    ObjectMeta,
    name=st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?", fullmatch=True),
    labels=st.dictionaries(st.text(), st.text(), max_size=3),
    annotations=st.dictionaries(st.text(), st.text(), max_size=3),
)


@given(METADATA)
def test_a_checked_resource_survives_storage(metadata: ObjectMeta) -> None:
    resource = InferenceService(metadata=metadata)
    texts = [*metadata.labels.items(), *metadata.annotations.items()]
    hostile = any("\x00" in text for pair in texts for text in pair)
    try:
        copy = checked(resource)
    except InvalidRequest:
        assert hostile
        return
    assert not hostile
    assert copy == resource
    assert copy.metadata.labels is not metadata.labels
    assert decode(encode(copy), InferenceService) == resource


def test_a_document_of_another_version_is_an_error_of_ours() -> None:
    with pytest.raises(InfernoError, match="InferenceService"):
        decode('{"metadata": {}}', InferenceService)


def test_names() -> None:
    assert valid_name("llama-3.1-8b")
    assert not valid_name("llama\n")
    assert not valid_name(3)
    assert valid_namespace("team-a")
    assert not valid_namespace("team.a")
    assert not valid_namespace("a" * 64)


def test_kind_key() -> None:
    assert kind_key(InferenceService) == "serving.kserve.io/inferenceservices"


def test_timestamp() -> None:
    assert len(timestamp()) == len("2025-01-01T00:00:00Z")
