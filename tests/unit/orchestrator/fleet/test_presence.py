"""Who gets work, with a clock that the test moves.

Mutations that turn these red: in `here`, take out the line of `broken_until` or of `clock_off`; in `broken`, take out the
doubling or the check that it is left out already; in `_shows_clock_off`, always return whether it is off.
"""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.fleet import status
from orchestrator.fleet.meters import FleetMeters
from orchestrator.fleet.presence import BROKEN_S, MOST_BROKEN_S, SILENT_S, LeftOut, News, Presence, Reason
from orchestrator.routing import plan as plans
from sync.kit.clock import ManualClock
from sync.kit.ids import AgentId, Epoch, Region, TenantId
from sync.kit.metrics import Registry
from sync.policy import decide
from sync.wire.levels import Level, Zone
from sync.wire.messages import Beat
from tests.support import builders

A = AgentId("onprem")
AT = builders.snap()


def beat(agent: AgentId = A, clock: float = 0.0, boot: str = "b") -> Beat:
    return Beat(
        agent=agent, boot=boot, version="0", models=("guide",), running=0, queued=0, capacity=16, latency_ms=1.0, bundle_serial=1,
        journal_epoch=Epoch("e"), journal_next=1, journal_receipted=0, journal_proved=0, clock=clock,
    )  # fmt: skip


