"""Parity, chain id and authorizations (data.md 1.4.1), one test a rule."""

from __future__ import annotations

from typing import Any

import pytest

from ampd_ray.errors import DataFault, ValueOverflow
from tests.fakes.evm_answers import (
    AUTHORIZATION,
    H32,
    SET_CODE,
    dynamic,
    legacy,
    row,
    without,
)


@pytest.mark.parametrize(
    ("spelled", "parity"),
    [
        ({"yParity": "0x1", "v": "0x1"}, True),
        ({"yParity": "0x0", "v": "0x0"}, False),
        ({"yParity": "0x1"}, True),
        ({"v": "0x1"}, True),
        ({"v": "0x0"}, False),
        ({"v": "0x1b"}, False),
        ({"v": "0x1c"}, True),
        ({"v": "0x25"}, False),
        ({"v": "0x26"}, True),
        ({"yParity": "0x1", "v": "0x1c"}, True),
        ({"yParity": "0x1", "v": "0x26"}, True),
        ({"yParity": 1, "v": None}, True),
    ],
)
def test_the_parity_is_y_parity_or_else_in_v(spelled: dict[str, Any], parity: bool) -> None:
    assert row(without(dynamic(), "v", "yParity") | spelled)["v_parity"] is parity


@pytest.mark.parametrize("spelled", [{"yParity": "0x0", "v": "0x1"}, {"yParity": "0x1", "v": "0x1b"}])
def test_parities_that_disagree_are_a_fault(spelled: dict[str, Any]) -> None:
    with pytest.raises(DataFault, match="is not one parity"):
        row(dynamic() | spelled)


@pytest.mark.parametrize("y_parity", ["0x2", "0x1b", hex(2**70)])
def test_no_valid_transaction_has_another_parity(y_parity: str) -> None:
    with pytest.raises(DataFault, match=f"v: {y_parity} is not a yParity"):
        row(dynamic(yParity=y_parity, v=None))


@pytest.mark.parametrize("kind", [legacy(), dynamic()])
def test_a_transaction_without_v_and_parity_is_a_fault_unless_its_type_is_unknown(kind: dict[str, Any]) -> None:
    with pytest.raises(DataFault, match="v: missing"):
        row(without(kind, "v", "yParity"))
    assert row(without(kind, "v", "yParity", "r", "s") | {"type": "0x76"})["v_parity"] is False


@pytest.mark.parametrize(
    ("fields", "chain_id"),
    [
        ({"v": "0x1b", "chainId": "0x1"}, None),
        ({"v": "0x1c", "chainId": None}, None),
        ({"v": "0x25"}, 1),
        ({"v": "0x26", "chainId": "0x1"}, 1),
        ({"v": hex(2 * (2**64 - 1) + 35)}, 2**64 - 1),
        ({"v": "0x0", "chainId": "0x89"}, 0x89),
        ({"v": "0x0"}, None),
    ],
)
def test_the_chain_id_of_a_legacy_transaction_is_in_v(fields: dict[str, Any], chain_id: int | None) -> None:
    assert row(without(legacy(), "chainId") | fields)["chain_id"] == chain_id


def test_a_chain_id_in_v_that_does_not_fit() -> None:
    with pytest.raises(ValueOverflow, match=f"devnet block 7 tx 0 {H32} v: .* does not fit"):
        row(legacy(v=hex(2 * 2**64 + 35)))


def authorized(**changes: Any) -> dict[str, Any]:
    entry = {name: value for name, value in (AUTHORIZATION | changes).items() if value != "drop"}
    (only,) = row(dynamic(**SET_CODE | {"authorizationList": [entry]}))["authorization_list"]
    return dict(only)


@pytest.mark.parametrize(
    ("spelled", "parity"),
    [({"yParity": "0x0"}, False), ({"yParity": "drop", "v": "0x1"}, True), ({"yParity": "0x1", "v": "0x1"}, True)],
)
def test_the_parity_of_an_authorization(spelled: dict[str, Any], parity: bool) -> None:
    assert authorized(**spelled)["y_parity"] is parity


@pytest.mark.parametrize("parity", ["0x2", "0x1b", "0x1c", "0xff"])
@pytest.mark.parametrize("field", ["yParity", "v"])
def test_a_parity_that_eip_7702_allows_does_not_fit_its_column(parity: str, field: str) -> None:
    """Blocks may have them (such an authorization is skipped), so that no other provider answers otherwise."""
    with pytest.raises(ValueOverflow, match=f"tx 0 .* authorizationList: yParity {parity} does not fit Boolean"):
        authorized(**{"yParity": "drop", field: parity})


def test_a_parity_that_eip_7702_forbids_is_a_fault() -> None:
    with pytest.raises(DataFault, match="authorizationList: yParity 0x100 is not"):
        authorized(yParity="0x100")
    with pytest.raises(DataFault, match="authorizationList: yParity missing"):
        authorized(yParity=None)
    with pytest.raises(DataFault, match="is not one parity"):
        authorized(yParity="0x0", v="0x1b")


def test_chain_ids_of_authorizations_beyond_64_bits_are_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    entries = [AUTHORIZATION | {"chainId": hex(2**64 + n)} for n in range(5)]
    found = row(dynamic(**SET_CODE | {"authorizationList": [AUTHORIZATION, *entries]}))["authorization_list"]
    assert [entry["chain_id"] for entry in found] == [1, 0, 0, 0, 0, 0]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "5 authorizations" in caplog.text
    assert authorized(chainId=hex(2**64 - 1))["chain_id"] == 2**64 - 1


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"nonce": hex(2**64)}, ValueOverflow, "authorizationList: nonce .* does not fit UInt64"),
        ({"chainId": hex(2**256)}, ValueOverflow, "authorizationList: chainId .* does not fit 256 bits"),
        ({"r": hex(2**256)}, ValueOverflow, r"authorizationList: r .* does not fit FixedSizeBinary\(32\)"),
        ({"address": "0x12"}, DataFault, "authorizationList: address 0x12 is not 20 bytes"),
        ({"nonce": None}, DataFault, "authorizationList: nonce missing"),
        ({"s": "zz"}, DataFault, "authorizationList: s zz is not a quantity"),
    ],
)
def test_a_bad_field_of_an_authorization_is_named(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"devnet block 7 tx 0 {H32} {message}"):
        authorized(**changes)
