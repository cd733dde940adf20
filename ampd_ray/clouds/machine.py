"""Waits for the notice that this machine is taken away, if it is one of a cloud's.

What the firmware says of the machine decides that, so that elsewhere nothing is ever asked of any network.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from ampd_ray.clouds.apart import apart
from ampd_ray.clouds.notices import Aws, Azure, Cloud, Gcp, NoAnswer
from ampd_ray.errors import ConfigError

logger = logging.getLogger(__name__)

TOLD: Final = "AMPD_RAY_METADATA"
CLOUDS: Final[Mapping[str, type[Cloud]]] = {"aws": Aws, "gcp": Gcp, "azure": Azure}
LINK_LOCAL: Final = "http://169.254.169.254"  # by its number: a name would have to be looked up
FIRMWARE: Final = Path("/sys/class/dmi/id")
SIGNS: Final = (  # what a file of the firmware's has in it on a machine of a cloud
    ("sys_vendor", "Amazon EC2", "aws"),
    ("bios_version", "amazon", "aws"),
    ("product_name", "Google Compute Engine", "gcp"),
    ("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77", "azure"),
)
ASK_EVERY_SECS: Final = 2.0
ASK_SELDOM_SECS: Final = 60.0
PATIENCE: Final = 3  # times without an answer, before it is asked seldom
ANSWER_SECS: Final = 2.0
MOST_BYTES: Final = 1 << 16


@dataclass(frozen=True)
class Machine:
    """A machine of a cloud, with a metadata service at ``url``."""

    cloud: str
    url: str = LINK_LOCAL

    @classmethod
    def of(cls, configured: str, environ: Mapping[str, str], firmware: Path = FIRMWARE) -> Self | None:
        """The one that we are on; None if it is nobody's, or nothing is to be asked.

        ``configured`` is ``auto``, ``off`` or a cloud; ``AMPD_RAY_METADATA`` is what ``auto`` means then: ``off``, or a
        cloud and an address, ``aws=http://127.0.0.1:1338``. Raises ``ConfigError``.
        """
        if configured != "auto":
            return cls(configured) if configured in CLOUDS else None
        if told := environ.get(TOLD):
            return cls._told(told)
        cloud = _by_firmware(firmware)
        return None if cloud is None else cls(cloud)

    @classmethod
    def _told(cls, told: str) -> Self | None:
        cloud, _, url = told.partition("=")
        if told == "off":
            return None
        if cloud not in CLOUDS or urlsplit(url).scheme != "http" or not urlsplit(url).hostname:
            raise ConfigError(f"{TOLD}: {told!r} is neither off nor CLOUD=URL, such as aws=http://127.0.0.1:1338")
        return cls(cloud, url)

    async def taken_away(self) -> float:
        """Wait for the notice; how many seconds are left then. What does not answer is asked again, seldom at last."""
        service, silent = CLOUDS[self.cloud](), 0
        while True:
            try:
                secs = await apart(partial(service.secs_left, self._ask, datetime.now(UTC)))
            except (NoAnswer, OSError, HTTPException) as error:
                silent += 1
                if silent == PATIENCE:
                    logger.info(UNHEARD, self.cloud, type(error).__name__, error)
            else:
                silent = 0
                if secs is not None:
                    return secs
            await asyncio.sleep(ASK_EVERY_SECS if silent < PATIENCE else ASK_SELDOM_SECS)

    def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        """By no proxy, and no further than to the address that was given."""
        address = urlsplit(self.url)
        connection = HTTPConnection(address.hostname or "", address.port, timeout=ANSWER_SECS)
        try:
            connection.request(method, path, headers=dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read(MOST_BYTES).decode(errors="replace")
        finally:
            connection.close()


UNHEARD: Final = (
    "the metadata service of %s does not say whether this machine is taken away (%s: %s): without that its work is "
    'lost when it goes, and done again. In a container it may take a hop limit of 2; spot_notice = "off" asks no more'
)


def _by_firmware(firmware: Path) -> str | None:
    for name, sign, cloud in SIGNS:
        try:
            if sign in (firmware / name).read_text(errors="replace"):
                return cloud
        except OSError:
            continue
    return None
