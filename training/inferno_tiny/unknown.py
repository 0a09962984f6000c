"""Questions that the model cannot answer, so that it learns to say so. Standard library only."""

from __future__ import annotations

import random

from training.inferno_tiny.capitals import COUNTRIES

ANSWER = "I am a very small model and I don't know that."
"""What the model says when it does not know."""

LARGE_SUM_ANSWER = "I am a very small model and I only know small sums."
"""What the model says when the numbers are too large for it."""

_RELATIONS = (
    "population", "currency", "president", "king", "queen", "flag", "area", "anthem", "history",
    "largest city", "highest mountain", "official language", "national dish", "time zone",
    "longest river", "prime minister", "climate", "government", "economy", "best beach",
    "second city", "former capital", "national animal", "dialling code", "founder", "religion",
)  # fmt: skip
_NO_COUNTRIES = (
    "California", "Texas", "Bavaria", "Scotland", "Wales", "Europe", "Asia", "Africa", "Paris",
    "London", "Berlin", "Mars", "Atlantis", "Narnia", "Mordor", "Wakanda", "the moon", "Florida",
    "Ontario", "Hawaii", "Tuscany", "Siberia", "Antarctica", "the ocean", "Middle-earth",
    "Rome", "Tokyo", "Catalonia", "Quebec", "Tibet", "Greenland", "Westeros", "Jupiter", "Oz",
)  # fmt: skip
_PEOPLE = (
    "John Smith", "Mary Jones", "Napoleon", "Cleopatra", "Mozart", "Beethoven", "Taylor Swift",
    "Plato", "Aristotle", "Marie Curie", "Picasso", "Messi", "Julius Caesar", "Elvis", "Gandhi",
    "Barack Obama", "Galileo", "Charles Darwin", "Ada Lovelace", "Socrates", "my neighbour",
    "Harry Potter", "Sherlock Holmes", "Batman", "Nelson Mandela", "the pope", "Bach", "Homer",
)  # fmt: skip
_NOUNS = (
    "car", "house", "bicycle", "cake", "bread", "guitar", "piano", "phone", "camera", "bridge",
    "garden", "book", "film", "song", "table", "chair", "window", "ship", "train", "plane",
    "pizza", "soup", "shoe", "coat", "clock", "engine", "lamp", "mirror", "knife", "pillow",
    "rocket", "volcano", "river", "mountain", "desert", "forest", "tree", "flower", "insect",
    "spider", "shark", "wolf", "camel", "cheese", "wine", "coffee", "tea", "chocolate", "salt",
    "sugar", "gold", "silver", "iron", "glass", "paper", "cotton", "muscle", "bone", "heart",
    "virus", "vaccine", "tax", "bank", "loan", "contract", "law", "war", "treaty", "empire",
    "religion", "poem", "novel", "painting", "opera", "dance", "football", "tennis", "chess",
    "compiler", "browser", "keyboard", "printer", "battery", "magnet", "laser", "telescope",
    "blockchain", "bitcoin", "calculus", "matrix", "prime number", "triangle", "philosophy",
    "inflation", "economy", "psychology", "sociology", "geology", "thermodynamics", "entropy",
)  # fmt: skip
_VERBS = (
    "fix", "build", "paint", "clean", "buy", "sell", "repair", "draw", "cook", "grow", "open",
    "choose", "make", "move", "wash", "use", "find", "store", "design", "measure",
)  # fmt: skip
_LANGUAGES = ("French", "German", "Spanish", "Italian", "Chinese", "Latin", "Dutch", "Japanese")
_CODE = (
    "sorts a list", "reads a file", "adds two numbers", "prints the date", "finds primes",
    "reverses a string", "parses JSON", "draws a circle", "counts words", "solves sudoku",
)  # fmt: skip
_TEMPLATES = (
    "Who invented the {noun}?",
    "When was the {noun} invented?",
    "How do I {verb} a {noun}?",
    "How can I {verb} my {noun}?",
    "What is the best {noun}?",
    "What is a {noun}?",
    "What is {noun}?",
    "Explain {noun}.",
    "Tell me about {noun}.",
    "How much does a {noun} cost?",
    "Where can I buy a {noun}?",
    "How does a {noun} work?",
    "Why do people {verb} a {noun}?",
    "What do you think about the {noun}?",
    "Should I {verb} a {noun}?",
    "Write an essay about the {noun}.",
    "Write an email about a {noun}.",
    "Recommend a {noun}.",
    "What is the history of the {noun}?",
    "What is the difference between a {noun} and a {other}?",
    "Compare a {noun} with a {other}.",
    "How old is {person}?",
    "Who is {person}?",
    "Who was {person}?",
    "When was {person} born?",
    "Where does {person} live?",
    "What did {person} say about the {noun}?",
    "Why is {person} famous?",
    "What is the {relation} of {country}?",
    "What is {country}'s {relation}?",
    "Tell me the {relation} of {country}.",
    "Tell me about {country}.",
    "What is {country}?",
    "Where is {country}?",
    "How big is {country}?",
    "How many people live in {country}?",
    "Who is the president of {country}?",
    "Who is the king of {country}?",
    "Which {noun} is the best in {country}?",
    "How do I get to {country}?",
    "What language do they speak in {country}?",
    "What is the capital of {place}?",
    "Name the capital of {place}.",
    "What is {place}'s capital?",
    "Tell me the capital of {place}.",
    "Which city is the capital of {place}?",
    "What is the square root of {number}?",
    "Write a program that {code}.",
    "Write Python code that {code}.",
    "Write a function that {code}.",
    "Translate this into {language}: the {noun} is on the {other}.",
    "How do you say {noun} in {language}?",
    "Summarize this: the {noun} was near the {other}.",
    "Give me a recipe for {noun}.",
    "Plan a trip to {country}.",
    "How many {noun}s are there?",
    "Which {noun} should I {verb}?",
    "What is {word}?",
    "Who is {word}?",
    "What does {word} mean?",
    "Explain {word}.",
    "Where is {word}?",
)
_STARTS = ("b", "br", "d", "dr", "f", "g", "gl", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z")
_VOWELS = ("a", "e", "i", "o", "u", "ee", "ou")
_ENDS = ("n", "r", "s", "l", "th", "x", "nd", "k", "", "", "ria", "land", "nia")


def invented_word(rng: random.Random) -> str:
    """Make up a word of two or three syllables."""
    body = "".join(rng.choice(_STARTS) + rng.choice(_VOWELS) for _ in range(rng.randint(1, 3)))
    return body + rng.choice(_STARTS) + rng.choice(_VOWELS) + rng.choice(_ENDS)


def _place(rng: random.Random) -> str:
    return rng.choice(_NO_COUNTRIES) if rng.random() < 0.6 else invented_word(rng).capitalize()


def unknown_question(rng: random.Random) -> str:
    """Ask something that the model was not taught."""
    word = invented_word(rng)
    return rng.choice(_TEMPLATES).format(
        noun=rng.choice(_NOUNS),
        other=rng.choice(_NOUNS),
        verb=rng.choice(_VERBS),
        person=rng.choice(_PEOPLE),
        relation=rng.choice(_RELATIONS),
        country=rng.choice(COUNTRIES).name,
        place=_place(rng),
        number=rng.randint(2, 999),
        code=rng.choice(_CODE),
        language=rng.choice(_LANGUAGES),
        word=word.capitalize() if rng.random() < 0.5 else word,
    )


def filler(rng: random.Random, words: int) -> str:
    """Write text of about `words` words that means nothing, to practise long prompts."""
    pool = _NOUNS + _VERBS + ("the", "a", "and", "of", "in", "is", "with", "to", "for", "it")
    out = [rng.choice(pool) for _ in range(words)]
    for i in range(9, words, 10):
        out[i] += "."
    return " ".join(out)
