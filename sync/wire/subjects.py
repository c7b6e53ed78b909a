"""The subjects of the wire. The last token is always the id of the one that is meant."""

from __future__ import annotations

from sync.kit.ids import AgentId, SiteId

ROOT = "rf.v1"
JOURNAL_STREAM = "RF_JOURNAL"
JOURNAL_ALL = f"{ROOT}.journal.*"
BEAT_ALL = f"{ROOT}.beat.*"
PROOF_ALL = f"{ROOT}.proof.*"
ASK_ALL = f"{ROOT}.ask.*"
RENEW_ALL = f"{ROOT}.renew.*"
HUB_BEAT = f"{ROOT}.hub.beat"
BUNDLE_BUCKET = "rf_bundle"
DOMAIN = "ringfence"
"""JetStream's domain at the hub: by its name, agents reach it through a leaf node too."""


def run(agent: AgentId) -> str:
    """One inference: a request with many replies."""
    return f"{ROOT}.run.{agent}"


def control(agent: AgentId) -> str:
    """Cancel, and the probe whether the agent is there."""
    return f"{ROOT}.ctl.{agent}"


def beat(agent: AgentId) -> str:
    return f"{ROOT}.beat.{agent}"


def journal(agent: AgentId) -> str:
    return f"{ROOT}.journal.{agent}"


def receipt(agent: AgentId) -> str:
    return f"{ROOT}.receipt.{agent}"


def proof(agent: AgentId) -> str:
    """An agent asks the hub to show that its records are in the ledger."""
    return f"{ROOT}.proof.{agent}"


def ask(agent: AgentId) -> str:
    """A request that an agent's site cannot serve: the hub finds a place for it. Many replies."""
    return f"{ROOT}.ask.{agent}"


def renew(agent: AgentId) -> str:
    """An agent asks for its next certificate."""
    return f"{ROOT}.renew.{agent}"


def bundle(site: SiteId) -> str:
    """The word that a new bundle lies in the bucket under the site's name."""
    return f"{ROOT}.bundle.{site}"


def patch(site: SiteId) -> str:
    """The key in the bucket under which lies what changed since the site's last bundle."""
    return f"{site}.patch"


def inbox(owner: str) -> str:
    """The prefix under which JetStream answers a process."""
    return f"_INBOX.{owner}"


def replies(agent: str, asker: str) -> str:
    """The prefix of the replies between an agent and one life of whoever asked, whichever of the two asked the other."""
    return f"{ROOT}.reply.{agent}.{asker}"


def owner_of(subject: str) -> str:
    """The last token of a subject: the id that it is about."""
    return subject.rsplit(".", 1)[-1]
