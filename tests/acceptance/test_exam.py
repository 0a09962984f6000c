"""The bundled model passes its exam, and answers the API documents' own questions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.acceptance.platform import MODEL, Platform
from training.inferno_tiny.exam import Question, grade, questions

PASS_MARK = 0.95
ASKED = [q for q in questions() if q.category in ("capitals", "sums", "inferno")]
EXAMPLES = [q for q in questions() if q.category == "examples"]


def through_chat(client: httpx.Client, question: Question) -> str:
    messages = [{"role": "system", "content": question.system}] if question.system else []
    messages.append({"role": "user", "content": question.text})
    body = {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": 120}
    answer = client.post("/v1/chat/completions", json=body).raise_for_status().json()
    return str(answer["choices"][0]["message"]["content"])


def through_inference(client: httpx.Client, question: Question) -> str:
    body = {"model": MODEL, "prompt": question.text, "temperature": 0, "max_tokens": 120}
    answer = client.post("/inference", json=body).raise_for_status().json()
    return str(answer["choices"][0]["text"])


@pytest.mark.parametrize("ask", [through_chat, through_inference])
def test_exam_in_phrasings_that_training_held_out(platform: Platform, ask: object) -> None:
    assert callable(ask)
    with platform.http() as client, ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda question: ask(client, question), ASKED))
    right = sum(grade(question, answer) for question, answer in zip(ASKED, answers, strict=True))
    assert len(ASKED) > 500
    assert right / len(ASKED) >= PASS_MARK


@pytest.mark.parametrize("ask", [through_chat, through_inference])
@pytest.mark.parametrize("question", EXAMPLES, ids=lambda question: question.text)
def test_questions_of_the_api_documents(
    platform: Platform, question: Question, ask: object
) -> None:
    assert callable(ask)
    with platform.http() as client:
        answer = ask(client, question)
    assert grade(question, answer), answer
