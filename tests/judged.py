"""Is what a source makes of two answers right? Either a typed error, or the rows that the reference decoder makes.

``Judge.verdict(seed, bodies)`` sends the bytes down the whole way of the product: envelope, pairing by id, typed
JSON, checks, decoding; only the wire is left out.
"""

import asyncio
import itertools
import json
import sys
from enum import StrEnum
from typing import Any

from ampd_ray.chain.ranges import Span
from ampd_ray.datasets.evm.decode import decode, links
from ampd_ray.errors import MAX_TEXT_CHARS, AmpdError
from ampd_ray.providers.envelope import Answer, Request, skim_or_fail
from ampd_ray.providers.evm_rpc import EvmRpcSource
from ampd_ray.providers.limits import Timing
from tests.fakes.providers import all_of, provider
from tests.mutants import BLOCK_ID, RECEIPTS_ID, Seed
from tests.reference import comparable, reference_rows

ONCE = Timing(give_up_secs=0.0, fault_delays=(), reorg_delays=())


class Verdict(StrEnum):
    """Of one pair of answers; an exception that is no ``AmpdError`` is not caught."""

    REFUSED = "refused"
    EQUAL = "accepted, rows as the reference has them"
    WRONG = "accepted, rows differ"


class Wire:
    """Two answers for two requests, whatever they ask."""

    def __init__(self) -> None:
        self.bodies = (b"", b"")
        self.asked = 0

    async def exchange(self, request: Request) -> Answer:
        self.asked = request.ids[0]
        return skim_or_fail(self.bodies[0 if self.asked == BLOCK_ID else 1])

    async def close(self) -> None:
        """Nothing to close."""


class Judge:
    """Use it as a context manager; it has an event loop of its own."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def __enter__(self) -> "Judge":
        self._runner.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._runner.__exit__(*error)

    def verdict(self, seed: Seed, bodies: tuple[bytes, bytes]) -> Verdict:
        return self._runner.run(_verdict(seed, bodies))


async def _verdict(seed: Seed, bodies: tuple[bytes, bytes]) -> Verdict:
    wire = Wire()
    wire.bodies = bodies
    source = EvmRpcSource(provider("ipc:///no.ipc"), expected_chain_id=seed.chain_id, timing=ONCE)
    source._requester._transport = wire
    source._requester._ids = itertools.count(BLOCK_ID)
    try:
        fetched = await all_of(source, Span(seed.number, seed.number))
        tables = decode(fetched, "test")
        linked = links(fetched, "test")
    except AmpdError as error:
        _fit_to_be_told(error)
        return Verdict.REFUSED
    expected = reference_rows([_answered(bodies, with_receipts=wire.asked >= RECEIPTS_ID)])
    right = all(comparable(tables[name]) == rows for name, rows in expected.items())
    right &= linked.hash(0) == expected["blocks"][0]["hash"] and expected["blocks"][0]["block_num"] == seed.number
    return Verdict.EQUAL if right else Verdict.WRONG


def _fit_to_be_told(error: AmpdError) -> None:
    """The error can be logged, stored as JSON and shown."""
    assert len(error.message) <= MAX_TEXT_CHARS
    assert error.message.replace("\n", " ").isprintable()
    json.dumps(error.details, allow_nan=False).encode()


def _answered(bodies: tuple[bytes, bytes], *, with_receipts: bool) -> dict[str, Any]:
    """What the two answers say to a plain reader, the receipts in the order of their positions."""
    block = _result(bodies[0], BLOCK_ID)
    receipts = list(_result(bodies[1], RECEIPTS_ID) or []) if with_receipts else []
    if all(receipt.get("transactionIndex") is not None for receipt in receipts):
        receipts.sort(key=lambda receipt: _int(receipt["transactionIndex"]))
    return {"block": block, "receipts": receipts}


def _result(body: bytes, number: int) -> Any:
    answers = json.loads(body.decode("utf-8", "replace"), strict=False, parse_int=_any_int)
    answers = answers if isinstance(answers, list) else [answers]
    return next(answer["result"] for answer in answers if answer.get("id") in (number, str(number)))


def _any_int(digits: str) -> int | str:
    """A number of thousands of digits, which Python refuses to read and no column takes, stays text."""
    return int(digits) if len(digits) < sys.get_int_max_str_digits() else digits


def _int(value: str | int) -> int:
    return int(value, 16) if isinstance(value, str) else value
