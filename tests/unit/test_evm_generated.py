"""Made-up blocks of every transaction type, in every spelling: strict passes them, and rows equal the reference's.

``AMPD_RAY_GENERATED_BLOCKS`` is how many of each type (100 by default).
"""

from __future__ import annotations

import json
import os

import pytest

from ampd_ray.datasets.evm.checks import check
from ampd_ray.datasets.evm.decode import decode
from ampd_ray.datasets.evm.rpc import BLOCK, RECEIPTS, BlockAndReceipts
from ampd_ray.datasets.evm.schemas import SCHEMAS
from tests.fakes.evm_blocks import SPELLINGS, BlockMaker, Json
from tests.reference import comparable, reference_rows

BLOCKS = int(os.environ.get("AMPD_RAY_GENERATED_BLOCKS", "100"))
BATCH = 10
KINDS = [0, 1, 2, 3, 4, 0x6A, 0x76, 0x7E, 0x7F, 2**31 - 1]


@pytest.mark.parametrize("kind", KINDS, ids=hex)
@pytest.mark.timeout(60 + BLOCKS)
def test_generated_blocks_have_the_rows_of_the_reference(kind: int) -> None:
    compared = 0
    for batch in range(-(-BLOCKS // BATCH)):
        maker = BlockMaker(kind << 32 | batch, kind, SPELLINGS[batch % len(SPELLINGS)])
        numbers = range(batch * BATCH, min(BLOCKS, (batch + 1) * BATCH))
        answers = [maker.block(number) for number in numbers]
        tables = decode([checked(answer, number) for number, answer in zip(numbers, answers, strict=True)], "made-up")
        for name, rows in reference_rows(answers).items():
            tables[name].validate(full=True)
            assert tables[name].schema.equals(SCHEMAS[name], check_metadata=True)
            assert comparable(tables[name]) == rows
        compared += len(answers)
    assert compared == BLOCKS


def checked(answer: Json, number: int) -> BlockAndReceipts:
    block = BLOCK.decode(json.dumps(answer["block"]))
    assert block is not None
    return check(block, RECEIPTS.decode(json.dumps(answer["receipts"])), number, "made-up")
