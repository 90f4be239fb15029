"""May this account read and write this bucket? The questions that DVC would ask, and what the answers mean."""

import importlib.util
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from landuse.cloud import credentials
from landuse.cloud import remote as remotes
from landuse.cloud.accounts import Account, Anonymous
from landuse.cloud.remote import GOOGLE, Remote
from landuse.cloud.transport import Answer, Client, shown
from landuse.config.schema import StorageConfig
from landuse.errors import UserError

TOTAL_S = 1.75  # of the process up to its answer; ending it takes the rest of two seconds
SHORTEST_S, LONGEST_S = 0.6, 1.5  # of the network alone
READ = ("storage.objects.get", "storage.objects.list")
WRITE = ("storage.objects.create",)
VIEWER, USER = "roles/storage.objectViewer", "roles/storage.objectUser"
FOLDERS_NAMED = 5


@dataclass(frozen=True)
class Report:
    """What is in use, and what may be done."""

    remote: Remote
    account: Account
    reading: str
    writing: str
    content: str

    def lines(self) -> list[str]:
        """For people; one fact a line."""
        server = "" if self.remote.endpoint == GOOGLE else f" at {self.remote.endpoint}"
        who = (
            self.account.source
            if isinstance(self.account, Anonymous)
            else f"{self.account.name} ({self.account.source})"
        )
        facts = {
            "bucket": f"{self.remote.url}{server} ({self.remote.label})",
            "account": who,
            "reading": self.reading,
            "writing": self.writing,
            "content": self.content,
        }
        return [f"{name:<12}{fact}" for name, fact in facts.items()]


def check(config: StorageConfig, folder: Path) -> Report:
    """Look at the place that ``config`` means, from ``folder``.

    Raises:
        UserError: something is missing, wrong or forbidden.
    """
    _require_packages(with_dvc=config.url is None)
    remote = remotes.find(config, folder)
    account = credentials.find(remote)
    client = Client(_seconds(config))
    client.side_by_side(lambda: account.login(client))
    bucket = _Bucket(client, remote, account)
    found, allowed, top = client.side_by_side(bucket.prefix, bucket.permissions, bucket.top)
    listing = _listing(remote, account, found, config.needs)
    granted = _granted(allowed)
    return Report(
        remote,
        account,
        _reading(remote, account, granted, config.needs),
        _writing(remote, account, granted, config.needs),
        _content(remote, listing, top.json() or {}, config.new_prefix),
    )


class _Bucket:
    """The three questions; none depends on another's answer, so they are asked at the same time."""

    def __init__(self, client: Client, remote: Remote, account: Account) -> None:
        self._client, self._headers, self._prefix = client, account.headers, remote.prefix
        self._address = f"{remote.endpoint}/storage/v1/b/{quote(remote.bucket, safe='')}"

    def prefix(self) -> Answer:
        """Is there an object below the prefix?"""
        query = {"maxResults": 1, "fields": "items/name,nextPageToken"}
        return self._get("o", query | ({"prefix": f"{self._prefix}/"} if self._prefix else {}))

    def permissions(self) -> Answer:
        """Which of the permissions that DVC needs are granted on the bucket?"""
        return self._get("iam/testPermissions", {"permissions": [*READ, *WRITE]})

    def top(self) -> Answer:
        """Which folders has the bucket?"""
        return self._get("o", {"delimiter": "/", "maxResults": 100, "fields": "prefixes,items/name"})

    def _get(self, path: str, query: dict[str, Any]) -> Answer:
        return self._client(f"{self._address}/{path}?{urlencode(query, doseq=True)}", headers=self._headers)


def _require_packages(with_dvc: bool) -> None:
    needed = ["google.auth", *(("dvc", "dvc_gs", "gcsfs", "configobj", "platformdirs") if with_dvc else ())]
    missing = [name for name in needed if not _is_installed(name)]
    if missing:
        cure = "in the project's folder, run 'make setup' or pip install -e '.[cloud]'"
        raise UserError(f"The cloud extra is not installed (missing: {', '.join(missing)}): {cure}.")


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # not even its parent package
        return False


def _seconds(config: StorageConfig) -> float:
    """How long the network may take, so that the answer comes two seconds after the process began.

    The processor time so far stands for the time since then: up to here the process has waited for nothing.
    """
    if config.timeout_s is not None:
        return config.timeout_s
    return min(LONGEST_S, max(SHORTEST_S, TOTAL_S - time.process_time()))


