"""The parameters of a job: the descriptor in ``detail`` of its SCHEDULED event (``spec/metadata-db.md`` 5.5)."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ampd_ray.datasets.evm.verdicts import Level
from ampd_ray.datasets.names import DatasetRef, table_name
from ampd_ray.datasets.priority import MOST, PRIORITY
from ampd_ray.errors import InvalidDescriptor, InvalidName, UnsupportedJobKind

KIND = "materialize-raw"

_END_BLOCK = re.compile(r"latest|-?[0-9]+")


class JobDescriptor(BaseModel):
    """What a job does. Unknown fields are accepted and dropped; ``end_block`` is None (continuous) or text.

    ``tables`` (None: all), ``requested`` (the range a person asked for, as typed), ``provider`` (the name of the only
    one to use; None: any of the network), ``verify_level`` (if it verifies; None: roots) and ``priority`` (its weight
    among the jobs of its worker; None: 10) are ours and written only when set, so that Amp's descriptors stay as they
    are.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    kind: str = KIND
    end_block: str | None = None
    max_writers: Annotated[int, Field(ge=0, le=65535)] = 1
    dataset_namespace: Annotated[str, Field(pattern=r"\A[a-z0-9_]+\z")]
    dataset_name: Annotated[str, Field(pattern=r"\A[a-z_][a-z0-9_]*\z")]
    manifest_hash: Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]
    verify: bool = False
    tables: tuple[str, ...] | None = None
    requested: str | None = None
    provider: str | None = None
    verify_level: Literal["full"] | None = None
    priority: Annotated[int, Field(ge=1, le=MOST)] | None = None

    @field_validator("end_block")
    @classmethod
    def _end_block_is_known(cls, value: str | None) -> str | None:
        if value is not None and not _END_BLOCK.fullmatch(value):
            raise ValueError('must be null, "latest", "123" or "-100"')
        return value

    @field_validator("tables")
    @classmethod
    def _tables_are_names(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """A table's name becomes that of a directory."""
        try:
            return value if value is None else tuple(map(table_name, value))
        except InvalidName as error:
            raise ValueError(error.message) from None

    @field_validator("max_writers")
    @classmethod
    def _at_least_one_writer(cls, value: int) -> int:
        return value or 1

    @classmethod
    def of(cls, dataset: DatasetRef, manifest_hash: str, **fields: Any) -> Self:
        """The descriptor of a raw job for ``dataset``. Raises InvalidDescriptor that names the bad field."""
        named = {"dataset_namespace": dataset.namespace, "dataset_name": dataset.name, "manifest_hash": manifest_hash}
        try:
            return cls.model_validate({**named, **fields})
        except ValidationError as error:
            raise InvalidDescriptor(f"the job's descriptor is invalid: {_problems(error)}") from None

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Read a descriptor's JSON. Raises InvalidDescriptor, and UnsupportedJobKind for another kind of job."""
        try:
            kind = _Kind.model_validate_json(text).kind
            if kind != KIND:
                raise UnsupportedJobKind(f"job kind {kind!r}: this worker runs {KIND!r} only", kind=kind)
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise InvalidDescriptor(f"the job's descriptor is invalid: {_problems(error)}") from None

    def to_json(self) -> str:
        """The descriptor in Amp's field order."""
        ours = ("tables", "requested", "provider", "verify_level", "priority")
        unset = {name for name in ours if getattr(self, name) is None}
        return self.model_dump_json(exclude=unset)

    def same_work(self, other: JobDescriptor) -> bool:
        """True if both ask for the same work, however they are spelled (``spec/metadata-db.md`` 7.3).

        Whoever is asked for the blocks, and however soon, they are the same blocks.
        """
        return self._work() == other._work()

    def _work(self) -> dict[str, Any]:
        tables = None if self.tables is None else tuple(sorted(set(self.tables)))
        return self.model_dump(exclude={"requested", "provider", "priority"}) | {"tables": tables}

    @property
    def weight(self) -> int:
        """Its weight among the jobs of its worker: one of twice the weight has twice the extractors."""
        return self.priority or PRIORITY

    @property
    def level(self) -> Level:
        """How much of each block is verified before its rows are written."""
        if not self.verify:
            return Level.OFF
        return Level.FULL if self.verify_level == "full" else Level.ROOTS

    @property
    def dataset(self) -> str:
        """``namespace/name``."""
        return DatasetRef(self.dataset_namespace, self.dataset_name).dataset

    @property
    def idempotency_key(self) -> str:
        """The key of the job's row: there is one job for each dataset and manifest."""
        return idempotency_key(self.dataset_namespace, self.dataset_name, self.manifest_hash)


class _Kind(BaseModel):
    kind: str


def _problems(error: ValidationError) -> str:
    problems = [
        f"{'.'.join(map(str, problem['loc'])) or 'the JSON'}: {problem['msg'].removeprefix('Value error, ')}"
        for problem in error.errors(include_url=False, include_input=False)
    ]
    return "; ".join(problems)


def idempotency_key(namespace: str, name: str, manifest_hash: str) -> str:
    """SHA-256 of ``materialize-raw:<namespace>/<name>@<manifest_hash>`` (``spec/metadata-db.md`` 7.2)."""
    return hashlib.sha256(f"{KIND}:{namespace}/{name}@{manifest_hash}".encode()).hexdigest()
