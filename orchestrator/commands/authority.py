"""ringfence ca: the authority that certifies agents, and its rotation."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import Annotated

import typer

from orchestrator import settings
from orchestrator.authority import authority as authorities
from orchestrator.authority.authority import Authority
from orchestrator.commands import session
from orchestrator.commands.session import Passphrase, Service, State, out, with_database
from orchestrator.store.administration import note
from orchestrator.store.fleet import SqlAgents
from sync.crypto import keyring
from sync.kit import files
from sync.wire import enrolment

cli = typer.Typer(help="The authority that certifies this hub's agents and servers.", no_args_is_help=True)


@cli.command()
def show(state: State = None) -> None:
    """The root's fingerprint, by what its key is kept, and until when what counts."""
    _, found = _load(state)
    out.print(
        f"root      [bold]{enrolment.shown(found.pin)}[/], until {_day(found.root_expires)}; its key is kept by: {found.wrapper}"
    )
    out.print(f"issuer    until {_day(found.issuer_expires)}")
    if found.roots > 1:
        out.print("rotation  the old root still counts: 'ringfence ca retire' ends that once every agent has the new one")


@cli.command()
def export(output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")], state: State = None) -> None:
    """Writes the roots that count, in PEM: what others need to trust this hub's servers."""
    files.write_atomically(output, _load(state)[1].trusted)
    out.print(f"The roots are in {output}.")


@cli.command()
def rotate(
    root: Annotated[bool, typer.Option("--root", help="The root too; the old one counts on until 'ca retire'.")] = False,
    passphrase_file: Passphrase = None,
    key_command: Service = "",
    state: State = None,
) -> None:
    """Makes a new issuer, or with --root a new root. A running hub takes it up within seconds, its agents with their next certificate."""
    chosen, found = _load(state)
    wrapper = session.wrapper(passphrase_file, key_command) if passphrase_file or key_command else None
    with_database(chosen.state, lambda database: note(database, what="authority rotation", root=root, before=found.pin))
    made = found.rotate_root(time.time(), wrapper) if root else found.rotate_issuer(time.time(), wrapper)
    what = "root and issuer are" if root else "issuer is"
    out.print(f"The {what} new: [bold]{enrolment.shown(made.pin)}[/], the issuer until {_day(made.issuer_expires)}.")
    if root:
        out.print(
            "The old one counts on, for invitations of before too. When every agent has renewed its certificate: ringfence ca retire"
        )


@cli.command()
def retire(
    force: Annotated[bool, typer.Option("--force", help="Though agents have not renewed since the rotation.")] = False,
    state: State = None,
) -> None:
    """Ends a rotation of the root: the old one counts no more. Refused while agents have not renewed their certificates since."""
    chosen, found = _load(state)
    agents = with_database(chosen.state, lambda database: SqlAgents(database).all())
    late = [admitted.agent.id for admitted in agents if admitted.certified.issued < found.rotated]
    if late and not force:
        raise authorities.StillOld(
            f"{len(late)} agents have no certificate of the new root yet ({', '.join(late[:5])}): wait, or use --force and invite them anew."
        )
    with_database(chosen.state, lambda database: note(database, what="old root retired", forced=bool(late), kept=found.pin))
    found.retire()
    out.print("The old root counts no more.")


def _load(state: Path | None) -> tuple[settings.Settings, Authority]:
    chosen = settings.read(state=state)
    return chosen, authorities.load(chosen.authority, keyring.load(chosen.keyring).at_rest)


def _day(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).date().isoformat()
