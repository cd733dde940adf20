"""Every configuration key: Amp's, so that one file serves both systems, and ours in ``[ampd_ray]``.

Types, bounds and defaults of ``spec/metadata-db.md`` 9.2. Durations are seconds. Keys that this package does not
use are valid and validated all the same.
"""

from __future__ import annotations

import ipaddress
import math
import re
from fractions import Fraction
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, SecretStr

from ampd_ray.errors import ConfigError

PARQUET_CODECS = ("zstd", "lz4", "gzip", "brotli", "snappy", "uncompressed")


class Compression(NamedTuple):
    """A Parquet codec as pyarrow names it, ``none`` for uncompressed, and its level where it has one."""

    codec: str
    level: int | None


def _compression(value: Any) -> Compression:
    if isinstance(value, Compression):
        return value
    found = re.fullmatch(r"(\w+?)(?:\((\d+)\))?", value.strip().lower()) if isinstance(value, str) else None
    codec, level = (found[1], found[2]) if found else ("", None)
    if codec not in PARQUET_CODECS or (level and (codec != "zstd" or not 1 <= int(level) <= 22)):
        raise ValueError("expected one of zstd, zstd(1..22), lz4, gzip, brotli, snappy, uncompressed")
    if codec == "zstd":
        return Compression("zstd", int(level or 1))
    return Compression("none" if codec == "uncompressed" else codec, None)


def _fraction(value: Any) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Fraction):
        raise ValueError('expected a positive number or a text "n/d"')  # noqa: TRY004 - pydantic reports ValueErrors
    try:
        number = Fraction(value)
    except (ValueError, OverflowError, ZeroDivisionError):
        number = Fraction(0)
    if number <= 0:
        raise ValueError('expected a positive number or a text "n/d"')
    return number


def _address(value: str) -> str:
    host, _, port = value.rpartition(":")
    try:
        ipaddress.ip_address(host[1:-1] if host.startswith("[") else host)
        good = port.isascii() and port.isdigit() and int(port) <= 65535
    except ValueError:
        good = False
    if not good:
        raise ValueError("expected an address such as 127.0.0.1:1610 or [::1]:1610")
    return value


def _postgres_url(value: SecretStr) -> SecretStr:
    """Catch what libpq would read otherwise than it was meant, and then show in its messages."""
    found = re.fullmatch(r"postgres(?:ql)?://([^/?#]*)([^?]*).*", value.get_secret_value(), re.DOTALL)
    if not found:
        raise ValueError("expected a URL such as postgresql://user:password@host:5432/database")
    authority, path = found.groups()
    if "@" in path or authority.count("@") > 1:
        raise ValueError("expected @ / ? # in the user or the password to be written %40 %2F %3F %23")
    for place in authority.rpartition("@")[2].split(","):
        if not re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(:\d{0,5})?", place):
            raise ValueError("expected host:port, the port a number")
    return value


def _clamped(value: float) -> float:
    return min(1.0, max(0.0, value))


Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Period = Annotated[float, Field(gt=0, allow_inf_nan=False)]  # seconds, of something that repeats or has to end
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Address = Annotated[str, AfterValidator(_address)]
Codec = Annotated[Compression, BeforeValidator(_compression)]
Overflow = Annotated[Fraction, BeforeValidator(_fraction), PlainSerializer(str)]
PostgresUrl = Annotated[SecretStr, AfterValidator(_postgres_url)]
Texts = Annotated[tuple[str, ...], Field(strict=False)]


class Table(BaseModel):
    """A table of the file: frozen, strict about types, closed to unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", hide_input_in_errors=True)


class MetadataDb(Table):
    """``[metadata_db]``; ``url`` is None only in solo mode, which brings its own Postgres."""

    url: PostgresUrl | None = None
    pool_size: Positive = 10
    min_connections: Positive = Field(default_factory=lambda known: math.ceil(known.get("pool_size", 10) / 4))
    max_lifetime_secs: Positive = 1800
    idle_timeout_secs: Positive = 600
    auto_migrate: bool = True

    def dsn(self) -> str:
        """The address with its secrets: for a connection, never for a log."""
        if self.url is None:
            raise ConfigError("metadata_db.url is not set; set it in [metadata_db] or as AMP_CONFIG_METADATA_DB_URL")
        return self.url.get_secret_value()


class Compactor(Table):
    """``[writer.compactor]``; ``max_eager_generation`` stands in Amp's sample and is read by nobody."""

    active: bool = False
    metadata_concurrency: Positive = 2
    write_concurrency: Positive = 2
    min_interval: Seconds = 1.0
    cooldown_duration: Seconds = 1024.0
    overflow: Overflow = Fraction(1)
    bytes: Count = 0
    rows: Count = 0
    max_eager_generation: int | None = None


