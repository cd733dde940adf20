"""What object stores answer when they will not, as our errors: the thing, the reason and the way out, no secret.

Their own texts are dumps of requests, with signed addresses in them, so little of one is kept and no cause is chained.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError

from ampd_ray.errors import AmpdError, ConfigError, ObjectMissing, StoreError, StoreFull, StoreUnavailable
from ampd_ray.log import redact

NO_CREDENTIALS: Final = "there are no credentials"
_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>(\w+)</Code>")
_NO_BUCKET: Final = ("NoSuchBucket", "ContainerNotFound")
_DENIED: Final = (401, 403)
_BUSY: Final = (408, 409, 429)
_ELSEWHERE: Final = (301, 307)
_NO_ROOM: Final = 507
_FULL: Final = ("QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "AccountProblem")
_REASON_CHARS: Final = 160


@dataclass(frozen=True, slots=True)
class Kind:
    """What people are told about a kind of object store: its variables; of the endpoints the first one set holds."""

    name: str
    credentials: str
    endpoints: tuple[str, ...]
    region: str | None = None


S3: Final = Kind(
    "S3",
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the role of the machine",
    ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "AWS_REGION",
)
GCS: Final = Kind("GCS", "GOOGLE_APPLICATION_CREDENTIALS, or the service account of the machine", ("GOOGLE_BASE_URL",))
AZURE: Final = Kind(
    "Azure",
    "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, AZURE_CLIENT_ID and its "
    "secret, or the identity of the machine",
    ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
)


@contextlib.contextmanager
def refusals(verb: str, url: str, kind: Kind) -> Iterator[None]:
    """Turn what the two clients raise about the object at ``url`` into our errors; what is there already is none."""
    try:
        yield
    except AlreadyExistsError:
        raise
    except FileNotFoundError as error:
        raise _missing(verb, url, _reason(str(error))) from None
    except (PermissionDeniedError, UnauthenticatedError) as error:
        text = str(error)
        raise _denied(verb, url, kind, NO_CREDENTIALS if NO_CREDENTIALS in text else _reason(text)) from None
    except (BaseError, ValueError) as error:
        text = str(error)
        if "token request" in text:  # to the service that hands a machine's own credentials out
            raise _denied(verb, url, kind, NO_CREDENTIALS) from None
        raise _refused(verb, url, kind, _status(text), _reason(text)) from None
    except ClientError as error:
        code, status = code_of(error), int(error.response["ResponseMetadata"].get("HTTPStatusCode", 0))
        raise _refused(verb, url, kind, status, code) from None
    except NoCredentialsError:
        raise _denied(verb, url, kind, NO_CREDENTIALS) from None
    except BotoCoreError as error:
        raise _refused(verb, url, kind, 0, _reason(str(error))) from None


def code_of(error: ClientError) -> str:
    """S3's own name for what is wrong."""
    return str(error.response.get("Error", {}).get("Code", "")) or "unknown"


def unusable(url: str, kind: Kind, error: BaseError | ValueError | OSError) -> ConfigError:
    """The settings do not suffice to make a client."""
    return ConfigError(
        f"{url}: {_reason(str(error))}. {kind.name} takes its settings from {kind.credentials}.", url=url
    )


def _missing(verb: str, url: str, reason: str) -> AmpdError:
    """Without a bucket every object is missing; only some answers say which of the two it is."""
    if verb != "read" or reason in _NO_BUCKET:
        bucket = urlsplit(url).netloc.partition("@")[0]
        message = f"cannot {verb} {url}: there is no bucket {bucket}; create it, or correct the directory's URL"
        return StoreError(message, url=url)
    return ObjectMissing(f"{url} does not exist", url=url)


def _denied(verb: str, url: str, kind: Kind, reason: str) -> StoreError:
    return StoreError(
        f"cannot {verb} {url}: access is denied ({reason}). Check the credentials ({kind.credentials}) and what they "
        "are allowed in this bucket: to read, write, delete and list objects.",
        url=url,
    )


def _refused(verb: str, url: str, kind: Kind, status: int, reason: str) -> AmpdError:
    if status == 404 or reason in _NO_BUCKET:
        return _missing(verb, url, reason)
    if status in _DENIED:
        return _denied(verb, url, kind, reason)
    if status == _NO_ROOM or reason in _FULL:
        return StoreFull(f"cannot {verb} {url}: {reason}; free some space or raise the quota", url=url)
    if status == 0:
        hint = f"check the network, and whichever of {', '.join(kind.endpoints)} is set"
        return StoreUnavailable(f"cannot {verb} {url}: {kind.name} does not answer ({reason}); {hint}", url=url)
    if status >= 500 or status in _BUSY:
        return StoreUnavailable(f"cannot {verb} {url}: {kind.name} is in trouble ({reason}); try later", url=url)
    hint = f"; set {kind.region} to the region of the bucket" if status in _ELSEWHERE and kind.region else ""
    return StoreError(f"cannot {verb} {url}: {kind.name} refuses it ({reason}){hint}", url=url)


def _status(text: str) -> int:
    found = _STATUS.search(text)
    return int(found[1]) if found else 0


def _reason(text: str) -> str:
    """The code that the store gives, or the status, or the last words of the first line."""
    if code := _CODE.search(text):
        return code[1]
    if status := _status(text):
        return f"status {status}"
    return redact(text.strip().partition("\n")[0].rpartition(" - ")[2])[:_REASON_CHARS]
