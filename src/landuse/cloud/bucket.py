"""Objects of a bucket, listed, fetched and written over Cloud Storage's JSON API: verified, repeated, explained.

What is written is read from an open file up to the size that it has then, so that a file that grows or is replaced
meanwhile arrives as it was. STORAGE_EMULATOR_HOST is honoured; with it nobody logs in.
"""

import base64
import contextlib
import functools
import hashlib
import json
import os
import random
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote, unquote, urlsplit

import requests

from landuse.cloud import credentials, remote
from landuse.cloud.accounts import Account, Anonymous, RefusedError
from landuse.cloud.bounded import bounded, object_in
from landuse.cloud.transport import OVERLOADED, Client, shown
from landuse.config.schema import StorageConfig
from landuse.errors import FailureError, UserError
from landuse.files import replacing

T = TypeVar("T")
# Bytes, a multiple of 256 KiB; larger files go in pieces, so that what breaks off goes on where it was.
AT_ONCE = 8 << 20
TIMEOUT_S = 60.0  # of silence
WHOLE_ANSWER_S = 300.0  # and what is sent before it, 8 MB at most
LOGIN_WITHIN_S = 20.0
TOKEN_LASTS_S = 1800.0  # of the hour, or less where a machine hands out one that it had kept


class PassingError(Exception):
    """What may go better in a moment."""


class UnreachableError(FailureError):
    """What might have passed has not."""


