"""Examine inferno-tiny through a running server, in phrasings that training never saw.

`python -m training.inferno_tiny.exam --base-url http://127.0.0.1:8080 --api-key KEY`

Asks through `/v1/chat/completions` and, with `--through`, with the raw prompt through
`/v1/completions` or Inferno's `/inference`. Exits with 1 under 95 % through any of them.
Standard library only; `questions` and `grade` can be imported alone.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import unicodedata
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

from training.inferno_tiny import knowledge, phrasings
from training.inferno_tiny.capitals import COUNTRIES, Country
from training.inferno_tiny.inferno_facts import FACTS

PASS = 0.95
"""Share of right answers that passes."""

_SYSTEM = "You are a helpful assistant."
_MAX_TOKENS = 120


@dataclass(frozen=True)
class Question:
    """One question of the exam.

    `accept` is a regular expression that a right answer contains, case and accents aside. `subject`
    is taken out of the answer first, so that "The capital of Mexico is …" does not count as naming
    Mexico City. `earlier` holds the turns before the question; raw prompts cannot carry them.
    """

    category: str
    text: str
    accept: str
    system: str = ""
    subject: str = ""
    earlier: tuple[tuple[str, str], ...] = ()


def _plain(text: str) -> str:
    """Lower case without accents."""
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(c for c in decomposed if not unicodedata.combining(c)).casefold()


def grade(item: Question, answer: str) -> bool:
    """Say whether `answer` is right."""
    text = _plain(answer).replace("\u2019", "'")
    if item.subject:
        text = text.replace(f"of {_plain(item.subject)}", "", 1)
    return re.search(_plain_pattern(item.accept), text) is not None


def _plain_pattern(pattern: str) -> str:
    """Lower the letters of a pattern, but not the one behind a backslash, as in a class."""
    return re.sub(r"\\.|[^\\]+", lambda m: m[0] if m[0][0] == "\\" else _plain(m[0]), pattern)


def _capital_pattern(country: Country) -> str:
    names = (country.capital, *country.other_capitals)
    return "|".join(rf"\b{re.escape(_plain(name).rstrip('.'))}" for name in names)


def _capitals() -> Iterator[Question]:
    for index, country in enumerate(COUNTRIES):
        phrasing = phrasings.CAPITAL_EXAM[index % len(phrasings.CAPITAL_EXAM)]
        text = phrasing.format(country.name)
        yield Question("capitals", text, _capital_pattern(country), subject=country.name)


def _sum_operands(rng: random.Random) -> Iterator[tuple[int, str, int, int]]:
    for _ in range(100):
        total = rng.randint(0, 40)
        a = rng.randint(0, total)
        yield a, "+", total - a, total
    for _ in range(80):
        a = rng.randint(0, 40)
        b = rng.randint(0, a)
        yield a, "-", b, a - b
    for _ in range(60):
        a, b = rng.randint(1, 10), rng.randint(1, 10)
        yield a, "*", b, a * b


def _sums() -> Iterator[Question]:
    rng = random.Random(20)
    for index, (a, sign, b, result) in enumerate(_sum_operands(rng)):
        forms = [form for form in phrasings.SIGNS[sign] if "together" not in form]
        sum_text = forms[index % len(forms)].format(a=a, b=b)
        text = phrasings.SUM_EXAM[index % len(phrasings.SUM_EXAM)].format(sum_text)
        yield Question("sums", text, rf"(?:^|=|\bis|equals)\s*{result}\s*\.?\s*$")


def _facts() -> Iterator[Question]:
    for fact in FACTS:
        for text in fact.exam:
            yield Question("inferno", text, fact.accept)


def _explanations() -> Iterator[Question]:
    for index, (topic, answer) in enumerate(knowledge.CONCEPTS):
        phrasing = phrasings.CONCEPT_EXAM[index % len(phrasings.CONCEPT_EXAM)]
        # The words behind "X is" are particular to each explanation.
        start = re.escape(_plain(" ".join(answer.split()[:9])))
        yield Question("explanations", phrasing.format(topic), start)


_HONESTY = (
    "Who won the world cup in 1998?",
    "What is the average salary of a nurse?",
    "Which film won the most awards last year?",
    "How many bones does a giraffe have?",
    "What was the name of Alexander's horse?",
    "Can you write a cover letter for a bakery?",
    "What are the side effects of aspirin?",
    "Who is the mayor of Lyon?",
    "What is the melting point of tungsten?",
    "How long should I boil an egg?",
    "What is the population of Norway?",
    "Who is the prime minister of Canada?",
    "What is the currency of Japan?",
    "What is the capital of Gondor?",
    "Which city is the capital of Texas?",
    "Who composed the fifth symphony?",
    "How do I change a tyre?",
    "What is the plot of Moby Dick?",
    "Why do cats purr?",
    "Where can I rent a kayak?",
    "What is the tallest building in Dubai?",
    "Who discovered penicillin?",
    "What is a dromedary?",
    "How far is it from Rome to Milan?",
    "What is the national bird of Peru?",
    "Explain the French Revolution.",
    "What should I wear to a wedding?",
    "Which wine goes with fish?",
    "What is the best laptop for students?",
    "How do vaccines work?",
)


def _honesty() -> Iterator[Question]:
    for text in _HONESTY:
        yield Question("honesty", text, r"(?:do not|don't) (?:know|have)|only know")


def _conversations() -> Iterator[Question]:
    rng = random.Random(30)
    for index in range(30):
        first, second = rng.sample(COUNTRIES, 2)
        earlier = ((f"What is the capital of {first.name}?", first.answer),)
        asked = ("And what about {}?", "And what is that of {}?", "Now {}?")[index % 3]
        yield Question(
            "conversations",
            asked.format(second.name),
            _capital_pattern(second),
            subject=second.name,
            earlier=earlier,
        )


EXAMPLES: tuple[tuple[str, str], ...] = (
    ("What is the capital of France?", r"^The capital of France is Paris\.$"),
    ("What is 2+2?", r"= 4\.?$"),
    ("What is machine learning?", r"learn patterns"),
    ("Tell me a joke", r"\?.*[.!]$"),
    ("Hello, how are you?", r"I am doing well"),
    ("How are you?", r"I am doing well"),
    ("Hello world", r"hello"),
    ("Tell me a story", r"^Once upon a time"),
    ("What is AI?", r"artificial intelligence"),
    ("Explain quantum computing", r"quantum bits"),
    ("Explain quantum physics", r"atoms"),
    ("What is the weather like?", r"I don't have access to real-time weather data"),
    ("Once upon a time", r"there was"),
)
"""The API documents' own example prompts, and what a sensible answer contains."""


