"""From logits to tokens: every setting, and what must hold whatever the logits are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edge_agent.inference.generate.sampling import Sampler, Settings, likeliest, log_probabilities

LOGITS = np.array([0.0, 5.0, 4.9, -1.0, 2.0], dtype=np.float32)
FLOATS = arrays.arrays(np.float32, st.integers(2, 2000), elements=st.floats(-30, 30, width=32))


def drawn(settings: Settings, logits: np.ndarray = LOGITS, times: int = 400, prompt: list[int] | None = None) -> list[int]:
    sampler = Sampler(settings, prompt or [])
    return [sampler.pick(sampler.adjust(logits)) for _ in range(times)]


# name: (settings, the tokens that may come)
NARROW = {
    "temperature 0 takes the highest": (Settings(temperature=0), {1}),
    "top-k keeps so many": (Settings(top_k=2, seed=1), {1, 2}),
    "top-k of one is greedy": (Settings(top_k=1, seed=1), {1}),
    "top-p keeps the nucleus": (Settings(top_p=0.5, seed=1), {1}),
    "top-p of nearly all keeps nearly all": (Settings(top_p=0.94, seed=1), {1, 2}),
    "top-p after top-k is of what is left": (Settings(top_k=3, top_p=0.5, seed=1), {1}),
    "min-p keeps what is near the highest": (Settings(min_p=0.5, seed=1), {1, 2}),
    "min-p within top-k": (Settings(top_k=5, min_p=0.04, seed=1), {1, 2, 4}),
    "a bias of -100 forbids": (Settings(temperature=0, bias={1: -100.0}), {2}),
    "a bias of 100 forces": (Settings(seed=1, bias={3: 100.0}), {3}),
    "a bias outside the vocabulary changes nothing": (Settings(temperature=0, bias={99: 100.0}), {1}),
}


@pytest.mark.parametrize("name", NARROW)
def test_only_admitted_tokens_come(name: str) -> None:
    settings, admitted = NARROW[name]
    assert set(drawn(settings)) == admitted


def test_the_same_seed_gives_the_same_tokens_and_another_choice_others() -> None:
    flat = np.zeros(50, dtype=np.float32)
    assert drawn(Settings(seed=7), flat) == drawn(Settings(seed=7), flat) != drawn(Settings(seed=8), flat)
    first, second = (Sampler(Settings(seed=7), [], choice) for choice in (0, 1))
    assert [first.pick(flat) for _ in range(20)] != [second.pick(flat) for _ in range(20)]
    assert drawn(Settings(seed=-(2**63)), flat) == drawn(Settings(seed=-(2**63)), flat)


def test_frequencies_follow_the_softmax() -> None:
    found = np.bincount(drawn(Settings(seed=3), times=20_000), minlength=5) / 20_000
    expected = np.exp(LOGITS) / np.exp(LOGITS).sum()
    assert np.abs(found - expected).max() < 0.02


PENALTIES = {
    "repetition, of a token of the prompt": (Settings(repetition_penalty=2.0), [1], [], {1: 2.5}),
    "repetition makes a negative logit lower": (Settings(repetition_penalty=2.0), [3], [], {3: -2.0}),
    "frequency, by how often it came": (Settings(frequency_penalty=0.5), [1], [1, 1], {1: 4.0}),
    "presence, once": (Settings(presence_penalty=0.5), [], [1, 1, 2], {1: 4.5, 2: 4.4}),
    "presence is not of the prompt": (Settings(presence_penalty=0.5), [1], [], {}),
}


@pytest.mark.parametrize("name", PENALTIES)
def test_penalties(name: str) -> None:
    settings, prompt, came, changed = PENALTIES[name]
    sampler = Sampler(settings, prompt)
    for token in came:
        sampler.took(token)
    adjusted = sampler.adjust(LOGITS)
    for token, logit in enumerate(LOGITS):
        assert adjusted[token] == pytest.approx(changed.get(token, logit), abs=1e-5)
    assert LOGITS[1] == 5.0  # the model's own are not touched


@given(FLOATS, st.floats(0.05, 2), st.integers(0, 50), st.floats(0.01, 1), st.floats(0, 1), st.integers(0, 1000))
def test_what_is_picked_is_always_a_token_that_may_be(
    logits: np.ndarray, temperature: float, top_k: int, top_p: float, min_p: float, seed: int
) -> None:
    logits[0] = -np.inf  # a mask's doing
    settings = Settings(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed)
    token = Sampler(settings, []).pick(logits)
    assert 0 < token < len(logits)
    if top_k:
        assert (logits > logits[token]).sum() < top_k


@given(FLOATS)
def test_log_probabilities_are_a_distribution_and_the_likeliest_come_first(logits: np.ndarray) -> None:
    scores = log_probabilities(logits)
    assert np.exp(scores).sum() == pytest.approx(1)
    best = likeliest(scores, 5)
    assert list(scores[best]) == sorted(scores, reverse=True)[:5]
