"""The bucket of an S3 server as somebody else sees it: with AWS's own client, past any proxy."""

from __future__ import annotations

import hashlib
from typing import Any

import boto3
from botocore.config import Config

from tests.fakes.object_stores import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server


class Outside:
    """What is in the bucket of ``server``."""

    def __init__(self, server: S3Server) -> None:
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, max_pool_connections=16),
        )

    def objects(self, prefix: str = "") -> dict[str, int]:
        """Bytes by key."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return {each["Key"]: each["Size"] for page in pages for each in page.get("Contents", ())}

    def uploads(self) -> list[str]:
        """The keys of multipart uploads that are neither completed nor given up."""
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=BUCKET)
        return [each["Key"] for page in pages for each in page.get("Uploads", ())]

    def begin_upload(self, key: str) -> None:
        """Send the first part of a large object, as somebody who died then."""
        at = {"Bucket": BUCKET, "Key": key}
        upload = self._client.create_multipart_upload(**at)["UploadId"]
        self._client.upload_part(**at, UploadId=upload, PartNumber=1, Body=b"half a file")

    def read(self, key: str) -> bytes:
        """The whole object."""
        data: bytes = self._client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return data

    def sha256(self, key: str) -> bytes:
        """The checksum of what it holds."""
        return hashlib.sha256(self.read(key)).digest()
