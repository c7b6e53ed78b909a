"""Questions and answers about Ringfence, read from the text files beside this one and varied as people vary them.

The training set is every phrasing with seeded changes (case, punctuation, politeness, synonyms, a lost word, a typo) and
invented values in its slots. The exam's questions are checked to be in no training file.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from pathlib import Path

GUIDE = Path(__file__).parent / "guide"
OFF_TOPIC = "off-topic"
HONEST = (
    "I am the small demonstration model that ships with Ringfence, and I only know about Ringfence. "
    "Put a real model in my place for anything else."
)

OPENINGS = (
    "", "", "", "", "", "", "please tell me, ", "hi, ", "can you tell me, ", "i would like to know, ",
    "quick question: ", "could you explain, ", "i wonder, ", "question: ", "so, ", "sorry, ",
)  # fmt: skip
CLOSINGS = ("", "", "", "", "", " please", " thanks", " in ringfence", " here", " with ringfence", " exactly")
SYNONYMS = (
    ("what is", "what's"), ("what is", "what exactly is"), ("what is", "tell me what"), ("what is", "explain"),
    ("how do i", "how can i"), ("how do i", "how to"), ("how do i", "how would i"), ("how do i", "what do i do to"),
    ("how do i", "how do we"), ("can i", "is it possible to"), ("can i", "may i"), ("can i", "could i"),
    ("which", "what"), ("explain", "tell me about"), ("explain", "describe"), ("define", "what is"),
    ("what happens", "what do you do"), ("what if", "what happens if"), ("what happens if", "what if"),
    ("does it", "does ringfence"), ("is it", "is ringfence"), ("where does", "where would"), ("may", "can"),
    ("my", "our"), ("i ", "we "), ("are", "would be"), ("prompts", "requests"), ("prompt", "request"),
    ("request", "prompt"), ("requests", "prompts"), ("the hub", "hub"), ("an agent", "an edge agent"),
    ("agents", "edge agents"), ("list", "name"), ("name", "what are"), ("line", "connection"), ("log", "audit log"),
    ("processed", "run"), ("where do", "in which place do"), ("data", "information"), ("make", "create"),
    ("which", "which kinds of"), ("which", "what sort of"), ("are there", "exist"), ("what is", "what does it mean:"),
    ("explain", "what's"), ("what does", "what would"), ("what do you mean by", "what's"), ("is", "would be"),
    ("how do i", "please show me how to"), ("how do i", "what is the way to"), ("what if", "and if"), ("for", "meant for"),
    ("examples of", "some examples of"), ("tell me about", "what's up with"), ("what happens", "what will happen"),
    ("how are", "in what way are"), ("how is", "in what way is"), ("what does", "can you say what"),
    ("which command", "what command"), ("error", "code"), ("happens to", "becomes of"), ("explain", "what are"),
)  # fmt: skip
DROPPABLE = frozenset("a an the is are do does i to of in with my it for when which".split())

PROPER = {
    word.lower(): word
    for word in (
        "Ringfence OpenAI NATS API YAML JSON GDPR HIPAA IBAN SSN MRN LiteLLM Presidio Greengrass Python SQLite PostgreSQL Prometheus "
        "JetStream ONNX GPU PII PHI PCI Docker Windows Merkle Ed25519 RE2 RFC TLS HTTP URL CPU Qwen Llama Kubernetes Microsoft EU"
    ).split()
}
"""Names as people write them, when they take the trouble."""

THINGS = (
    "bicycle car computer phone garden house piano camera radio table clock lamp boat train plane river mountain cat dog "
    "horse bird fish tree flower book film song picture game printer fridge oven window door engine battery robot "
    "telescope microscope guitar drum violin coat shoe hat ring watch tent ladder hammer pump tyre wheel volcano "
    "rainbow autumn winter love friendship football chess coffee tea bread wine sun moon star planet ocean island"
).split()
PLACES = (
    "France Italy Spain Germany Japan Brazil Canada Egypt India China Norway Sweden Kenya Chile Peru Austria Greece "
    "Turkey Poland Ireland Iceland Mexico Cuba London Paris Rome Berlin Madrid Vienna Tokyo Cairo Oslo Lima Athens "
    "Sydney Toronto Chicago Texas California Scotland Wales Bavaria Tuscany Denmark Finland Hungary Romania Vietnam"
).split()
FOODS = (
    "pancakes pasta pizza soup bread rice curry salad cake cookies chicken fish beans lentils potatoes eggs cheese "
    "chocolate tomatoes apples bananas beef noodles sushi risotto lasagne waffles muffins dumplings pie stew sourdough"
).split()
PERSONS = (
    "Albert Einstein|Isaac Newton|William Shakespeare|Napoleon|Julius Caesar|Mozart|Beethoven|Leonardo da Vinci|"
    "Charles Darwin|Galileo|Cleopatra|Abraham Lincoln|Jane Austen|Mark Twain|Goethe|Picasso|Van Gogh|Ada Lovelace|"
    "Alan Turing|Nelson Mandela|Gandhi|Florence Nightingale|Nikola Tesla|Thomas Edison|Aristotle|Plato|Bach"
).split("|")
FIRST = "Anna Maria Peter John Jane Thomas Laura Michael Sarah David Nina Paul Eva Mark Lucy Ahmed Mei Carlos".split()
LAST = "Smith Meyer Jones Rossi Garcia Novak Kim Brown Weber Dubois Silva Larsen Khan Chen Taylor Moreau".split()


@dataclass(frozen=True, slots=True)
class Pair:
    """One answer and the ways to ask for it."""

    key: str
    answer: str
    phrasings: tuple[str, ...]


def pairs() -> list[Pair]:
    """Every pair of the guide, the honest answer among them. Raises ValueError naming the file of a key used twice."""
    found: dict[str, Pair] = {}
    for path in sorted(GUIDE.glob("pairs-*.txt")):
        for block in re.split(r"\n\s*\n", path.read_text()):
            lines = [line for line in block.strip().splitlines() if not line.startswith("#")]
            if not lines:
                continue
            key, answer = lines[0].split(": ", 1)
            if key in found:
                raise ValueError(f"{path.name}: the key {key} is used twice")
            found[key] = Pair(key, answer, tuple(lines[1:]))
    for line in _lines("more.txt"):
        key, phrasing = line.split(": ", 1)
        known = found[key]
        found[key] = Pair(key, known.answer, (*known.phrasings, phrasing))
    off = _lines("off_topic.txt")
    found[OFF_TOPIC] = Pair(OFF_TOPIC, HONEST, tuple(off))
    return list(found.values())


def exam() -> list[tuple[str, str]]:
    """(key of the right answer, question) for each held-out question. Raises ValueError where one is a training phrasing."""
    known = {normalised(phrasing) for pair in pairs() for phrasing in pair.phrasings}
    rows = []
    for line in _lines("exam.txt"):
        key, question = line.split(": ", 1)
        if normalised(question) in known:
            raise ValueError(f"exam.txt: the question {question!r} is in the training set")
        rows.append((key, question))
    return rows


def _lines(name: str) -> list[str]:
    return [line for line in (GUIDE / name).read_text().splitlines() if line and not line.startswith("#")]


def normalised(text: str) -> str:
    return " ".join(re.findall(r"[\w{}.]+", text.lower()))


TEST_CARDS = "4111111111111111 4242424242424242 5555555555554444 4012888888881881 378282246310005 2223003122003222".split()
TEST_IBANS = ("DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "NL91ABNA0417164300")
"""The numbers that everybody tries first: their rows of equal digits look like no random number."""


def luhn_card(rng: random.Random) -> str:
    if rng.random() < 0.4:
        text = rng.choice(TEST_CARDS)
        return text if rng.random() < 0.4 else " ".join(text[i : i + 4] for i in range(0, len(text), 4))
    digits = [int(d) for d in rng.choice(("4", "51", "55", "2221", "37"))]
    length = 15 if digits[0] == 3 else 16
    digits += [rng.randrange(10) for _ in range(length - 1 - len(digits))]
    total = sum(d if i % 2 else (d * 2 - 9 if d > 4 else d * 2) for i, d in enumerate(reversed(digits)))
    text = "".join(map(str, [*digits, -total % 10]))
    return text if rng.random() < 0.5 else " ".join(text[i : i + 4] for i in range(0, len(text), 4))


def fill(text: str, rng: random.Random) -> str:
    """The text with invented values in its {slots}."""
    name = f"{rng.choice(FIRST)} {rng.choice(LAST)}"
    digits = lambda n: "".join(rng.choice("0123456789") for _ in range(n))  # noqa: E731 - used only in the table below
    letters = lambda n: "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789") for _ in range(n))  # noqa: E731
    values = {
        "thing": lambda: rng.choice(THINGS), "place": lambda: rng.choice(PLACES), "food": lambda: rng.choice(FOODS),
        "person": lambda: rng.choice(PERSONS), "number": lambda: str(rng.randrange(2, 999)), "name": lambda: name,
        "card": lambda: luhn_card(rng), "iban": lambda: rng.choice(TEST_IBANS) if rng.random() < 0.3 else f"DE{digits(20)}", "mrn": lambda: digits(rng.choice((6, 7, 8))),
        "ssn": lambda: f"{digits(3)}-{digits(2)}-{digits(4)}", "password": lambda: letters(4).lower() + digits(3) + "!",
        "awskey": lambda: "AKIA" + letters(16), "ghtoken": lambda: "ghp_" + letters(36),
        "email": lambda: f"{name.split()[0].lower()}.{name.split()[1].lower()}@{rng.choice(('example.com', 'mail.org', 'bank.test'))}",
        "phone": lambda: rng.choice((f"+49 {digits(3)} {digits(7)}", f"+1 {digits(3)}-{digits(3)}-{digits(4)}", f"0{digits(9)}")),
        "dob": lambda: f"{rng.randrange(1940, 2005)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}",
        "ip": lambda: f"10.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}",
    }  # fmt: skip
    return re.sub(r"\{(\w+)\}", lambda m: values[m[1]](), text)


def vary(phrasing: str, rng: random.Random) -> str:
    """One way a person might type this phrasing."""
    text = phrasing
    if text.count(" ") >= 2:
        for old, new in rng.sample(SYNONYMS, 14):
            if old in text and rng.random() < 0.5:
                text = re.sub(rf"(?<!\w){re.escape(old)}(?!\w)" if not old.endswith(" ") else re.escape(old), new, text, count=1)
        words = text.split()
        words = [w for w in words if not (w in DROPPABLE and rng.random() < 0.08)]
        # "What is a tenant in ringfence" must stay apart from "what is ringfence": the name goes only behind longer questions.
        closings = CLOSINGS if len(words) >= 5 else [closing for closing in CLOSINGS if "ringfence" not in closing]
        text = rng.choice(OPENINGS) + " ".join(words) + rng.choice(closings)
    if rng.random() < 0.7:
        text = re.sub(r"(?<![{\w])[a-z0-9]+", lambda m: PROPER.get(m[0], m[0]), text)
    text = fill(text, rng)
    if rng.random() < 0.12 and len(text) > 12:
        i = rng.randrange(3, len(text) - 2)
        if text[i].isalpha() and text[i + 1].isalpha():
            text = text[:i] + rng.choice((text[i + 1] + text[i], text[i + 1], text[i] * 2 + text[i + 1])) + text[i + 2 :]
    style = rng.random()
    if style < 0.55:
        text = text[:1].upper() + text[1:]
    elif style < 0.6:
        text = text.upper()
    if style < 0.55 or rng.random() < 0.4:
        text = text.rstrip("?.!") + rng.choice(("?", "?", "?", "?", ".", "!", ""))
    return text
