"""ringfence: the hub and its administration. Which command is where; it is imported when it is called."""

from __future__ import annotations

from sync.kit import commands

AGENTS = {
    "invite": "orchestrator.fleet_cli:invite",
    "approve": "orchestrator.fleet_cli:approve",
    "list": "orchestrator.fleet_cli:list_agents",
    "invitations": "orchestrator.fleet_cli:list_invitations",
    "uninvite": "orchestrator.fleet_cli:uninvite",
    "revoke": "orchestrator.fleet_cli:revoke",
    "lock": "orchestrator.fleet_cli:lock",
    "unlock": "orchestrator.fleet_cli:unlock",
    "release": "orchestrator.rollout_cli:release",
    "upgrade": "orchestrator.rollout_cli:upgrade",
}
cli = commands.group(
    "ringfence",
    "Decides where each prompt may be processed, and has it processed there.",
    {
        "classify": "classifiers.cli:classify",
        "serve": "orchestrator.serve_cli:serve",
        "apply": "orchestrator.configuration_cli:apply",
        "explain": "orchestrator.configuration_cli:explain",
        "keys": "orchestrator.keys_cli:cli",
        "hub": "orchestrator.hub_cli:cli",
        "doctor": "orchestrator.hub_cli:doctor",
        "agents": commands.group("agents", "The agents of the fleet.", AGENTS),
        "ca": "orchestrator.ca_cli:cli",
        "audit": "orchestrator.audit_cli:cli",
        "models": "orchestrator.models_cli:cli",
        "nats": "orchestrator.nats_cli:cli",
        "backup": "orchestrator.recovery_cli:backup",
        "restore": "orchestrator.recovery_cli:restore",
        "bundle": "orchestrator.recovery_cli:bundle_cli",
        "ledger": "orchestrator.recovery_cli:ledger_cli",
    },
)


def main() -> None:
    """The console script."""
    commands.main(cli)
