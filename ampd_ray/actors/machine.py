"""Passes a cloud's notice that this machine is taken away on to Ray, for all of the cluster to know."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from ampd_ray.actors.draining import drain
from ampd_ray.actors.placement import here
from ampd_ray.clouds.apart import apart
from ampd_ray.clouds.machine import Machine
from ampd_ray.errors import ConfigError

logger = logging.getLogger(__name__)

ASK_AGAIN_SECS = 5.0  # whether somebody else still does it
TELL_AGAIN_SECS = 1.0


async def watch_machine(spot_notice: str) -> None:
    """Ends once it has been said, and at once where there is no cloud. One process of a Ray node does it."""
    try:
        machine = Machine.of(spot_notice, os.environ)
    except ConfigError as error:
        logger.warning("nobody asks whether this machine is taken away: %s", error)
        return
    if machine is None:
        return
    async with _alone(f"ampd-ray/notice/{here()}"):
        secs = await machine.taken_away()
        logger.warning("%s takes this machine away in %.0f s", machine.cloud, secs)
        await _tell(secs, machine.cloud)


async def _tell(secs: float, cloud: str) -> None:
    clock = asyncio.get_running_loop().time
    gone_at = clock() + secs
    while True:
        try:
            left = max(0.0, gone_at - clock())
            return await apart(partial(drain, here(), left, f"{cloud} takes the machine away"))
        except Exception as error:  # the cluster's head may be away for a while
            logger.info("Ray could not be told that this machine goes", extra={"error": error})
            await asyncio.sleep(TELL_AGAIN_SECS)


@asynccontextmanager
async def _alone(name: str) -> AsyncIterator[None]:
    """Wait to be the only one on this machine; the system forgets a name without a file when its process ends."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as claim:
        while True:
            try:
                claim.bind(f"\0{name}")
                break
            except OSError:
                await asyncio.sleep(ASK_AGAIN_SECS)
        yield