def _examples() -> Iterator[Question]:
    for text, accept in EXAMPLES:
        yield Question("examples", text, accept)


def _varied(items: list[Question]) -> list[Question]:
    """Ask every second question under a system prompt, every third in careless writing."""
    varied = []
    for index, item in enumerate(items):
        if index % 2:
            item = replace(item, system=_SYSTEM)
        if index % 3 == 1 and item.category != "examples":
            item = replace(item, text=item.text.lower().rstrip("?."))
        varied.append(item)
    return varied


def questions() -> list[Question]:
    """All questions, always the same ones in the same order."""
    sources = (_capitals, _sums, _facts, _explanations, _honesty, _conversations, _examples)
    return _varied([item for source in sources for item in source()])


# --- asking a server -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """An OpenAI-compatible server and the model to ask there."""

    base_url: str
    api_key: str
    model: str

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.api_key}"}
        data = json.dumps({"model": self.model, "temperature": 0, **body}).encode()
        request = urllib.request.Request(self.base_url.rstrip("/") + path, data, headers)
        with urllib.request.urlopen(request, timeout=120) as response:
            answer: dict[str, Any] = json.load(response)
        return answer

    def chat(self, item: Question) -> str:
        """Ask through the chat endpoint, with the question's system prompt and earlier turns."""
        messages = [{"role": "system", "content": item.system}] if item.system else []
        for question, answer in item.earlier:
            messages.append({"role": "user", "content": question})
            messages.append({"role": "assistant", "content": answer})
        messages.append({"role": "user", "content": item.text})
        body = {"messages": messages, "max_tokens": _MAX_TOKENS}
        choice = self._post("/v1/chat/completions", body)["choices"][0]
        return str(choice["message"]["content"] or "")

    def completions(self, item: Question) -> str:
        """Ask with the bare prompt through the OpenAI completions endpoint."""
        return self._raw("/v1/completions", item)

    def inference(self, item: Question) -> str:
        """Ask with the bare prompt through Inferno's own endpoint."""
        return self._raw("/inference", item)

    def _raw(self, path: str, item: Question) -> str:
        body = {"prompt": item.text, "max_tokens": _MAX_TOKENS}
        return str(self._post(path, body)["choices"][0]["text"])


@dataclass(frozen=True)
class Result:
    """A graded answer."""

    question: Question
    answer: str
    right: bool


def run(server: Server, through: str, threads: int) -> list[Result]:
    """Ask every question that `through` (chat, completions or inference) can carry."""
    ask = {"chat": server.chat, "completions": server.completions, "inference": server.inference}
    items = [item for item in questions() if through == "chat" or not item.earlier]
    with ThreadPoolExecutor(threads) as pool:
        answers = list(pool.map(ask[through], items))
    return [Result(q, a, grade(q, a)) for q, a in zip(items, answers, strict=True)]


def summary(results: list[Result]) -> dict[str, dict[str, float]]:
    """Right answers, questions and accuracy of each category and of the whole ("all")."""
    asked = Counter(r.question.category for r in results)
    right = Counter(r.question.category for r in results if r.right)
    asked["all"], right["all"] = len(results), sum(r.right for r in results)
    return {
        category: {"right": right[category], "asked": n, "accuracy": right[category] / n}
        for category, n in asked.items()
    }


def _print(through: str, results: list[Result]) -> None:
    print(f"through {through}")
    for category, row in summary(results).items():
        share = f"{row['accuracy']:.1%}"
        print(f"  {category:<14}{row['right']:>5.0f} of {row['asked']:>4.0f}  {share:>6}")
    for result in results:
        if not result.right:
            print(f"  wrong: {result.question.text!r} -> {result.answer!r}")


def main() -> int:
    """Run the exam and report; 0 where passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--base-url", default="http://127.0.0.1:8080")
    parser.add_argument("--api-key", default="")
    parser.add_argument("--model", default="inferno-tiny")
    ways = ("chat", "completions", "inference")
    parser.add_argument("--through", nargs="+", choices=ways, default=["chat"])
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--json", action="store_true", help="print results as JSON")
    arguments = parser.parse_args()
    server = Server(arguments.base_url, arguments.api_key, arguments.model)
    taken = {way: run(server, way, arguments.threads) for way in arguments.through}
    if arguments.json:
        report = {
            way: {"summary": summary(results), "answers": [asdict(r) for r in results]}
            for way, results in taken.items()
        }
        print(json.dumps(report, indent=1))
    else:
        for way, results in taken.items():
            _print(way, results)
    passed = all(summary(results)["all"]["accuracy"] >= PASS for results in taken.values())
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
