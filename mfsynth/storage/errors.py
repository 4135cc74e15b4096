"""What goes wrong in a store: which errors may pass, and all of them told in one clear line.

Every fsspec implementation has an exception tree of its own (botocore.BotoCoreError,
aiohttp.ClientError, google.api_core...), with no common ancestor below `Exception`, which is
what is caught here. KeyboardInterrupt and SystemExit are not.
"""

from __future__ import annotations

import contextlib
import errno
import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from mfsynth.errors import MfsynthError
from mfsynth.storage.credentials import redacted, secrets_of, without_credentials

_T = TypeVar("_T")

# botocore gives a request five attempts, and s3fs a throttled one five times as many. That is
# enough for one request, but not for each of thousands, nor for what botocore does not try again.
_ATTEMPTS = 4


class StoreError(MfsynthError):
    """The store refused or failed an operation; trying again later may help."""


class StoreFullError(StoreError):
    """No space is left in the store; trying again helps once there is."""


class StoreRefusedError(StoreError):
    """The store does not take us, or is no place for a run: trying again is of no use."""


# Of a local path: without the rights, or with a file where a folder should be.
_WRONG_PLACE = (PermissionError, NotADirectoryError, IsADirectoryError)


def with_retries(operation: Callable[[], _T]) -> _T:
    """What `operation` returns, tried again a few times after errors that may pass.

    Args:
        operation: Must be one that may be repeated after a lost answer.
    """
    for attempt in range(1, _ATTEMPTS):
        try:
            return operation()
        except Exception as error:
            if not _may_pass(error):
                raise
            time.sleep(2.0**attempt * random.uniform(0.1, 0.2))
    return operation()


def or_none(operation: Callable[[], _T]) -> _T | None:
    """As `with_retries`, and None if what is asked for isn't there."""
    try:
        return with_retries(operation)
    except (FileNotFoundError, NotADirectoryError) as error:
        if _bucket_is_missing(error):
            raise
        return None


@contextlib.contextmanager
def translated(
    url: str, verb: str, key: str, *, is_local: bool, missing_ok: bool = True
) -> Iterator[None]:
    """Turn what a store raises into one clear line without credentials.

    Args:
        url: The store, with its credentials.
        verb: What is done there, for the message.
        key: What it is done to; `""` for the store as a whole.
        is_local: Whether it is a local folder, where a permission is no matter of credentials.
        missing_ok: Whether a missing object is an error like any other; otherwise it is a
            `FileNotFoundError`.

    Raises:
        FileNotFoundError: There is no such object.
        StoreError: Everything else.
    """
    try:
        yield
    except MfsynthError:
        raise
    except Exception as error:
        shown = without_credentials(url)
        secrets = secrets_of(url)
        told = any(secret in str(link) for link in _chain(error) for secret in secrets)
        # A chained cause would print the credentials again.
        cause = None if told or shown != url else error
        if _bucket_is_missing(error):
            raise no_such_bucket(url) from cause
        if isinstance(error, FileNotFoundError) and not missing_ok:
            raise FileNotFoundError(f"{shown}/{key}") from None
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFullError(
                f"no space left in {shown} to {verb} {key}; free some, or give another place, "
                "and run the same command again: what was stored before is kept"
            ) from error
        message = f"can't {verb} {f'{shown}/{key}'.rstrip('/')}: {reason_of(error, url)}"
        if not is_local and _is_refusal(error):
            raise StoreRefusedError(
                f"{message}; renew the store's credentials or their rights, and run the same "
                "command again: what was stored before is kept"
            ) from cause
        if not is_local and _has_no_credentials(error):
            message += (
                "; give the store's credentials in the environment (AWS_PROFILE, or "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), or in ~/.aws"
            )
        if is_local and isinstance(error, _WRONG_PLACE):
            raise StoreRefusedError(message) from cause
        raise StoreError(message) from cause


def reason_of(error: BaseException, url: str) -> str:
    """What an error of the store at `url` says, in one line and without credentials."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    # Azure's package goes on with the whole answer, and the request's number.
    reason = str(reason).partition("\nRequestId:")[0]
    return redacted(" ".join(reason.split()), url)


def says_it_exists(error: BaseException) -> bool:
    """Whether a create was refused because there is an object of that key."""
    codes = ("PreconditionFailed", "412")
    return isinstance(error, FileExistsError) or _s3_answer(error)[0] in codes


def _may_pass(error: BaseException) -> bool:
    # 409: two conditional writes met, and S3 wants the loser to ask again. Connections that
    # break were tried again often enough below us; GCS and Azure's packages do all of it.
    status = _s3_answer(error)[1]
    return status in (409, 429) or status >= 500


def no_such_bucket(url: str) -> StoreRefusedError:
    """The error of a store whose bucket or container there isn't."""
    shown = without_credentials(url)
    return StoreRefusedError(f"{shown}: there is no such bucket; create it, or give another place")


def _bucket_is_missing(error: BaseException) -> bool:
    if _s3_answer(error)[0] == "NoSuchBucket":
        return True
    return any(getattr(link, "error_code", "") == "ContainerNotFound" for link in _chain(error))


def _is_refusal(error: BaseException) -> bool:
    # A HEAD request is refused without a reason: 400 is S3's status for expired credentials.
    codes = ("InvalidToken", "TokenRefreshRequired", "ExpiredToken", "400")
    if isinstance(error, PermissionError) or _s3_answer(error)[0] in codes:
        return True
    # Of Azure's package.
    return getattr(error, "status_code", None) in (401, 403)


def _has_no_credentials(error: BaseException) -> bool:
    # Of botocore, which isn't imported for this. It may pass: those of a machine come over the net.
    return any(type(link).__name__ == "NoCredentialsError" for link in _chain(error))


def _s3_answer(error: BaseException) -> tuple[str, int]:
    """Code and HTTP status of what an S3 store answered; ("", 0) if it didn't.

    s3fs turns answers into Python's exceptions, but knows those of AWS only, and loses the status.
    """
    for link in _chain(error):
        response = getattr(link, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return str(response.get("Error", {}).get("Code", "")), int(status)
    return "", 0


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__