class Collector(Table):
    """``[writer.collector]``: what becomes of files that a reorg replaced.

    Amp's default for ``active`` is false, and then they are kept for ever (``spec/data.md`` 11, 21 and 24). Ours
    deletes them unless the file says ``active = false``.
    """

    active: bool = False
    min_interval: Seconds = 30.0
    deletion_lock_duration: Seconds = 1800.0

    @property
    def collects(self) -> bool:
        """True unless it was switched off."""
        return self.active or "active" not in self.model_fields_set


class Writer(Table):
    """``[writer]``; ``bytes`` and ``rows`` bound a segment, 0 means no limit."""

    compression: Codec = Compression("zstd", 1)
    bloom_filters: bool = False
    cache_size_mb: Count = 1024
    max_row_group_mb: Positive = 512
    segment_flush_interval_secs: Period = 600.0
    overflow: Overflow = Fraction(1)
    bytes: Count = 2147483648
    rows: Count = 0
    compactor: Compactor = Compactor()
    collector: Collector = Collector()


class OpenTelemetry(Table):
    """``[opentelemetry]``; URLs are used verbatim, and may hold a key."""

    metrics_url: str | None = Field(default=None, repr=False)
    trace_url: str | None = Field(default=None, repr=False)
    metrics_export_interval_secs: Period = 60.0
    trace_ratio: Annotated[float, Field(allow_inf_nan=False), AfterValidator(_clamped)] = 1.0


class Kafka(Table):
    """``[worker_events.kafka]``."""

    brokers: Annotated[Texts, Field(min_length=1, repr=False)]
    topic: Annotated[str, Field(min_length=1)] = "amp.worker.events"
    partitions: Positive = 16
    sasl_mechanism: Annotated[str, Field(pattern="^(PLAIN|SCRAM-SHA-256|SCRAM-SHA-512)$")] | None = None
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    tls_enabled: bool = False


class WorkerEvents(Table):
    """``[worker_events]``."""

    enabled: bool = False
    progress_interval: Period = 10.0
    kafka: Kafka | None = None


class AmpdRay(Table):
    """``[ampd_ray]``: what Amp does not know."""

    failover_group: Annotated[str, Field(min_length=1)]
    takeover: bool = True
    max_jobs: Positive | None = None  # a node that runs so many takes none over; none: no limit
    connect_timeout_secs: Seconds = 60.0  # for a database that is coming up when a worker starts
    node_lock_timeout_secs: Seconds = 60.0
    drain_timeout_secs: Seconds = 30.0
    reconcile_interval_secs: Period = 60.0
    lease_ttl_secs: Annotated[float, Field(ge=3, allow_inf_nan=False)] = 4.0  # three renewals, one a second
    retry_max_secs: Period = 300.0
    retry_max_attempts: Count = 20
    address: str | None = None  # the Ray cluster to join, "auto" for the one on this machine, none for an own one
    extractors: Positive | None = None  # upper bound of extractor actors; none: by the cluster's CPUs
    memory_bytes: Positive = 256 * 1024 * 1024  # Arrow bytes extracted and not yet appended, per job
    quarantine: bool = True  # set a block aside that no provider delivers correctly; else it ends its job
    # "fail": a job that verifies ends at a block that can only be verified in part, as most rollups have them
    verify_unsupported: Literal["write", "fail"] = "write"
    networks: dict[str, Count] = {}  # network name → chain id that its providers must report


class Settings(Table):
    """The whole configuration; made by :func:`ampd_ray.config.load_settings` only, and small enough to pickle.

    A directory is an absolute path if it is local, else a URL with a trailing slash.
    """

    data_dir: str
    providers_dir: str
    manifests_dir: str
    poll_interval_secs: Period = 1.0
    metadata_db: MetadataDb = MetadataDb()
    writer: Writer = Writer()
    opentelemetry: OpenTelemetry = OpenTelemetry()
    worker_events: WorkerEvents = WorkerEvents()
    admin_api_addr: Address = "0.0.0.0:1610"
    flight_addr: Address = "0.0.0.0:1602"
    jsonl_addr: Address = "0.0.0.0:1603"
    microbatch_max_interval: Count = 100_000
    server_microbatch_max_interval: Count = 1000
    keep_alive_interval: Count = 30
    max_mem_mb: Count = 0
    query_max_mem_mb: Count = 0
    spill_location: Texts = ()
    ampd_ray: AmpdRay
