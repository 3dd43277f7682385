"""A gateway as a process: who it is, its run, and its end by a signal."""

import asyncio
import random
import signal
from contextlib import suppress
from pathlib import Path

import typer

from doorward.spg.app import enrolled, open_store
from doorward.spg.engines.identity import EnrolmentFailed, Identity, enrol, load
from doorward.spg.settings import GatewaySettings


async def run(settings: GatewaySettings, code: str, ccs: str) -> None:
    """Run the gateway until it is stopped; the first time, enrol it. Raises ``EnrolmentFailed``."""
    identity = await _identity(settings.dir, code, ccs)
    stopped = asyncio.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signal_number, stopped.set)
    store = open_store(settings.dir)
    try:
        gateway = enrolled(settings, identity, store)
        await gateway.start()
        typer.echo(f"gateway {identity.gateway} runs; its link is {', '.join(identity.link.urls)}")
        ending = asyncio.create_task(stopped.wait())
        failing = asyncio.create_task(gateway.wait())
        try:
            await asyncio.wait((ending, failing), return_when=asyncio.FIRST_COMPLETED)
            if failing.done():
                failing.result()
        finally:
            ending.cancel()
            failing.cancel()
            with suppress(asyncio.CancelledError):
                await failing
            await gateway.stop()
    finally:
        await store.close()


async def _identity(directory: Path, code: str, ccs: str) -> Identity:
    identity = load(directory)
    if identity is not None:
        return identity
    if not (code and ccs):
        raise EnrolmentFailed(
            f"{directory} holds no identity: enrol with --enrol CODE --ccs https://host:port"
        )
    return await enrol(directory, ccs, code, random.SystemRandom())
