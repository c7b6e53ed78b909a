"""Law: what was sent long ago is not begun, and clocks that are off change nothing else.

An agent that was stopped finds in its socket what others have done since. It asks the hub's own clock, as
it was heard, and never its own wall clock: whatever that says, a run has the seconds that are left to it.

Mutations that turn it red, each by itself: take the call of `_check_start` out of the runner; return `contact` plus what has
passed from `Guard.hub_now` (old beats then make the estimate late); compute `_left_s` from `run.deadline`
always; answer from `HubClock.now` however long ago that was; never believe later times in `HubClock.heard`;
take DRIFT for 0; keep the first time that was heard.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.work import hub_clock
from edge_agent.work.guard import Guard
from edge_agent.work.hub_clock import HubClock
from edge_agent.work.runner import START_WITHIN_S
from sync.crypto import keyring
from sync.kit.clock import ManualClock
from sync.wire.messages import Done, Failed
from tests.support import runners

MODELS = {"guide": {"backend": "noop"}}
START = 1_700_000_000.0
HUB_AHEAD_S = 40.0
"""The hub's clock and this machine's are not the same."""


def beats(guard: Guard, clock: ManualClock, *, seconds: int) -> None:
    """Hear the hub each second."""
    for _ in range(seconds):
        clock.advance(1)
        guard.heard_hub(clock.wall() + HUB_AHEAD_S)


def stopped(guard: Guard, clock: ManualClock) -> None:
    """Be stopped for 25 s, and hear afterwards first what the hub said meanwhile."""
    was = clock.wall() + HUB_AHEAD_S
    clock.advance(25)
    for second in range(1, 6):
        guard.heard_hub(was + second)


def stopped_for_long(guard: Guard, clock: ManualClock) -> None:
    """As above, for five minutes."""
    was = clock.wall() + HUB_AHEAD_S
    clock.advance(300)
    for second in range(1, 8):
        guard.heard_hub(was + second)


def nothing(guard: Guard, clock: ManualClock) -> None:
    """Nothing happens."""


# name: (what happens after a minute on line; when the run was sent, after the begin of that; whether it is begun)
CASES: dict[str, tuple[Callable[[Guard, ManualClock], None], float, bool]] = {
    "one that was sent now": (nothing, 0.0, True),
    "one that was on its way for a while": (nothing, -START_WITHIN_S + 0.5, True),
    "one that was sent long ago": (nothing, -START_WITHIN_S - 2.5, False),
    "one that came while the agent was stopped": (stopped, 1.0, False),
    "one that came shortly before it went on": (stopped, 20.0, True),
    "one that came in the first seconds of a long stop": (stopped_for_long, 5.0, False),
    "one of which nobody knows when it was sent": (nothing, float("-inf"), True),
    "a clock here that jumps forward": (lambda guard, clock: clock.jump_wall(50), 0.0, True),
    "a clock here that jumps back": (lambda guard, clock: clock.jump_wall(-5000), 0.0, True),
    "a clock here that jumps back, and an old one": (lambda guard, clock: clock.jump_wall(-5000), -START_WITHIN_S - 2.5, False),
    "a hub that is silent": (lambda guard, clock: clock.advance(hub_clock.FRESH_S + 1), 0.0, True),
    "a hub whose clock was set back": (lambda guard, clock: guard.hub_clock_went_back(START - 3000), -3100.0, True),
}


@pytest.mark.parametrize("name", CASES)
async def test_what_was_sent_long_ago_is_not_begun(tmp_path: Path, keys: keyring.Keyring, clock: ManualClock, name: str) -> None:
    happens, after_s, begun = CASES[name]
    async with runners.runner(tmp_path, keys, clock, MODELS) as runner:
        guard = runner._guard
        beats(guard, clock, seconds=60)
        sent = clock.wall() + HUB_AHEAD_S + after_s if after_s > float("-inf") else None
        happens(guard, clock)
        reader = runners.Reader(runner)
        reader.start(runners.run(sent=sent))
        end = await reader.end()
        told = (end.code, end.retryable) if isinstance(end, Failed) else "done"
        assert told == ("done" if begun else ("start_deadline", True))
        assert [fields["outcome"] for fields in runners.records(runner)] == ["done" if begun else "start_deadline"]


SKEWS = (-100_000.0, -150.0, 0.0, 150.0)


@pytest.mark.parametrize("skew", SKEWS)
async def test_a_run_has_the_seconds_that_are_left_to_it_whatever_the_clock_says(
    tmp_path: Path, keys: keyring.Keyring, clock: ManualClock, skew: float
) -> None:
    async with runners.runner(tmp_path, keys, clock, MODELS) as runner:
        reader = runners.Reader(runner)
        reader.start(runners.run(left_s=60.0, deadline=clock.wall() + skew))
        assert isinstance(await reader.end(), Done)


@pytest.mark.parametrize("deadline", [float("nan"), float("-inf"), 0.0, START - 1])
async def test_a_hub_of_version_0_1_says_when_it_ends(
    tmp_path: Path, keys: keyring.Keyring, clock: ManualClock, deadline: float
) -> None:
    async with runners.runner(tmp_path, keys, clock, MODELS) as runner:
        reader = runners.Reader(runner)
        reader.start(runners.run(left_s=None, deadline=deadline))
        end = await reader.end()
        assert isinstance(end, Failed) and end.code == "deadline_exceeded"


@given(
    st.lists(st.tuples(st.floats(0, 5), st.floats(0, 100)), min_size=1, max_size=40),
    st.floats(-0.0005, 0.0005),
    st.floats(0, 20),
)
def test_the_estimate_is_never_ahead_of_the_hub_by_a_second(heard: list[tuple[float, float]], drift: float, rest: float) -> None:
    """Beats come after any pause, each with any delay; the clocks drift apart as fast as time servers let them."""
    made, now = HubClock(), 0.0
    for pause, delay in heard:
        now += pause
        made.heard((now - delay) * (1 + drift) + START, now)
    now += rest
    told = made.now(now)
    assert told is not None and told <= now * (1 + drift) + START + 1


def test_a_clock_that_was_set_back_is_believed_after_a_while() -> None:
    """The hub's clock goes 45 s back, of which the link hears nothing before it is past the last time again."""
    made = HubClock()
    for now in range(60):
        made.heard(START + now, now)
    for now in range(106, 106 + int(hub_clock.TURN_S) + 2):
        made.heard(START + now - 45, now)
    assert made.now(now) == pytest.approx(START + now - 45, rel=0, abs=0.5)


