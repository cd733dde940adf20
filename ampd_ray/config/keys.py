"""Every configuration key: Amp's, so that one file serves both systems, and ours in ``[ampd_ray]``.

Types, bounds and defaults of ``spec/metadata-db.md`` 9.2. Durations are seconds. The text below a key is its entry in
``docs/reference/configuration.md`` (``make docs``). A key without one is Amp's: valid, validated, and without effect.
"""

from __future__ import annotations

import ipaddress
import math
import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    SecretStr,
)

from ampd_ray.errors import ConfigError

_WORD = r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?"
LABEL = re.compile(rf"(?:[a-zA-Z0-9][a-zA-Z0-9.-]*/)?{_WORD}")
LABEL_VALUES = re.compile(rf"!?(?:{_WORD}|in\({_WORD}(?:, ?{_WORD})*\))|")
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


def _own_resources(value: dict[str, float]) -> dict[str, float]:
    if {"CPU", "GPU", "memory", "object_store_memory"} & value.keys():
        raise ValueError("expected custom resources; CPUs are extractor_cpus, memory is extractor_memory_bytes")
    return value


def _label_selector(value: dict[str, str]) -> dict[str, str]:
    """What Ray would refuse, each time that it is asked for an extractor."""
    for label, wanted in value.items():
        if not (LABEL.fullmatch(label) and LABEL_VALUES.fullmatch(wanted)):
            raise ValueError('expected labels such as { "ray.io/market-type" = "spot" }, or "!spot", "in(a, b)"')
    return value


def _clamped(value: float) -> float:
    return min(1.0, max(0.0, value))


Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Period = Annotated[float, Field(gt=0, allow_inf_nan=False)]  # seconds, of something that repeats or has to end
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0.0001, allow_inf_nan=False)]  # of a resource of Ray's, which counts no finer
Resources = Annotated[dict[str, Amount], AfterValidator(_own_resources)]
Labels = Annotated[dict[str, str], AfterValidator(_label_selector)]
Address = Annotated[str, AfterValidator(_address)]
Codec = Annotated[Compression, BeforeValidator(_compression)]
Overflow = Annotated[Fraction, BeforeValidator(_fraction), PlainSerializer(str)]
PostgresUrl = Annotated[SecretStr, AfterValidator(_postgres_url)]
Texts = Annotated[tuple[str, ...], Field(strict=False)]


