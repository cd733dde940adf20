"""A clock for provider code: sleeping advances it at once, chance is fixed."""

import asyncio

from ampd_ray.providers.limits import Timing


class FakeTime:
    """``slept`` lists every wait in order, in seconds."""

    def __init__(self, chance: float = 1.0) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.timing = Timing(clock=lambda: self.now, sleep=self._sleep, random=lambda: chance)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        until = self.now + seconds
        await asyncio.sleep(0)
        self.now = max(self.now, until)
