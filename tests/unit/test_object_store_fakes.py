"""The object stores of the tests keep what they are given, and nothing of theirs outlives them."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from urllib.request import urlopen

import pytest

from tests.fakes.object_stores import BUCKET, S3Server, moto, seaweed


@pytest.mark.parametrize("serve", [moto, seaweed])
def test_a_server_has_a_bucket_that_keeps_objects(serve: Callable[[], AbstractContextManager[S3Server]]) -> None:
    with serve() as server:
        path = server.url("x/a").removeprefix("s3://")
        assert path == f"{BUCKET}/x/a"
        with server.files.open_output_stream(path) as out:
            out.write(b"rows")
        assert server.files.open_input_file(path).read() == b"rows"
    with pytest.raises(OSError, match="refused"):
        urlopen(server.endpoint)
