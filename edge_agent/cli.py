"""ringfence-agent: everything that a site's administrator does. Which command is where; it is imported when it is called."""

from __future__ import annotations

from sync.terminal import commands

cli = commands.group(
    "ringfence-agent",
    "Runs the models of one site, and keeps its journal.",
    {
        "enrol": "edge_agent.commands.enrol:enrol",
        "run": "edge_agent.commands.run:run",
        "status": "edge_agent.commands.status:status",
        "doctor": "edge_agent.commands.doctor:doctor",
        "logs": "edge_agent.commands.service:logs",
        "drain": "edge_agent.commands.service:drain",
        "models": "edge_agent.commands.models:cli",
        "journal": "edge_agent.commands.journal:journal_cli",
        "bundle": "edge_agent.commands.journal:bundle_cli",
        "config": "edge_agent.commands.config:cli",
        "leaf-config": "edge_agent.commands.leaf:leaf_config",
        "upgrade": "edge_agent.commands.upgrade:upgrade",
        "install": "edge_agent.commands.service:install",
        "uninstall": "edge_agent.commands.service:uninstall",
        "rebuild": "edge_agent.commands.rebuild:rebuild",
        "support-bundle": "edge_agent.commands.support_bundle:support_bundle",
    },
)


def main() -> None:
    """The console script."""
    commands.main(cli)
