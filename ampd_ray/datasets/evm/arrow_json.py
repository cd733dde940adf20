"""The columns of the tables as a manifest names them: the JSON of their Arrow types, as serde writes Rust's."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from ampd_ray.datasets.evm.schemas import SCHEMAS
from ampd_ray.datasets.manifest import canonical_nested

_UNITS: dict[pa.DataType, str] = {
    pa.uint64(): "UInt64",
    pa.uint32(): "UInt32",
    pa.int32(): "Int32",
    pa.bool_(): "Boolean",
    pa.binary(): "Binary",
    pa.string(): "Utf8",
}


def columns() -> dict[str, list[dict[str, Any]]]:
    """By table, its columns in their order."""
    return {
        name: [{"name": column.name, "type": _type_of(column.type), "nullable": column.nullable} for column in schema]
        for name, schema in SCHEMAS.items()
    }


def _type_of(kind: pa.DataType) -> Any:
    if kind in _UNITS:
        return _UNITS[kind]
    if pa.types.is_fixed_size_binary(kind):
        return {"FixedSizeBinary": kind.byte_width}
    if pa.types.is_decimal(kind):
        return {"Decimal128": [kind.precision, kind.scale]}
    if pa.types.is_timestamp(kind):
        return {"Timestamp": ["Nanosecond", kind.tz]}
    if pa.types.is_list(kind):
        return {"List": _nested(kind.value_field)}
    return {"Struct": [_nested(child) for child in kind.fields]}


def _nested(child: pa.Field) -> dict[str, Any]:
    return canonical_nested({"name": child.name, "data_type": _type_of(child.type), "nullable": child.nullable})