def _listing(remote: Remote, account: Account, answer: Answer, needs: str) -> dict[str, Any]:
    """What the listing says where it is one.

    Raises:
        UserError: it is anything else.
    """
    content = answer.json()
    if answer.status == 200 and content is not None:
        return content
    error = (content or {}).get("error")
    message = shown(error.get("message", "")) if isinstance(error, dict) else ""
    said = f" (it says: {message.rstrip('.')})" if message else ""
    where = remote.endpoint.partition("://")[2]
    if answer.status == 404 and (content is not None or not answer.data):  # else some other server's page
        cure = f"correct the name with '{remote.readdress('gs://BUCKET/PREFIX')}', or make the bucket with"
        raise UserError(
            f"{where} has no bucket {remote.bucket} ({remote.label}): {cure} 'gcloud storage buckets create "
            f"gs://{remote.bucket} --uniform-bucket-level-access'."
        )
    if answer.status in (401, 403) and isinstance(account, Anonymous):
        cure = "take allow_anonymous_login out with 'dvc remote modify --unset', and log in"
        raise UserError(f"gs://{remote.bucket} is not public{said}: {cure}.")
    if answer.status == 401:
        cure = "is the account disabled, or the endpointurl another service's? Log in again or make a new key"
        raise UserError(f"{where} does not accept the token of {account.name} ({account.source}){said}: {cure}.")
    if answer.status == 403 and (not message or "storage.objects" in message):
        raise UserError(_lacks(remote, account, READ[1], USER if needs == "write" else VIEWER))
    if answer.status == 403 or message:
        cure = "no missing role, so ask whoever administers the project"
        raise UserError(f"{where} refuses {account.name} with status {answer.status}{said}: {cure}.")
    cure = "a proxy or a captive portal may stand in between, or endpointurl is not the address of a storage server"
    raise UserError(f"{where} answers {answer.status} with something that is not Cloud Storage's: {cure}.")


def _granted(answer: Answer) -> set[str] | None:
    """The permissions granted; None where the server does not tell, as many emulators do not."""
    content = answer.json()
    if answer.status != 200 or content is None:
        return None
    permissions = content.get("permissions", [])  # absent when there are none
    return {str(name) for name in permissions} if isinstance(permissions, list) else None


def _reading(remote: Remote, account: Account, granted: set[str] | None, needs: str) -> str:
    if granted is None:
        return "listing works; the server does not tell whether objects may be read"
    if READ[0] not in granted:
        raise UserError(_lacks(remote, account, READ[0], USER if needs == "write" else VIEWER))
    return "allowed"


def _writing(remote: Remote, account: Account, granted: set[str] | None, needs: str) -> str:
    if granted is None:
        return "not checked; the server does not tell"
    if granted.issuperset(WRITE):
        return "allowed"
    if needs == "write":
        raise UserError(_lacks(remote, account, WRITE[0], USER))
    return f"not allowed, so 'dvc push' will fail; {USER} would allow it: {_grant(remote, account, USER)}"


def _content(remote: Remote, listing: dict[str, Any], top: dict[str, Any], new_prefix: bool) -> str:
    if listing.get("items") or listing.get("nextPageToken"):
        return f"there are objects under {remote.url}"
    names = [str(name) for name in top.get("prefixes") or []]
    loose = len(top.get("items") or [])
    if not (names or loose):
        return "the bucket is empty; the first 'dvc push' will fill it"
    if new_prefix:
        return f"nothing under {remote.prefix}/ yet; the first 'dvc push' will fill it"
    more = len(names) - FOLDERS_NAMED
    folders = ", ".join(names[:FOLDERS_NAMED]) + (f" and {more} more" if more > 0 else "")
    has = f"has {folders}" if names else f"has {loose} object(s) and no folders"
    cure = f"correct the prefix with '{remote.readdress(f'gs://{remote.bucket}/PREFIX')}'"
    raise UserError(
        f"gs://{remote.bucket} {has}, but nothing under {remote.prefix}/ ({remote.label}): {cure}, "
        "or say storage.new_prefix=true if it is yet to be filled."
    )


def _lacks(remote: Remote, account: Account, permission: str, role: str) -> str:
    who = account.source if isinstance(account, Anonymous) else f"{account.name} ({account.source})"
    push = "" if role == USER else f" (or {USER}, to push as well)"
    return (
        f"{who} lacks {permission} on gs://{remote.bucket}. Whoever administers the bucket grants {role}{push}: "
        f"{_grant(remote, account, role)}"
    )


def _grant(remote: Remote, account: Account, role: str) -> str:
    binding = f"--member={account.member} --role={role}"
    return f"gcloud storage buckets add-iam-policy-binding gs://{remote.bucket} {binding}"