class Fleet:
    """A presence, its clock, and agents whose clocks are as far off as they say."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock, self.presence = clock, Presence()

    def beats(self, agent: AgentId = A, skew_s: float = 0.0) -> News:
        return self.presence.heard(beat(agent, self.clock.wall() + skew_s), self.clock.monotonic(), self.clock.wall())

    def breaks(self, agent: AgentId = A) -> None:
        self.presence.broken(agent, self.clock.monotonic())

    def after(self, seconds: float) -> None:
        """Time passes, and the agent is heard to the end."""
        self.clock.advance(seconds)
        self.beats()

    def is_here(self, agent: AgentId = A) -> bool:
        return agent in self.presence.here(self.clock.monotonic(), AT)

    def why_not(self, agent: AgentId = A) -> str:
        return self.presence.why_not(agent, self.clock.monotonic(), AT)


@pytest.fixture
def fleet(clock: ManualClock) -> Fleet:
    return Fleet(clock)


# --- silence


def test_an_agent_is_here_while_it_is_heard(fleet: Fleet) -> None:
    assert fleet.why_not() == "silent", "it was never heard"
    fleet.beats()
    fleet.clock.advance(SILENT_S)
    assert fleet.is_here() and fleet.why_not() == ""
    fleet.clock.advance(0.1)
    assert not fleet.is_here() and fleet.why_not() == "silent"


def test_one_that_nobody_listens_for_is_out_until_it_is_heard_again(fleet: Fleet) -> None:
    fleet.beats()
    fleet.presence.gone(A)
    assert fleet.why_not() == "silent"
    fleet.beats()
    assert fleet.is_here()


def test_one_that_is_not_in_the_bundle_is_never_here(fleet: Fleet) -> None:
    fleet.beats(AgentId("stranger"))
    assert not fleet.is_here(AgentId("stranger"))
    assert fleet.why_not(AgentId("stranger")) == "not in the bundle"


# --- clocks


CLOCKS = {
    "right": (0.0, ""),
    "off by what tickets tolerate": (60.0, ""),
    "behind by what tickets tolerate": (-60.0, ""),
    "ahead": (150.0, "clock off by +150 s"),
    "behind": (-61.0, "clock off by -61 s"),
    "not a number": (float("nan"), "clock off by +nan s"),
    "without end": (float("inf"), "clock off by +inf s"),
}


@pytest.mark.parametrize("name", CLOCKS)
def test_an_agent_gets_work_by_its_clock(fleet: Fleet, name: str) -> None:
    skew, why = CLOCKS[name]
    news = fleet.beats(skew_s=skew)
    assert (fleet.why_not(), fleet.is_here()) == (why, why == "")
    assert (news.clock_off_s is not None) == bool(why)


def test_an_older_agent_that_does_not_say_its_clock_gets_work(fleet: Fleet) -> None:
    assert fleet.presence.heard(beat(), 0.0, fleet.clock.wall()) == News()
    assert fleet.is_here()


def test_a_clock_that_is_off_is_news_once_and_again_after_it_was_right(fleet: Fleet) -> None:
    told = [fleet.beats(skew_s=skew).clock_off_s is not None for skew in (0, 90, 90, 59, 61, 20, 61)]
    assert told == [False, True, False, False, False, False, True]


def test_a_clock_that_is_set_right_brings_the_agent_back_with_its_next_beat(fleet: Fleet) -> None:
    fleet.beats(skew_s=150)
    fleet.beats(skew_s=1)
    assert fleet.is_here()


# --- answers that cannot be read


def test_an_agent_whose_answers_cannot_be_read_is_out_for_a_while_though_it_is_heard(fleet: Fleet) -> None:
    fleet.beats()
    fleet.breaks()
    assert (fleet.is_here(), fleet.why_not()) == (False, "its answers cannot be read")
    fleet.after(BROKEN_S - 1)
    assert not fleet.is_here()
    fleet.after(1)
    assert fleet.is_here()


def test_each_pause_is_twice_the_one_before_up_to_five_minutes(fleet: Fleet) -> None:
    for pause in (30, 60, 120, 240, 300, 300):
        fleet.beats()
        fleet.breaks()
        fleet.after(pause - 1)
        assert not fleet.is_here(), pause
        fleet.after(1)
        assert fleet.is_here(), pause
    assert MOST_BROKEN_S == 300


def test_requests_that_break_together_count_as_one(fleet: Fleet) -> None:
    fleet.beats()
    for _ in range(16):
        fleet.breaks()
    fleet.after(BROKEN_S)
    assert fleet.is_here()


def test_a_good_answer_brings_it_back_and_the_next_pause_is_short_again(fleet: Fleet) -> None:
    fleet.beats()
    for _ in range(3):
        fleet.breaks()
        fleet.after(MOST_BROKEN_S)
    fleet.breaks()
    fleet.presence.well(A)
    assert fleet.is_here()
    fleet.breaks()
    fleet.after(BROKEN_S)
    assert fleet.is_here()


def test_of_an_agent_that_was_never_heard_nothing_is_noted(fleet: Fleet) -> None:
    fleet.breaks()
    fleet.presence.well(A)
    fleet.presence.gone(A)
    assert fleet.presence.seen(A) is None


def test_one_that_gets_no_work_is_still_listening_for_its_receipts(fleet: Fleet) -> None:
    fleet.beats(skew_s=150)
    fleet.breaks()
    assert not fleet.is_here() and A in fleet.presence.listening(fleet.clock.monotonic(), AT)


def test_silence_goes_before_the_clock_and_the_clock_before_the_answers(fleet: Fleet) -> None:
    fleet.beats(skew_s=150)
    fleet.breaks()
    assert fleet.why_not() == "clock off by +150 s"
    fleet.clock.advance(SILENT_S + 1)
    assert fleet.why_not() == "silent"


# --- whatever happens


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["beats", "breaks", "well", "gone", "wait"]),
        st.sampled_from([*AT.agents, AgentId("stranger")]),
        st.sampled_from([0.0, 1.0, 59.0, 61.0, -150.0, float("nan")]),
    ),
    max_size=40,
)


@given(EVENTS, st.integers(0, 99))
def test_who_is_left_out_has_a_reason_and_is_in_no_plan(events: list[tuple[str, AgentId, float]], seed: int) -> None:
    fleet = Fleet(ManualClock())
    for event, agent, number in events:
        match event:
            case "beats":
                fleet.beats(agent, number)
            case "breaks":
                fleet.breaks(agent)
            case "well":
                fleet.presence.well(agent)
            case "gone":
                fleet.presence.gone(agent)
            case _:
                fleet.clock.advance(0.5 if math.isnan(number) else abs(number))
    now = fleet.clock.monotonic()
    here, left_out = fleet.presence.here(now, AT), fleet.presence.left_out(now, AT)
    assert set(here) | set(left_out) == set(AT.agents) and not set(here) & set(left_out)
    for agent in AT.agents:
        assert (fleet.why_not(agent) == "") is (agent in here)
    decision = decide.decide(AT, builders.tenant(), decide.Facts(Level.PUBLIC), builders.model(zones=tuple(Zone)))
    made = plans.plan(AT, TenantId("acme"), decision, here, Region("eu-central-1"), random.Random(seed))
    assert {choice.agent for choice in made} == set(here)


# --- what people see of it


LEFT = {
    AgentId("a"): LeftOut(Reason.CLOCK, "clock off by +150 s"), AgentId("b"): LeftOut(Reason.BROKEN, "its answers cannot be read"),
    AgentId("c"): LeftOut(Reason.CLOCK, "clock off by -90 s"),
}  # fmt: skip


def test_the_metrics_count_each_reason_from_the_start() -> None:
    registry = Registry()
    meters = FleetMeters(registry)
    assert b'ringfence_agents_left_out{reason="silent"} 0.0' in registry.exposition()
    meters.show(5, LEFT)
    told = registry.exposition().decode()
    for line in ('left_out{reason="clock"} 2.0', 'left_out{reason="broken"} 1.0', 'left_out{reason="silent"} 0.0', "agents_up 2.0"):
        assert f"ringfence_{line}" in told or f"ringfence_agents_{line}" in told, line
    meters.show(5, {})
    assert b'ringfence_agents_left_out{reason="clock"} 0.0' in registry.exposition()


def test_the_file_for_the_command_line_counts_only_while_it_is_fresh(tmp_path: Path) -> None:
    path = tmp_path / "fleet.json"
    assert status.read(path, 100.0) is None
    status.write(path, LEFT, 100.0)
    assert status.read(path, 100.0 + status.FRESH_S) == LEFT
    assert status.read(path, 101.0 + status.FRESH_S) is None
    assert status.read(path, 99.0 - status.FRESH_S) is None, "the clock was set back"


@pytest.mark.parametrize("told", ["", "[]", "{}", '{"at": 100, "left_out": {"a": ["moon", "x"]}}', '{"at": "x", "left_out": {}}'])
def test_a_damaged_file_says_nothing(tmp_path: Path, told: str) -> None:
    path = tmp_path / "fleet.json"
    path.write_text(told)
    assert status.read(path, 100.0) is None


def test_every_reason_has_its_advice() -> None:
    assert set(status.ADVICE) == set(Reason)
    assert json.dumps([reason.value for reason in Reason]) == '["silent", "clock", "broken"]'
