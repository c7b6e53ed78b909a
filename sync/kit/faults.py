"""What has gone wrong, by name: in the log at once, in the metrics as a count, and in a file for `doctor`."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from sync.kit import files, logs
from sync.kit.clock import Clock
from sync.kit.metrics import Registry

log = logs.get("faults")


class Fault(StrEnum):
    """Every fault that has a name. `ADVICE` says what a person does about it."""

    JOURNAL_RESTARTED = "journal_restarted"
    JOURNAL_DAMAGED = "journal_damaged"
    JOURNAL_NEARLY_FULL = "journal_nearly_full"
    JOURNAL_FULL = "journal_full"
    JOURNAL_WRITE_FAILED = "journal_write_failed"
    DISK_FULL = "disk_full"
    RECEIPT_REFUSED = "receipt_refused"
    PROOF_REFUSED = "proof_refused"
    LEDGER_REWRITTEN = "ledger_rewritten"
    LEDGER_RESTARTED = "ledger_restarted"
    HUB_ASKS_AGAIN = "hub_asks_again"
    BUNDLE_REFUSED = "bundle_refused"
    BUNDLE_OLD = "bundle_old"
    BUNDLE_STALE = "bundle_stale"
    CLOCK_JUMPED = "clock_jumped"
    TWO_AGENTS = "two_agents_of_one_identity"
    TOKEN_REUSED = "token_reused"  # noqa: S105 - no password
    KEYS_COPIED = "keys_copied"
    KEPT_OUT = "kept_out"
    CERTIFICATE_OVER = "certificate_over"
    LEDGER_GAP = "ledger_gap"
    LEDGER_FORK = "ledger_fork"
    LEDGER_BROKEN = "ledger_broken"
    CLOCK_BACKWARDS = "clock_backwards"
    AGENT_SILENT = "agent_silent"
    AGENT_CLOCK = "agent_clock"
    WITNESS_REFUSED = "witness_refused"
    FORWARDING_FAILED = "forwarding_failed"


ADVICE = {
    Fault.JOURNAL_RESTARTED: "the old journal was damaged, or older than what the hub holds; it is kept beside the new one",
    Fault.JOURNAL_DAMAGED: "somebody or the disk has changed records of this journal: keep it as it is, and call your auditor",
    Fault.JOURNAL_NEARLY_FULL: "bring the line back, export the journal to a stick, or raise journal_mib",
    Fault.JOURNAL_FULL: "nothing is served until records can leave: bring the line back, export the journal, or raise journal_mib",
    Fault.JOURNAL_WRITE_FAILED: "requests are refused: look at the disk's space and health",
    Fault.DISK_FULL: "the broker's disk has no room: make some; the broker is started again by itself then",
    Fault.RECEIPT_REFUSED: "somebody sends receipts that are not the hub's, or the hub holds another record than this one",
    Fault.PROOF_REFUSED: "the hub's proof does not hold for these records: they stay here; run 'ringfence audit verify'",
    Fault.LEDGER_REWRITTEN: "the hub's ledger contradicts one that it signed before: keep this disk, and call your auditor",
    Fault.LEDGER_RESTARTED: "the hub was restored from a backup; check that this was meant",
    Fault.HUB_ASKS_AGAIN: "the hub lost records that it had receipted, and gets them again; find out why it went back",
    Fault.BUNDLE_REFUSED: "a bundle that is forged, damaged or of another site came; the last good one stays in force",
    Fault.BUNDLE_OLD: "a bundle older than the one in force came; the newer one stays",
    Fault.BUNDLE_STALE: "the hub has not been heard within a tenant's grace time: its requests are refused until it is",
    Fault.CLOCK_JUMPED: "the machine's clock was set by more than a minute: look at its time service",
    Fault.TWO_AGENTS: "two processes run with one agent's identity: stop one, and admit it under a name of its own",
    Fault.TOKEN_REUSED: "somebody else has the invitation's line: compare fingerprints, then unlock the agent or revoke it",
    Fault.KEYS_COPIED: "an agent's keys are in two places: revoke it, and invite it anew on a clean machine",
    Fault.KEPT_OUT: "the hub has revoked or locked this agent: ask its people; the site serves on until the grace time is over",
    Fault.CERTIFICATE_OVER: "the certificate ended and could not be renewed: look at the line to the hub's enrolment port",
    Fault.LEDGER_GAP: "records of an author are missing: they come by themselves while its disk lives, else 'ringfence audit gaps'",
    Fault.LEDGER_FORK: "an author has signed two records of one number: its disk was copied, or its key is in two hands",
    Fault.LEDGER_BROKEN: "an author sent records that do not chain: its disk was changed",
    Fault.CLOCK_BACKWARDS: "an author's clock ran backwards; order comes from its chain",
    Fault.AGENT_SILENT: "an agent has not been heard for long: look at its line and its machine",
    Fault.AGENT_CLOCK: "an agent's clock and the hub's differ by more than a minute: it gets no work; look at both time services",
    Fault.WITNESS_REFUSED: "a witness does not sign the ledger's checkpoints: its sentence says why",
    Fault.FORWARDING_FAILED: "records do not reach the SIEM: they wait, and are sent when it takes them",
}  # fmt: skip


@dataclass(slots=True)
class Noted:
    """How often a fault was seen, when last (seconds since 1970), and the last time's sentence."""

    count: int
    last: float
    detail: str


class Faults:
    """The faults of one state folder. Safe to use from any thread."""

    def __init__(self, path: Path, registry: Registry, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._counter = registry.counter("ringfence_faults_total", "Faults by name.", ("fault",))
        self._dirty = False
        self.noted = read(path)

    def note(self, fault: Fault, detail: str) -> None:
        """Counts a fault; its first time in a process is written down at once, the rest by `flush`."""
        log.error(fault.value, detail=detail[:300])
        self._counter.labels(fault.value).inc()
        with self._lock:
            known = self.noted.get(fault.value)
            self.noted[fault.value] = Noted((known.count if known else 0) + 1, self._clock.wall(), detail[:300])
            self._dirty = True
        if known is None:
            self.flush()

    def flush(self) -> None:
        """Writes what is new. Where the disk does not take it, the next flush tries again."""
        with self._lock:
            if not self._dirty:
                return
            told = json.dumps({name: asdict(noted) for name, noted in self.noted.items()})
            try:
                files.write_atomically(self._path, told.encode(), mode=files.PRIVATE)
            except Exception as error:
                log.warning("faults_not_written", detail=str(error)[:200])
            else:
                self._dirty = False


def read(path: Path) -> dict[str, Noted]:
    """The faults in a file, by name; none where it is missing or damaged."""
    try:
        return {str(name): Noted(**noted) for name, noted in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
