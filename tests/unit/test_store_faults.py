"""What goes wrong between a writer and S3: nothing is there twice, nothing is lost, and no upload is left behind."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from ampd_ray.errors import ConfigError, Handling, ObjectExists, StoreError, StoreUnavailable
from ampd_ray.log import redact
from ampd_ray.store import buckets, objects, s3
from ampd_ray.store.files import Store, open_store
from tests.fakes.bucket import Outside
from tests.fakes.faulty_s3 import Asked, Fault, FaultyS3, faulty_s3
from tests.fakes.object_stores import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server, environment

TARGET = "_/eth/blocks/0190/000000000-00.parquet"
PART_BYTES = 1 << 16
SMALL, LARGE = os.urandom(1000), os.urandom(PART_BYTES + 1000)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Small parts, short pauses, and a scratch directory of the test's own."""
    monkeypatch.setattr(objects, "LARGE_BYTES", PART_BYTES)
    monkeypatch.setattr(objects, "AGAIN_AFTER_SECS", (0.0, 0.0))
    monkeypatch.setattr(s3, "PART_BYTES", PART_BYTES)
    monkeypatch.setattr(s3, "ATTEMPTS", 3)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda self, context: 0.0)
    pause = timedelta(milliseconds=1)
    monkeypatch.setitem(buckets.RETRY, "backoff", {"init_backoff": pause, "max_backoff": pause, "base": 2})
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.fixture
def url(moto: S3Server) -> str:
    return moto.url(f"{uuid.uuid4().hex}/")


Through = Callable[[Callable[[Asked], Fault | None]], tuple[Store, FaultyS3]]


@pytest.fixture
def through(moto: S3Server, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Through]:
    """Call it for the store as seen through a proxy that spoils what it is told to."""

    def build(chosen: Callable[[Asked], Fault | None]) -> tuple[Store, FaultyS3]:
        proxy = held.enter_context(faulty_s3(moto.endpoint, chosen))
        for name, value in environment(proxy.url).items():
            monkeypatch.setenv(name, value)
        return open_store(url), proxy

    with ExitStack() as held:
        yield build


@pytest.fixture
def uploads(moto: S3Server, url: str) -> Callable[[], list[str]]:
    """Call it for the keys of what is unfinished below the store's URL, as seen without the proxy."""
    prefix = url.removeprefix(f"s3://{BUCKET}/")
    outside = Outside(moto)
    return lambda: [key.removeprefix(prefix) for key in outside.uploads() if key.startswith(prefix)]


def staged(store: Store, data: bytes, name: str = "a") -> Path:
    path = store.stage(7, 1, name)
    path.write_bytes(data)
    return path


def first(fault: Fault, method: str, part: str = "", times: int = 1) -> Callable[[Asked], Fault | None]:
    """The first requests of a method whose address holds ``part``."""

    def choose(asked: Asked) -> Fault | None:
        return fault if asked.method == method and part in asked.path and asked.before < times else None

    return choose


@pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.CUT, Fault.LOST, Fault.INTERNAL, Fault.HALF_ANSWER])
def test_a_put_that_goes_wrong_is_there_once(through: Through, fault: Fault) -> None:
    store, proxy = through(first(fault, "PUT"))
    source = staged(store, SMALL)
    meta = store.publish(source, TARGET)
    assert proxy.fired[fault] == 1
    assert not source.exists()
    assert store.read(TARGET) == SMALL
    assert meta == store.head(TARGET)


@pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.LOST, Fault.HALF_ANSWER])
@pytest.mark.parametrize("step", [("POST", "?uploads"), ("PUT", "partNumber=2"), ("POST", "?uploadId")], ids=str)
def test_each_step_of_an_upload_may_go_wrong(
    through: Through, uploads: Callable[[], list[str]], fault: Fault, step: tuple[str, str]
) -> None:
    store, proxy = through(first(fault, *step))
    meta = store.publish(staged(store, LARGE), TARGET)
    assert proxy.fired[fault] == 1
    assert store.read(TARGET) == LARGE
    assert meta == store.head(TARGET)
    assert uploads() == []


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_a_lost_answer_never_hides_another_content(
    through: Through, uploads: Callable[[], list[str]], data: bytes
) -> None:
    store, proxy = through(lambda asked: Fault.LOST if asked.method in ("PUT", "POST") and not asked.before else None)
    store.publish(staged(store, data), TARGET)
    source = staged(store, data[::-1], "b")
    with pytest.raises(ObjectExists, match="other content"):
        store.publish(source, TARGET)
    assert source.exists()
    assert store.read(TARGET) == data
    assert uploads() == []
    assert proxy.fired[Fault.LOST] >= 1


