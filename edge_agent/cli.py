"""ringfence-agent: everything that a site's administrator does. Which command is where; it is imported when it is called."""

from __future__ import annotations

from sync.kit import commands

cli = commands.group(
    "ringfence-agent",
    "Runs the models of one site, and keeps its journal.",
    {
        "enrol": "edge_agent.enrol_cli:enrol",
        "run": "edge_agent.run_cli:run",
        "status": "edge_agent.status_cli:status",
        "doctor": "edge_agent.doctor_cli:doctor",
        "logs": "edge_agent.service_cli:logs",
        "drain": "edge_agent.service_cli:drain",
        "models": "edge_agent.models_cli:cli",
        "journal": "edge_agent.journal_cli:journal_cli",
        "bundle": "edge_agent.journal_cli:bundle_cli",
        "config": "edge_agent.config_cli:cli",
        "leaf-config": "edge_agent.leaf_cli:leaf_config",
        "upgrade": "edge_agent.upgrade_cli:upgrade",
        "install": "edge_agent.service_cli:install",
        "uninstall": "edge_agent.service_cli:uninstall",
        "rebuild": "edge_agent.rebuild:rebuild",
        "support-bundle": "edge_agent.support_bundle:support_bundle",
    },
)


def main() -> None:
    """The console script."""
    commands.main(cli)
