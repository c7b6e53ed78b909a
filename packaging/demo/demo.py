"""make demo: starts a whole Ringfence, sends prompts of four sensitivities, and shows where each one went."""

from __future__ import annotations

import argparse
import asyncio
import shlex
import signal
import sys
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.status import Status
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))
import script

from tests.support import system

HERE = Path(__file__).parent
MODELS = HERE.parent / "models" / "repository"
PLACES = [
    system.Place(script.FRANKFURT, "on_premise", "frankfurt"),
    system.Place(script.DUBLIN, "private_cloud", "dublin"),
    system.Place(script.VIRGINIA, "public_cloud", "virginia"),
]
COLOURS = {"public": "green", "internal": "cyan", "confidential": "yellow", "restricted": "red"}
WIDTH = 190


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo ARGS=…", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end everything after the table; exit 0 only if all went as expected")
    parser.add_argument("--port", type=int, default=0, help="the hub's port; a free one by default")
    parser.add_argument("--nats-port", type=int, default=0, help="the broker's port; a free one by default")
    parser.add_argument("--state", type=Path, default=Path(".demo"), help="the folder for everything; it is made anew")
    return parser.parse_args()


async def main() -> int:
    args = arguments()
    console = Console(width=WIDTH if not sys.stdout.isatty() else None)
    demo = system.System(args.state, PLACES, MODELS, HERE / "tenants.yaml", port=args.port, nats_port=args.nats_port)
    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    work = asyncio.create_task(present(demo, console))
    stop = asyncio.create_task(told.wait())
    try:
        await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            return 130
        rows = work.result()
        as_expected = sum(row.as_expected for row in rows)
        if not args.once:
            console.print(closing(demo, args.state), soft_wrap=True, highlight=False)
            await told.wait()
        console.print(f"demo: {as_expected} of {len(rows)} as expected", highlight=False)
        return 0 if as_expected == len(rows) else 1
    except system.NotReady as error:
        console.print(f"[red]{error}[/]", soft_wrap=True)
        return 1
    finally:
        stop.cancel()
        demo.stop_all()


async def present(demo: system.System, console: Console) -> list[script.Row]:
    """Starts the system, sends the prompts, prints the table."""
    with console.status("preparing keys and agents") as status:
        await demo.prepare("acme-bank")
        say(console, status, "keys, tenants and three agents are prepared", "starting the broker, the hub and three agents")
        demo.start()
        await demo.wait_for_hub()
        say(
            console,
            status,
            f"the hub is ready at {demo.url}, its broker at tls://127.0.0.1:{demo.nats_port}",
            "waiting for the agents",
        )
        await demo.wait_for_agents([place.name for place in PLACES])
        for place in PLACES:
            say(console, status, f"{place.name} is up: {place.zone} at {place.site}", "sending prompts")
        rows = []
        async with aiohttp.ClientSession(headers={"authorization": f"Bearer {demo.api_key}"}) as http:
            for step in script.ALL_UP:
                rows.append(await script.send(http, demo.url, step))
            status.update(f"stopping {script.FRANKFURT}")
            await asyncio.to_thread(demo.stop, script.FRANKFURT)
            await demo.wait_until_gone(script.FRANKFURT)
            say(console, status, f"{script.FRANKFURT} is stopped: restricted prompts have no place to go now", "sending prompts")
            for step in script.FRANKFURT_DOWN:
                rows.append(await script.send(http, demo.url, step))
        demo.start_agent(script.FRANKFURT)
        status.update(f"starting {script.FRANKFURT} again")
        await demo.wait_for_agents([script.FRANKFURT])
    console.print(table(rows))
    return rows


def say(console: Console, status: Status, done: str, following: str) -> None:
    console.print(f"[green]✓[/] {done}", highlight=False)
    status.update(following)


def table(rows: list[script.Row]) -> Table:
    made = Table(
        "",
        "prompt",
        "level",
        "categories",
        "decision",
        "agent",
        "region",
        "cache",
        "ms",
        "first words",
        title="Where each prompt went",
    )
    for row in rows:
        level = f"[{COLOURS[row.level]}]{row.level}[/]" if row.level in COLOURS else "–"
        answer = row.answer if row.status == 200 else f"[red]{row.status} {row.code}[/]"
        made.add_row(
            "[green]✓[/]" if row.as_expected else "[red]✗[/]", cut(row.step.prompt, 40), level, row.categories or "–", cut(row.decision, 36),
            row.agent or "–", row.region or "–", row.cache or "–", f"{row.ms:.0f}", cut(answer, 44) if row.status == 200 else answer,
        )  # fmt: skip
    return made


def cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def closing(demo: system.System, state: Path) -> str:
    """How to go on by hand; the same as shell exports in a file."""
    exports = {"RINGFENCE_URL": demo.url, "RINGFENCE_API_KEY": demo.api_key, "RINGFENCE_ADMIN_KEY": demo.admin_key}
    text = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in exports.items())
    path = state / "env"
    path.touch(mode=0o600)
    path.write_text(text)
    return (
        f"\nRingfence is up at [bold]{demo.url}[/], until Ctrl-C.\n\n{text}\n(the same lines are in {path}: source {path})\n\n"
        f"curl -i $RINGFENCE_URL/v1/chat/completions -H \"authorization: Bearer $RINGFENCE_API_KEY\" -H 'content-type: application/json' "
        f"""-d '{{"model": "guide", "messages": [{{"role": "user", "content": "What is a receipt?"}}]}}'\n"""
    )


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
