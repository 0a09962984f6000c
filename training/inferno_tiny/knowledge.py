"""Short explanations, everyday facts, small talk and jokes. Standard library only."""

from __future__ import annotations

from training.inferno_tiny.tables import text_lines

JOKES: tuple[str, ...] = (
    "Why do programmers prefer dark mode? Because light attracts bugs.",
    "Why did the scarecrow win a prize? Because he was outstanding in his field.",
    "Why did the chicken cross the road? To get to the other side.",
    "What do you call a fish with no eyes? A fsh.",
    "Why was the math book sad? Because it had too many problems.",
    "What do you call a bear with no teeth? A gummy bear.",
)
"""Jokes; the first answers a plain request, each next one answers "another one"."""

JOKE_REQUESTS: tuple[str, ...] = (
    "Tell me a joke",
    "Tell me a joke.",
    "Tell me a joke!",
    "Tell a joke.",
    "Do you know a joke?",
    "Say something funny.",
    "Make me laugh.",
    "Can you tell me a joke?",
    "Do you know any jokes?",
    "Give me a joke.",
    "I want to hear a joke.",
    "Joke, please.",
    "Tell me something funny.",
    "Tell me a funny joke.",
    "Tell me a joke about programmers.",
)

ANOTHER_JOKE: tuple[str, ...] = (
    "Another one",
    "Tell me another joke",
    "Another joke, please.",
    "Tell me another one.",
    "One more.",
    "Do you know another one?",
)


def _pairs(name: str) -> tuple[tuple[tuple[str, ...], str], ...]:
    """Read a table: lines of `question / question = answer`."""
    pairs = []
    for line in text_lines(name):
        questions, _, answer = line.rpartition(" = ")
        pairs.append((tuple(q.strip() for q in questions.split(" / ")), answer))
    return tuple(pairs)


CONCEPTS: tuple[tuple[str, str], ...] = tuple(
    (names[0], answer) for names, answer in _pairs("explanations.txt")
)
"""What one may ask about, with its article, and the explanation."""

EVERYDAY = _pairs("everyday.txt")
"""Everyday facts: ways to ask, and the answer."""

SMALL_TALK = _pairs("small_talk.txt")
"""Greetings, thanks, questions about the present: ways to say it, and the answer."""
