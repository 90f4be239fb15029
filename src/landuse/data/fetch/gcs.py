"""gs://bucket/object, over Cloud Storage's HTTP address: resumed, retried and explained as any other download.

A public object needs no account and no package of Google's. Where an object is not public, the account is the one that
DVC and gcsfs would use; its login needs the extra "cloud". STORAGE_EMULATOR_HOST is honoured.
"""

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from landuse.cloud import credentials, remote
from landuse.cloud.remote import Remote
from landuse.cloud.transport import Client
from landuse.config.schema import StorageConfig
from landuse.data.fetch.failures import FetchError, of_network
from landuse.data.fetch.places import Login, Place
from landuse.errors import UserError

if TYPE_CHECKING:
    from requests import PreparedRequest


def find(url: str, timeout_s: float) -> Place:
    """The request that downloads the object."""
    bucket, _, name = url.removeprefix("gs://").partition("/")
    place = remote.find(StorageConfig(url=f"gs://{bucket}"), Path())
    return Place(
        f"{place.endpoint}/{bucket}/{quote(name)}",  # the JSON API names no ETag of the form that If-Range wants
        log_in=lambda: _log_in(place, timeout_s),
        missing=lambda: _missing(place, name, timeout_s),
        refusals={
            status: FetchError(
                f"the account of this machine may not read it ({status})",
                f"whoever administers the bucket grants roles/storage.objectViewer on gs://{bucket}, or run "
                f"'python -m landuse.storage storage.url=gs://{bucket}', which says more",
            )
            for status in (401, 403)
        },
    )


def _log_in(place: Remote, timeout_s: float) -> Login:
    """The token of the account of this machine.

    Raises:
        FetchError: there is no account, or it cannot log in.
    """
    try:
        account = credentials.find(place)
        account.login(Client(timeout_s))
    except UserError as error:
        cause = f"it is not open to everybody, and logging in fails ({str(error).rstrip('.')})"
        raise FetchError(cause, "log in") from error
    except ImportError as error:
        cure = "install the extra 'cloud' (make setup), which logs in"
        raise FetchError("it is not open to everybody", cure) from error

    def add(request: "PreparedRequest") -> "PreparedRequest":
        request.headers.update(account.headers)
        return request

    return add


def _missing(place: Remote, name: str, timeout_s: float) -> FetchError:
    """Whether the bucket or the object is what there is not."""
    import requests

    api = f"{place.endpoint}/storage/v1/b/{place.bucket}"
    try:
        status = requests.get(api, params={"fields": "kind"}, timeout=timeout_s).status_code
    except requests.RequestException as error:
        return of_network(error, api, timeout_s)
    if status == 404:
        return FetchError(f"there is no bucket {place.bucket}", "correct the address", is_final=True)
    return FetchError(f"the bucket {place.bucket} has no object {name}", "correct the address", is_final=True)