class Bucket:
    """The objects below ``gs://bucket/prefix``.

    Args:
        url: where.
        patience_s: for how long what may pass is tried again.

    Raises:
        UserError: the address is none of a bucket, or there is no account. From every method: the account's login is
            refused for good.
    """

    def __init__(self, url: str, patience_s: float = 60.0) -> None:
        self.place, self.patience_s = remote.find(StorageConfig(url=url), Path()), patience_s
        self.url = self.place.url
        self._account: Account = (
            Anonymous("nobody (STORAGE_EMULATOR_HOST)")
            if os.environ.get("STORAGE_EMULATOR_HOST")
            else credentials.find(self.place)
        )
        self._token_ends = 0.0
        self._session = requests.Session()
        weakref.finalize(self, self._session.close)

    def sizes(self) -> dict[str, int]:
        """Bytes of each object, by its name below the prefix.

        Raises:
            FailureError: the bucket cannot be listed.
        """
        return self._patiently(self._sizes)

    def fetch(self, name: str, path: Path) -> None:
        """Write an object to a file, which is whole and has the object's checksum or is not there.

        An object that was composed of others has no MD5: of that one the size is compared and nothing more.

        Raises:
            FailureError: it cannot be had.
        """
        self._patiently(lambda: self._fetch(name, path))

    def store(self, file: BinaryIO, name: str) -> None:
        """Write what an open file holds now to an object, which is then whole and has the file's checksum.

        Raises:
            FailureError: it did not arrive: refused, or the file became shorter meanwhile.
            UnreachableError: nobody takes it.
        """
        size = os.fstat(file.fileno()).st_size
        if size <= AT_ONCE:
            self._patiently(lambda: self._store_at_once(file, size, name))
            return
        checksum = _md5(_pieces(file, size))
        upload = self._patiently(lambda: self._begin(name, size, checksum))
        at = 0
        while at < size:
            at = self._patiently(functools.partial(self._store_piece, upload, file, at, size, checksum))

    def _sizes(self) -> dict[str, int]:
        prefix = f"{self.place.prefix}/" if self.place.prefix else ""
        found: dict[str, int] = {}
        query = {"prefix": prefix, "fields": "items(name,size),nextPageToken"}
        while True:
            answer = _json(self._ask("GET", self._api("o"), params=query))
            try:
                found |= {item["name"].removeprefix(prefix): int(item["size"]) for item in answer.get("items", [])}
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise PassingError("its listing is of a form that is not understood") from error
            if not (page := answer.get("nextPageToken")):
                return found
            if not isinstance(page, str) or page == query.get("pageToken"):
                raise PassingError("its listing does not come to an end")
            query["pageToken"] = page

    def _fetch(self, name: str, path: Path) -> None:
        address = self._api(f"o/{quote(self._full(name), safe='')}")
        described = _json(self._ask("GET", address))
        content = self._ask("GET", address, params={"alt": "media"}, stream=True)
        digest, size = hashlib.md5(usedforsecurity=False), 0
        with replacing(path) as aside:
            try:
                with aside.open("wb") as file:
                    for piece in content.iter_content(1 << 20):
                        digest.update(piece)
                        size += file.write(piece)
            except requests.RequestException as error:
                raise PassingError(f"it breaks off ({shown(error)})") from error
            checksum = described.get("md5Hash")
            if checksum is None and str(size) != str(described.get("size")):
                raise PassingError("what arrives has another size")
            if checksum is not None and checksum != base64.b64encode(digest.digest()).decode():
                raise PassingError("what arrives has another checksum")

    def _store_at_once(self, file: BinaryIO, size: int, name: str) -> None:
        data = _read(file, size, 0)
        checksum = _md5([data])
        boundary = hashlib.sha256(data).hexdigest()
        head = json.dumps({"name": self._full(name), "md5Hash": checksum}).encode()
        body = b"".join(
            (
                f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode(), head,
                f"\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n".encode(), data,
                f"\r\n--{boundary}--\r\n".encode(),
            )
        )  # fmt: skip
        kind = {"Content-Type": f"multipart/related; boundary={boundary}"}
        answer = self._ask("POST", self._upload_api(), params={"uploadType": "multipart"}, data=body, headers=kind)
        _require(answer, checksum)

    def _begin(self, name: str, size: int, checksum: str) -> str:
        about = {"name": self._full(name), "md5Hash": checksum}
        told = {"X-Upload-Content-Length": str(size), "X-Upload-Content-Type": "application/octet-stream"}
        query = {"uploadType": "resumable", "name": self._full(name)}
        answer = self._ask("POST", self._upload_api(), params=query, json=about, headers=told)
        if not answer.headers.get("Location"):
            raise PassingError("its answer does not say where an upload goes")
        return answer.headers["Location"]

    def _store_piece(self, upload: str, file: BinaryIO, at: int, size: int, checksum: str) -> int:
        """Send the next piece; how much has arrived then. After a failure the server is asked first."""
        piece = _read(file, min(AT_ONCE, size - at), at)
        if len(piece) < min(AT_ONCE, size - at):
            raise FailureError("The file became shorter while it was copied.")
        told = {"Content-Range": f"bytes {at}-{at + len(piece) - 1}/{size}"}
        try:
            answer = self._ask("PUT", upload, data=piece, headers=told)
        except PassingError:
            time.sleep(0.2)
            answer = self._ask("PUT", upload, headers={"Content-Range": f"bytes */{size}"})
        if answer.status_code in (200, 201):
            _require(answer, checksum)
            return size
        arrived = answer.headers.get("Range", "").rpartition("-")[2]
        if not (arrived.isascii() and arrived.isdigit() and at < int(arrived) + 1 < size):
            raise PassingError("an upload does not go on")
        return int(arrived) + 1

    def _patiently(self, work: Callable[[], T]) -> T:
        """Work again, after pauses that double, for as long as it fails in a way that may pass."""
        ends, pause = time.monotonic() + self.patience_s, 0.2
        while True:
            try:
                return work()
            except PassingError as error:
                if time.monotonic() + pause > ends:
                    raise UnreachableError(f"{self.url} cannot be used for now: {error}.") from error
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, 10.0)

    def _ask(self, verb: str, url: str, **arguments: Any) -> requests.Response:
        """One request; an answer that is no success is raised. 308 is how far an upload has come."""
        self._log_in()
        headers = arguments.pop("headers", {}) | self._account.headers
        try:
            is_content = arguments.pop("stream", False)  # of a file: as large and as long as it takes
            ask = functools.partial(
                self._session.request, verb, url, headers=headers, timeout=TIMEOUT_S, allow_redirects=False,
                stream=True, **arguments,
            )  # fmt: skip
            answer = ask() if is_content else bounded(ask, WHOLE_ANSWER_S)
        except requests.RequestException as error:
            raise PassingError(f"no answer ({shown(error)})") from error
        if 200 <= answer.status_code < 300 or (verb == "PUT" and answer.status_code == 308):
            return answer
        if answer.status_code < 400:
            raise PassingError(f"it answers {answer.status_code}, as a proxy or a captive portal does")
        if answer.status_code == 401:
            self._token_ends = 0.0
        if answer.status_code in (401, 408, *OVERLOADED):
            raise PassingError(f"it answers {answer.status_code}")
        raise FailureError(self._refused(answer))

    def _refused(self, answer: requests.Response) -> str:
        thing = urlsplit(answer.url).path.partition("/o/")[2] if answer.request.method == "GET" else ""
        said, bucket, member = "", f"gs://{self.place.bucket}", self._account.member
        with contextlib.suppress(ValueError, TypeError, KeyError):
            said = f" ({shown(answer.json()['error']['message']).rstrip('.')})"
        if answer.status_code == 403:
            grant = f"gcloud storage buckets add-iam-policy-binding {bucket} --member={member}"
            return f"{self._account.name} may not use {self.url}{said}: '{grant} --role=roles/storage.objectUser'."
        if answer.status_code == 404:
            if thing:
                return f"{bucket}/{unquote(thing)} is gone from the bucket."
            return f"There is no bucket {bucket}, or what is asked for is gone from it: make it or correct the address."
        return f"{self.url} is refused with {answer.status_code}{said}."

    def _log_in(self) -> None:
        if time.monotonic() < self._token_ends:
            return
        try:
            self._account.login(Client(LOGIN_WITHIN_S))
        except RefusedError:
            raise
        except UserError as error:  # a server that does not answer now, for example
            raise PassingError(str(error).rstrip(".")) from error
        self._token_ends = time.monotonic() + TOKEN_LASTS_S

    def _full(self, name: str) -> str:
        return f"{self.place.prefix}/{name}".lstrip("/")

    def _api(self, path: str) -> str:
        return f"{self.place.endpoint}/storage/v1/b/{self.place.bucket}/{path}"

    def _upload_api(self) -> str:
        return f"{self.place.endpoint}/upload/storage/v1/b/{self.place.bucket}/o"


def _json(answer: requests.Response) -> dict[str, Any]:
    try:
        return object_in(answer)
    except ValueError as error:  # the page of a proxy or a captive portal, for example
        raise PassingError("its answer is no JSON object") from error


def _require(answer: requests.Response, checksum: str) -> None:
    if _json(answer).get("md5Hash") != checksum:
        raise PassingError("what has arrived has another checksum")


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    for at in range(0, size, AT_ONCE):
        yield _read(file, min(AT_ONCE, size - at), at)


def _read(file: BinaryIO, size: int, at: int) -> bytes:
    file.seek(at)
    return file.read(size)


def _md5(pieces: Any) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for piece in pieces:
        digest.update(piece)
    return base64.b64encode(digest.digest()).decode()
