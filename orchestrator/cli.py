"""ringfence: the hub and its administration. Which command is where; it is imported when it is called."""

from __future__ import annotations

from sync.terminal import commands

AGENTS = {
    "invite": "orchestrator.commands.agents:invite",
    "approve": "orchestrator.commands.agents:approve",
    "list": "orchestrator.commands.agents:list_agents",
    "invitations": "orchestrator.commands.agents:list_invitations",
    "uninvite": "orchestrator.commands.agents:uninvite",
    "revoke": "orchestrator.commands.agents:revoke",
    "lock": "orchestrator.commands.agents:lock",
    "unlock": "orchestrator.commands.agents:unlock",
    "release": "orchestrator.commands.rollout:release",
    "upgrade": "orchestrator.commands.rollout:upgrade",
}
cli = commands.group(
    "ringfence",
    "Decides where each prompt may be processed, and has it processed there.",
    {
        "classify": "classifiers.cli:classify",
        "serve": "orchestrator.commands.serve:serve",
        "apply": "orchestrator.commands.configuration:apply",
        "explain": "orchestrator.commands.configuration:explain",
        "keys": "orchestrator.commands.keys:cli",
        "hub": "orchestrator.commands.hub:cli",
        "doctor": "orchestrator.commands.hub:doctor",
        "agents": commands.group("agents", "The agents of the fleet.", AGENTS),
        "ca": "orchestrator.commands.authority:cli",
        "audit": "orchestrator.commands.audit:cli",
        "models": "orchestrator.commands.models:cli",
        "nats": "orchestrator.commands.nats:cli",
        "backup": "orchestrator.commands.recovery:backup",
        "restore": "orchestrator.commands.recovery:restore",
        "bundle": "orchestrator.commands.recovery:bundle_cli",
        "ledger": "orchestrator.commands.recovery:ledger_cli",
    },
)


def main() -> None:
    """The console script."""
    commands.main(cli)