def test_messages_that_waited_do_not_make_it_late() -> None:
    made = HubClock()
    for now in range(60):
        made.heard(START + now, now)
    for old in range(60, 80):
        made.heard(START + old, 100)
    assert made.now(100) == pytest.approx(START + 100, rel=0, abs=0.5)


def test_what_came_with_the_least_delay_tells_the_most() -> None:
    made = HubClock()
    for now, delay in enumerate((5.0, 3.0, 0.1, 0.5, 0.9)):
        made.heard(START + now - delay, now)
    assert made.now(now) == pytest.approx(START + now, rel=0, abs=0.2)


@pytest.mark.parametrize("drift", [-0.0005, 0.0005])
def test_two_clocks_that_drift_apart_for_a_week_are_followed(drift: float) -> None:
    made = HubClock()
    for now in range(0, 7 * 86_400, 10):
        hub = START + now * (1 + drift)
        made.heard(hub, now)
        told = made.now(now)
        assert told is not None and abs(told - hub) < 0.5


def test_nothing_is_said_of_a_clock_that_was_not_heard_lately() -> None:
    made = HubClock()
    assert made.now(0) is None
    made.heard(START, 0)
    assert made.now(hub_clock.FRESH_S) is not None and made.now(hub_clock.FRESH_S + 1) is None
