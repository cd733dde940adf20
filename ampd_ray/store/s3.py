"""What S3 needs beside the common client: AWS's own search for credentials, and large objects that never replace.

The common client uploads in parts too, but then it replaces what is there, and no one can list what it left behind.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from ampd_ray.config import authorities
from ampd_ray.errors import ConfigError
from ampd_ray.store.refusals import NO_CREDENTIALS, code_of

PART_BYTES: Final = 16 << 20
MOST_PARTS: Final = 10_000
AT_A_TIME: Final = 4  # parts in memory and on their way
ATTEMPTS: Final = 6
CREDENTIALS_LAST: Final = timedelta(minutes=10)  # the session renews those that expire a quarter of an hour before

# Somebody was there first, or is just now; or a repeated request finds the upload completed or given up.
_TAKEN: Final = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "NoSuchUpload"})


class Account:
    """The credentials and the region of this process, as AWS's own tools find them: variables, profile, role."""

    @cached_property
    def session(self) -> Session:
        """Made when it is first needed: it may ask the machine's metadata service."""
        return Session()

    @property
    def region(self) -> str:
        """Where the buckets are; most other makers of S3 do not care. The session does not know ``AWS_REGION``."""
        return str(os.environ.get("AWS_REGION") or self.session.get_config_variable("region") or "us-east-1")

    @property
    def authorities(self) -> str | None:
        """The file that AWS_CA_BUNDLE or the profile names: beside the machine's, who else may certify the server."""
        found: str | None = self.session.get_config_variable("ca_bundle")
        return found

    def __call__(self) -> dict[str, Any]:
        """The credentials of now, for the common client."""
        found = self.session.get_credentials()
        if found is None:
            raise ConfigError(NO_CREDENTIALS)  # quoted by the client, and told in ``refusals``
        keys = found.get_frozen_credentials()
        return {
            "access_key_id": keys.access_key,
            "secret_access_key": keys.secret_key,
            "token": keys.token,
            "expires_at": datetime.now(UTC) + CREDENTIALS_LAST,
        }


class Uploads:
    """Uploads of large objects below ``prefix`` of a bucket."""

    def __init__(self, account: Account, bucket: str, prefix: str, endpoint: str | None) -> None:
        self._account = account
        self._bucket = bucket
        self._prefix = prefix
        self._endpoint = endpoint

    def put(self, path: str, file: Path, size: int) -> str | None:
        """Upload a file as a new object: its tag, or None if the store did not let it be new.

        However this ends, no upload is left, unless the store does not answer: then the sweep's ``abort`` finds it.
        """
        at = self._at(path)
        untidy = True
        try:
            begun = self._client.create_multipart_upload(**at)
            upload = at | {"UploadId": begun["UploadId"]}
            parts = {"Parts": self._send(upload, file, size)}
            done = self._client.complete_multipart_upload(**upload, MultipartUpload=parts, IfNoneMatch="*")
            untidy = begun["ResponseMetadata"].get("RetryAttempts", 0) > 0  # an answer that was lost began one, too
            return str(done["ETag"])
        except ClientError as error:
            if code_of(error) in _TAKEN:
                return None
            raise
        finally:
            if untidy:
                with contextlib.suppress(ClientError, BotoCoreError):
                    self.abort(path)

    def abort(self, path: str) -> None:
        """Give up every unfinished upload of an object."""
        at = self._at(path)
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=at["Bucket"], Prefix=at["Key"])
        for upload in (each for page in pages for each in page.get("Uploads", ())):
            if upload["Key"] == at["Key"]:
                self._abort(at | {"UploadId": upload["UploadId"]})

    def _abort(self, upload: Mapping[str, str]) -> None:
        try:
            self._client.abort_multipart_upload(**upload)
        except ClientError as error:
            if code_of(error) != "NoSuchUpload":
                raise

    def _send(self, upload: Mapping[str, str], file: Path, size: int) -> list[dict[str, Any]]:
        """Send the parts, some at a time; the first that fails ends it."""
        part_bytes = max(PART_BYTES, -(-size // MOST_PARTS))
        numbers = range(1, -(-size // part_bytes) + 1)
        pool = ThreadPoolExecutor(AT_A_TIME)
        try:
            tags = list(pool.map(lambda number: self._part(upload, file, number, part_bytes), numbers))
        finally:
            pool.shutdown(cancel_futures=True)
        return [{"PartNumber": number, "ETag": tag} for number, tag in zip(numbers, tags, strict=True)]

    def _part(self, upload: Mapping[str, str], file: Path, number: int, part_bytes: int) -> str:
        with file.open("rb") as opened:
            opened.seek((number - 1) * part_bytes)
            body = opened.read(part_bytes)
        return str(self._client.upload_part(**upload, PartNumber=number, Body=body)["ETag"])

    def _at(self, path: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}/{path}" if self._prefix else path}

    @cached_property
    def _client(self) -> Any:
        return self._account.session.create_client(
            "s3",
            endpoint_url=self._endpoint,
            region_name=self._account.region,
            verify=self._account.authorities or authorities(),
            config=Config(
                connect_timeout=5,
                read_timeout=60,
                max_pool_connections=32,
                retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
                s3={"addressing_style": "path"},
                # The payload's SHA-256 is signed as it is; not every maker of S3 knows the newer checksums.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
