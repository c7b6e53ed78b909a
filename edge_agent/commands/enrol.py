"""ringfence-agent enrol: the command."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from edge_agent import settings
from edge_agent.commands.session import State, out
from edge_agent.identity import enrolling, identity
from sync.crypto import authority
from sync.kit import errors, files
from sync.terminal import commands
from sync.wire import enrolment, invitation


def enrol(
    hub: Annotated[str, typer.Option(help="Where the hub takes invitations: https://HOST:PORT, from the pasted line.")] = "",
    token: Annotated[str, typer.Option(help="The invitation's token, from the pasted line.", envvar="RINGFENCE_AGENT_TOKEN")] = "",
    request: Annotated[
        Path | None,
        typer.Option(help="Without a line: writes the request to this file, for 'ringfence agents approve'.", show_default=False),
    ] = None,
    response: Annotated[
        Path | None, typer.Option(help="Without a line: takes the hub's answer from this file.", show_default=False)
    ] = None,
    name: Annotated[str, typer.Option(help="With --request: the agent's name; an invitation has one.")] = "",
    state: State = None,
) -> None:
    """Makes this agent belong to a hub: by the line that 'ringfence agents invite' printed, or by two files on a stick."""
    chosen = settings.read(state=state)
    folder, keys = chosen.state, chosen.keyring
    if sum(map(bool, (hub or token, request, response))) != 1 or bool(hub) != bool(token):
        raise errors.Misconfigured("Give --hub and --token, or --request FILE and --name, or --response FILE.", code="bad_option")
    if identity.is_admitted(folder) and request is None:
        me = identity.load(folder, keys)
        raise errors.Misconfigured(
            f"{folder} is of the agent '{me.id}' already, which belongs to a hub: nothing was changed.", code="enrolled"
        )
    if request is not None:
        _write_request(folder, keys, request, name)
    elif response is not None:
        _say(folder, identity.accept(folder, commands.read_file(response), keys))
    else:
        _by_token(folder, keys, enrolling.check_url(hub), invitation.parse(token))


def _by_token(folder: Path, keys: Path, url: str, token: invitation.Token) -> None:
    fresh = not keys.exists()
    roots = asyncio.run(enrolling.find(url, token))
    made = identity.request(folder, keys=keys)
    try:
        admission = asyncio.run(enrolling.enrol(url, roots, token, made))
    except (errors.Refused, enrolling.WrongHub):
        if fresh:
            identity.forget(folder, keys)
        raise
    _say(folder, identity.accept(folder, admission, keys))


def _write_request(folder: Path, keys: Path, request: Path, name: str) -> None:
    if not name:
        raise errors.Misconfigured("--request needs --name: what the agent is to be called.", code="bad_option")
    made = identity.request(folder, name, keys)
    files.write_atomically(request, enrolment.write_request(made))
    out.print(f"The request of '{name}' is in {request}. Its fingerprint is [bold]{made.fingerprint}[/].")
    out.print(f"At the hub: ringfence agents approve {request.name} --site SITE --zone ZONE -o response.json", highlight=False)


def _say(folder: Path, got: enrolment.Admission) -> None:
    tenants = ", ".join(got.tenants) or "all of its site"
    out.print(f"This is '{got.name}' now, at the site '{got.site}' in {got.region}, as {got.zone}, for {tenants}.", highlight=False)
    root = enrolment.shown(authority.fingerprint(got.trusted))
    out.print(
        f"Its hub is {got.broker_url}; the fingerprint of the hub's root is [bold]{root}[/].", highlight=False, soft_wrap=True
    )
    out.print(
        f"Start it: systemctl start ringfence-agent, or ringfence-agent run --state {folder}", highlight=False, soft_wrap=True
    )
