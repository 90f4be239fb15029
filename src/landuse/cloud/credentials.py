"""Which account DVC would use: found where gcsfs and google-auth look, in their order, and never guessed past a fault.

gcsfs goes on to the next place, and at last without any account, when one is at fault. Here the fault is the answer.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from landuse.cloud.accounts import STORAGE, Account, Anonymous, FileAccount, MachineAccount
from landuse.cloud.remote import Remote
from landuse.cloud.transport import shown
from landuse.errors import UserError

ADC_FILE = "application_default_credentials.json"
GOOGLE_MACHINE = Path("/sys/class/dmi/id/product_name")
METADATA_HOST = "metadata.google.internal"
NEW_KEY = "make a new key with 'gcloud iam service-accounts keys create FILE --iam-account=ACCOUNT'"
NEW_LOGIN = "log in again with 'gcloud auth application-default login'"
REQUIRED = {
    "service_account": ("client_email", "private_key", "token_uri"),
    "authorized_user": ("client_id", "client_secret", "refresh_token"),
    "external_account": ("audience", "subject_token_type", "token_url"),
    "external_account_authorized_user": ("audience", "refresh_token", "token_url", "client_id", "client_secret"),
    "impersonated_service_account": ("service_account_impersonation_url",),
}


class _Place(NamedTuple):
    """A credentials file, and what made it the one."""

    path: Path
    because: str
    cure: str  # when the file is not there


def find(remote: Remote, scope: str = STORAGE) -> Account:
    """The account that DVC would use for this remote, not logged in yet.

    Args:
        remote: the place.
        scope: what its token is to be good for.

    Raises:
        UserError: there is none, or its file is missing or malformed.
    """
    if remote.anonymous:
        return Anonymous("nobody (allow_anonymous_login)")
    place = _place(remote)
    if place is not None:
        info = _read(place)
        kind = _kind(place, info, remote)
        _check_project(remote, info)
        return FileAccount(kind, info, f"{place.path}, {place.because}", scope)
    if host := _metadata_host():
        return MachineAccount(host)
    raise UserError(
        "No credentials: no credentialpath for this remote, no GOOGLE_APPLICATION_CREDENTIALS, and nobody logged in "
        f"({_adc_file()} is missing). Run 'gcloud auth application-default login', or give a service account's key "
        "file: export GOOGLE_APPLICATION_CREDENTIALS=FILE."
    )


def _place(remote: Remote) -> _Place | None:
    if remote.credentialpath is not None:
        path = remote.credentialpath
        cure = f"correct it with 'dvc remote modify --local {remote.name} credentialpath FILE'"
        return _Place(Path(path.value), f"credentialpath in {path.file}", cure)
    if value := os.environ.get("GOOGLE_APPLICATION_CREDENTIALS", ""):
        if value.lstrip().startswith("{") or "\n" in value:
            raise UserError(
                "GOOGLE_APPLICATION_CREDENTIALS holds the content of a key: write that content into a file and give "
                "the file's path instead."
            )
        return _Place(Path(value), "GOOGLE_APPLICATION_CREDENTIALS", "correct the variable or unset it")
    file = _adc_file()
    return _Place(file, "the login of gcloud", NEW_LOGIN) if file.is_file() else None


def _adc_file() -> Path:
    if folder := os.environ.get("CLOUDSDK_CONFIG"):
        return Path(folder) / ADC_FILE
    if os.name == "nt":
        return Path(os.environ.get("APPDATA", "")) / "gcloud" / ADC_FILE
    return Path.home() / ".config" / "gcloud" / ADC_FILE


def _read(place: _Place) -> dict[str, Any]:
    name = f"The key file {shown(place.path)} ({place.because})"
    try:
        info = json.loads(place.path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{name} does not exist: {place.cure}.") from error
    except OSError as error:
        raise UserError(f"{name} cannot be read ({error.strerror}): {place.cure}.") from error
    except ValueError as error:
        raise UserError(
            f"{name} is not JSON: it is damaged or something else. Download it again, or {NEW_KEY}."
        ) from error
    if not isinstance(info, dict):
        raise UserError(f"{name} holds no JSON object: it is something else. Download it again, or {NEW_KEY}.")
    return info


def _kind(place: _Place, info: dict[str, Any], remote: Remote) -> str:
    """The type of the credentials, after a look at whether all is there.

    From ``credentialpath`` gcsfs takes two types alone, and tells them apart without the key "type".
    """
    name = f"The key file {place.path} ({place.because})"
    kind = info.get("type")
    if kind is None and remote.credentialpath:
        kind = "authorized_user" if "refresh_token" in info else "service_account"
    if kind not in REQUIRED:
        what = f'has the type "{shown(kind)}"' if kind else 'has no "type", as the file of an OAuth client has none'
        raise UserError(f"{name} {what}: it must be one of {', '.join(REQUIRED)}. {_capital(NEW_KEY)}.")
    missing = [key for key in REQUIRED[kind] if not (isinstance(info.get(key), str) and info[key])]
    if missing:
        cure = NEW_LOGIN if "authorized_user" in kind else NEW_KEY
        raise UserError(f"{name} is of type {kind} but lacks {', '.join(missing)}: {cure}.")
    if remote.credentialpath and kind not in ("service_account", "authorized_user"):
        cure = f"take it out ('{remote.unset('credentialpath', remote.credentialpath.level)}')"
        raise UserError(
            f"{name} is of type {kind}, which DVC does not take from credentialpath: {cure} and "
            f"export GOOGLE_APPLICATION_CREDENTIALS={place.path}."
        )
    return str(kind)


def _check_project(remote: Remote, info: dict[str, Any]) -> None:
    """gcsfs drops an account that it found by itself, without a word, when it belongs to another project."""
    if remote.project is None or remote.credentialpath is not None:
        return
    by_environment = os.environ.get("GOOGLE_CLOUD_PROJECT") or os.environ.get("GCLOUD_PROJECT")
    project = by_environment or info.get("project_id")
    if project and project != remote.project.value:
        cure = remote.unset("projectname", remote.project.level)
        raise UserError(
            f"projectname={remote.project.value} of the remote is not the project of the account ({shown(project)}): "
            f"DVC would then go on without any account. Take it out with '{cure}'."
        )


def _metadata_host() -> str | None:
    """Where Google's machines tell their own account; None where this does not look like one of them."""
    if os.environ.get("NO_GCE_CHECK") == "true":
        return None
    for variable in ("GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP"):
        if host := os.environ.get(variable):
            return host
    if os.environ.get("K_SERVICE") or os.environ.get("CLOUD_RUN_JOB"):
        return METADATA_HOST
    try:
        on_google = GOOGLE_MACHINE.read_text(encoding="utf-8").startswith("Google")
    except OSError:
        return None
    return METADATA_HOST if on_google else None


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