class Table(BaseModel):
    """A table of the file: frozen, strict about types, closed to unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", hide_input_in_errors=True)

    def __getstate__(self) -> dict[Any, Any]:
        """Refuse to be pickled with a secret: whoever pickles settings is about to hand them to Ray."""
        for name, value in self:
            if isinstance(value, SecretStr):
                raise TypeError(f"{type(self).__name__}.{name} is a secret and stays in its process; seal the settings")
        return super().__getstate__()


class MetadataDb(Table):
    """``[metadata_db]``; ``url`` is None only in solo mode, which brings its own Postgres."""

    url: PostgresUrl | None = None
    """The database, `postgresql://user:password@host:port/name`, by TLS if elsewhere; solo mode has one. A secret."""
    pool_size: Positive = 10
    """Most connections of a worker for its own work."""
    min_connections: Positive = Field(default_factory=lambda known: math.ceil(known.get("pool_size", 10) / 4))
    """Connections kept open; by default a quarter of `pool_size`."""
    max_lifetime_secs: Positive = 1800
    """Age at which a connection is replaced."""
    idle_timeout_secs: Positive = 600
    """Idle time after which a connection beyond `min_connections` is closed."""
    auto_migrate: bool = True
    """Let workers make the tables; else `ampd migrate` must have been run."""

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
    """Delete files that a reorg or a repair replaced. Not set, ours does so and Amp does not."""
    min_interval: Seconds = 30.0
    """Pause between two sweeps of a job that runs."""
    deletion_lock_duration: Seconds = 1800.0
    """How long a replaced file stays, for readers that still have it open."""

    @property
    def collects(self) -> bool:
        """True unless it was switched off."""
        return self.active or "active" not in self.model_fields_set


class Writer(Table):
    """``[writer]``: Parquet files and when they are committed."""

    compression: Codec = Compression("zstd", 1)
    """`zstd`, `zstd(1)` to `zstd(22)`, `lz4`, `gzip`, `brotli`, `snappy` or `uncompressed`."""
    bloom_filters: bool = False
    """Write Parquet bloom filters."""
    cache_size_mb: Count = 1024
    max_row_group_mb: Positive = 512
    """Arrow bytes of a row group in MiB; 64 at most, for memory's sake."""
    segment_flush_interval_secs: Period = 600.0
    """Age at which an open file is committed, however small it is."""
    overflow: Overflow = Fraction(1)
    bytes: Count = 2147483648
    """Size at which a file is committed; 0: no limit. A backfill's files are smaller: 256 MiB."""
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
    """Workers of one group take over each other's jobs; by default those of a host and data directory."""
    takeover: bool = True
    """Take over jobs of dead or drained peers; in solo mode false."""
    max_jobs: Positive | None = None
    """A worker that runs so many jobs takes none over."""
    connect_timeout_secs: Seconds = 60.0
    """How long a worker waits for its database when it starts."""
    node_lock_timeout_secs: Seconds = 60.0
    """How long a worker waits for its name to become free when it starts."""
    drain_timeout_secs: Seconds = 30.0
    """To commit what is open after SIGTERM; the last third is for dropping what cannot be."""
    reconcile_interval_secs: Period = 60.0
    """How often a worker compares its jobs with the database, whatever it was notified of."""
    lease_ttl_secs: Annotated[float, Field(ge=3, allow_inf_nan=False)] = 4.0
    """How long a lease lives without a renewal; three renewals, one a second, must fit."""
    retry_max_secs: Period = 300.0
    """Longest pause before a failed job is tried again."""
    retry_max_attempts: Count = 20
    """Failed runs in a row after which nobody tries a job again."""
    address: str | None = None
    """Ray cluster to join, `auto` for the one on this machine; without it a worker starts a Ray of its own."""
    insecure_ray: bool = False
    """Join a Ray that asks nobody for a token, though others than this machine reach it."""
    extractors: Positive | None = None
    """Most extractors of a worker at a time; by default 64 in a cluster, else by its CPUs."""
    min_extractors: Count = 1
    """Those that a worker in a cluster keeps when there is no work, after the first job."""
    extractor_idle_secs: Period = 60.0
    """How long a worker in a cluster keeps extractors and writers that it has no need of."""
    extractor_cpus: Amount = 1.0
    """CPUs of the cluster that an extractor takes; the first one of a worker takes none."""
    extractor_memory_bytes: Positive | None = None
    """Memory of the cluster that an extractor takes; by default Ray does not count it."""
    extractor_resources: Resources = {}
    """Resources that a Ray node must have for extractors, as in `{ extract = 0.001 }`, but for a worker's first."""
    extractor_labels: Labels = {}
    """Labels that a Ray node must have for extractors, as in `{ "ray.io/market-type" = "spot" }`; same exception."""
    writers: Positive | None = None
    """Most writers of a worker at a time; by default one for every four CPUs, as stable Ray nodes have room."""
    writer_cpus: Amount = 1.0
    """CPUs of a stable Ray node that a writer takes; the first one of a worker takes none."""
    spot_notice: Literal["auto", "off", "aws", "gcp", "azure"] = "auto"
    """Whose metadata service says that a machine is taken away; `auto`: that of the cloud that it is in, if any."""
    memory_bytes: Positive | None = None
    """Arrow bytes extracted and not yet appended to a file, per job; by default 64 MiB an extractor, 256 at least."""
    quarantine: bool = True
    """Set a block aside that no provider delivers correctly; else it ends its job."""
    verify_unsupported: Literal["write", "fail"] = "write"
    """What can be verified only in part, as on most rollups: `write` it, or `fail` the job."""
    networks: dict[str, Count] = {}
    """Chain id by network name, which its providers must report; known names need none."""


class Settings(Table):
    """The whole configuration; made by :func:`ampd_ray.config.load_settings` only. :func:`seal` it to send it.

    A directory is an absolute path if it is local, else a URL with a trailing slash.
    """

    _file: Path | None = PrivateAttr(default=None)

    data_dir: str
    """Where the Parquet files are: a directory, or a URL such as `s3://bucket/prefix`; so the next two."""
    providers_dir: str
    """Where the provider files are."""
    manifests_dir: str
    """Where the manifests are."""
    poll_interval_secs: Period = 1.0
    """How often to look for a new head."""
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

    def model_post_init(self, context: Any) -> None:
        """Keep which file was read."""
        self._file = context

    @property
    def file(self) -> Path | None:
        """The configuration file that was read, if any."""
        return self._file