def test_the_scratch_directory_may_be_cleared_away(url: str, moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(moto.endpoint).items():
        monkeypatch.setenv(name, value)
    store = open_store(url)
    shutil.rmtree(staged(store, b"x").parents[4])
    store.publish(staged(store, SMALL), TARGET)
    assert store.read(TARGET) == SMALL


def test_an_upload_that_fails_is_given_up(through: Through, uploads: Callable[[], list[str]]) -> None:
    store, proxy = through(first(Fault.SLOW_DOWN, "PUT", "partNumber=2", times=1000))
    source = staged(store, LARGE)
    with pytest.raises(StoreUnavailable, match=r"S3 is in trouble \(SlowDown\)"):
        store.publish(source, TARGET)
    assert proxy.fired[Fault.SLOW_DOWN] == 9, "three tries of three attempts"
    assert source.exists()
    assert not store.exists(TARGET)
    assert uploads() == []


def test_what_could_not_be_given_up_is_discarded_later(through: Through, uploads: Callable[[], list[str]]) -> None:
    """As after a death: nobody knows of the upload any more."""
    store, proxy = through(
        lambda asked: Fault.SLOW_DOWN if "partNumber" in asked.path or "GET" in asked.method else None
    )
    with pytest.raises(StoreUnavailable):
        store.publish(staged(store, LARGE), TARGET)
    assert set(uploads()) == {TARGET}
    with pytest.raises(StoreUnavailable, match="cannot delete"):
        store.discard(TARGET)
    proxy.chosen = lambda _: None
    store.discard(TARGET.replace("-00", "-0"))
    assert set(uploads()) == {TARGET}, "the uploads of another object stay"
    store.discard(TARGET)
    assert uploads() == []


@pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.LOST, Fault.INTERNAL, Fault.HALF_ANSWER])
def test_reading_is_tried_again(through: Through, fault: Fault) -> None:
    store, proxy = through(first(fault, "GET"))
    store.write(TARGET, LARGE)
    assert store.read(TARGET) == LARGE
    with store.open(TARGET) as file:
        assert file.read() == LARGE
    assert proxy.fired[fault] >= 1
    assert [each.size for each in store.objects(TARGET.rpartition("/")[0])] == [len(LARGE)]


def test_publishing_lists_nothing(through: Through) -> None:
    """A listing would cost the more the more is there."""
    asked: list[Asked] = []
    store, _ = through(asked.append)
    store.publish(staged(store, SMALL), TARGET)
    store.publish(staged(store, LARGE), TARGET + "2")
    assert [each.method for each in asked] == ["PUT", "HEAD", "POST", "PUT", "PUT", "POST", "HEAD"]


# -- what people are told ---------------------------------------------------------------------------------------------


def test_a_store_in_trouble_is_tried_for_a_while(through: Through) -> None:
    store, proxy = through(lambda asked: Fault.SLOW_DOWN)
    with pytest.raises(
        StoreUnavailable, match=r"cannot read s3://.*: S3 is in trouble \(SlowDown\); try later"
    ) as caught:
        store.read(TARGET)
    assert proxy.fired[Fault.SLOW_DOWN] == 1 + buckets.RETRY["max_retries"]
    assert caught.value.handling is Handling.TRANSIENT
    assert caught.value.__suppress_context__, "the client's own error quotes signed addresses"
    assert redact(caught.value.message) == caught.value.message


def test_an_endpoint_that_is_away_is_named(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment("http://127.0.0.1:1").items():
        monkeypatch.setenv(name, value)
    store = open_store(moto.url("x/"))
    for attempt in (store.probe, lambda: store.discard(TARGET)):
        with pytest.raises(
            StoreUnavailable,
            match="check the network, and whichever of AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL,",
        ):
            attempt()


def test_a_missing_bucket_is_no_missing_object(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in moto.env.items():
        monkeypatch.setenv(name, value)
    store = open_store("s3://no-such-bucket/x/")
    for attempt in (store.probe, lambda: store.read(TARGET), lambda: store.publish(staged(store, SMALL), TARGET)):
        with pytest.raises(StoreError, match="there is no bucket no-such-bucket; create it, or correct"):
            attempt()
    with pytest.raises(StoreError, match="no bucket"):
        list(store.objects("_"))
    with pytest.raises(StoreError, match="no bucket"):
        store.publish(staged(store, LARGE, "b"), TARGET)


def test_wrong_credentials_are_told_without_them(seaweed: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**seaweed.env, "AWS_SECRET_ACCESS_KEY": "hunter2"}.items():
        monkeypatch.setenv(name, value)
    store = open_store(seaweed.url("x/"))
    for attempt in (store.probe, lambda: store.read(TARGET), lambda: store.discard(TARGET)):
        with pytest.raises(
            StoreError, match=r"access is denied .* Check the credentials \(AWS_ACCESS_KEY_ID"
        ) as caught:
            attempt()
        assert not isinstance(caught.value, StoreUnavailable)
        assert "hunter2" not in str(caught.value.details) + caught.value.message


def test_a_file_of_authorities_that_is_not_there_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/no/such/file")
    with pytest.raises(ConfigError, match="No such file or directory: '/no/such/file'"):
        open_store(url)


def test_without_credentials_the_variables_are_named(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.endpoint)
    with pytest.raises(StoreError, match=r"access is denied \(there are no credentials\). Check .*AWS_ACCESS_KEY_ID"):
        open_store(moto.url("x/")).read(TARGET)


@pytest.mark.parametrize(
    ("variables", "region"),
    [({"AWS_REGION": "eu-west-3", "AWS_DEFAULT_REGION": "x"}, "eu-west-3"), ({"AWS_DEFAULT_REGION": "x"}, "x")],
    ids=["named", "default"],
)
def test_both_clients_sign_for_the_region_that_the_variables_name(
    moto: S3Server, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], region: str
) -> None:
    for name, value in environment(moto.endpoint).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_REGION")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    bucket = buckets.open_bucket(moto.url("any/"))
    assert bucket.client.config.get("region") == region
    assert bucket.large._client.meta.region_name == region  # type: ignore[attr-defined]


def test_a_profile_gives_the_credentials(seaweed: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    keys = tmp_path / "credentials"
    keys.write_text(f"[blocks]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))
    monkeypatch.setenv("AWS_PROFILE", "blocks")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", seaweed.endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    store = open_store(seaweed.url(f"{uuid.uuid4().hex}/"))
    store.publish(staged(store, SMALL), TARGET)
    assert store.read(TARGET) == SMALL
    store.discard(TARGET)  # where the other client has a word, too
    assert not store.exists(TARGET)
