"""The kinds of account, each of which knows how to log in and how IAM calls it."""

import base64
import importlib
import json
import os
from typing import Any

from landuse.cloud.transport import Client, shown
from landuse.errors import UserError

STORAGE = "https://www.googleapis.com/auth/devstorage.full_control"  # gcsfs asks for the same
EVERYTHING = "https://www.googleapis.com/auth/cloud-platform"  # whatever the account's roles allow
CLOCK_TOLERANCE_S = 300.0  # Google takes no signature from further away
# Type of a credentials file: google-auth's module and constructor. They are slow to import, so only one ever is.
BUILDERS = {
    "service_account": ("google.oauth2.service_account", "from_service_account_info"),
    "authorized_user": ("google.oauth2.credentials", "from_authorized_user_info"),
    "external_account": ("google.auth.identity_pool", "from_info"),
    "external_account_authorized_user": ("google.auth.external_account_authorized_user", "from_info"),
    "impersonated_service_account": ("google.auth.impersonated_credentials", "from_impersonated_service_account_info"),
}
KINDS = {
    "service_account": "key of a service account",
    "authorized_user": "a person's login",
    "external_account": "workload identity federation",
    "external_account_authorized_user": "workforce identity federation",
    "impersonated_service_account": "impersonation of a service account",
}


class RefusedError(UserError):
    """The login is refused for good: it is no use to try again."""


class Account:
    """Who asks."""

    name: str  # an e-mail address where it is known
    source: str  # where it was found
    member: str  # in an IAM binding
    headers: dict[str, str]  # of a request; filled by login

    def login(self, client: Client) -> None:
        """Fetch a token.

        Raises:
            RefusedError: it is refused.
            UserError: nobody answers.
        """
        raise NotImplementedError


class Anonymous(Account):
    """No account at all."""

    def __init__(self, source: str) -> None:
        self.name, self.source, self.member, self.headers = "nobody", source, "allUsers", {}

    def login(self, client: Client) -> None:
        """Nothing to do."""


class FileAccount(Account):
    """The account of a credentials file.

    Args:
        kind: a key of :data:`BUILDERS`.
        info: the file's content, with the keys that its kind requires.
        source: the file and why it is the one, for messages.
        scope: what the token is to be good for, where that can be asked for.

    Raises:
        UserError: google-auth does not take it.
    """

    def __init__(self, kind: str, info: dict[str, Any], source: str, scope: str = STORAGE) -> None:
        self.kind, self.headers = kind, {}
        self.source = f"{KINDS[kind]}: {source}"
        self.name = _name(kind, info)
        self.member = _member(kind, info, self.name)
        module, constructor = BUILDERS[kind]
        if kind == "external_account" and "aws" in str(info["subject_token_type"]):
            module = "google.auth.aws"
        elif kind == "external_account" and "executable" in (info.get("credential_source") or {}):
            module = "google.auth.pluggable"
        arguments = {} if "authorized_user" in kind else {"scopes": [scope]}  # a person's scopes are those of the login
        try:
            self._credentials = getattr(importlib.import_module(module).Credentials, constructor)(info, **arguments)
        except ValueError as error:  # its text may quote the file
            fault = "its private_key is damaged" if kind == "service_account" else "its content is damaged"
            raise UserError(f"The key file cannot be used, {fault} ({source}): {self._cure()}.") from error

    def login(self, client: Client) -> None:
        """Fetch a token as google-auth does, and the e-mail address that comes with a person's token.

        Raises:
            RefusedError: the token is refused.
            UserError: nobody answers, or with nonsense.
        """
        from google.auth.exceptions import GoogleAuthError

        try:
            self._credentials.refresh(client)
            self._credentials.apply(self.headers)
        except GoogleAuthError as error:
            kind = UserError if error.retryable else RefusedError
            raise kind(self._refused(error, client.clock_skew_s)) from error
        except (TypeError, ValueError, KeyError, AttributeError) as error:  # an answer that google-auth cannot parse
            cure = "a proxy or a captive portal may stand in between, or the file names the wrong token server"
            raise UserError(f"The token server's answer for {self.name} is malformed: {cure}.") from error
        if self.kind == "authorized_user" and "@" not in self.name:
            self.name = _email_in(getattr(self._credentials, "id_token", None)) or self.name
            self.member = _member(self.kind, {}, self.name)

    def _refused(self, error: Exception, skew_s: float) -> str:
        said = shown(error.args[0]) if error.args else type(error).__name__  # further arguments may hold tokens
        who = f"Google refuses a token for {self.name} ({self.source}; it says: {said.rstrip('.')})"
        if abs(skew_s) > CLOCK_TOLERANCE_S:
            direction = "ahead" if skew_s > 0 else "behind"
            cure = "set it, for example with 'sudo timedatectl set-ntp true'"
            return f"{who}. This machine's clock is {abs(skew_s) / 60:.0f} minutes {direction}: {cure}."
        if "reasonable timeframe" in said:
            return f"{who}: this machine's clock is wrong; set it, for example with 'sudo timedatectl set-ntp true'."
        return f"{who}: {self._cure()}."

    def _cure(self) -> str:
        if self.kind == "service_account":
            new = f"gcloud iam service-accounts keys create FILE --iam-account={self.name}"
            return f"the key was deleted or the account disabled, or the file was edited; make a new key with '{new}'"
        if self.kind in ("authorized_user", "external_account_authorized_user"):
            return "the login expired or was revoked; log in again with 'gcloud auth application-default login'"
        return (
            "check the pool's provider and its attribute condition, and that roles/iam.workloadIdentityUser is granted "
            "on the service account that is impersonated"
        )


class MachineAccount(Account):
    """The account that a machine or service of Google Cloud has of itself, told by its metadata server.

    Its token is good for what the machine was made with: everything, in jobs of Vertex AI and on Cloud Run.
    """

    def __init__(self, host: str) -> None:
        self.name, self.member, self.headers = "the machine's own account", "serviceAccount:EMAIL", {}
        self.source = f"metadata server {host}"
        self._root = f"http://{host}/computeMetadata/v1/instance/service-accounts/default"

    def login(self, client: Client) -> None:
        """Ask the metadata server for a token and the account's address.

        Raises:
            RefusedError: this machine has no account.
            UserError: it does not answer.
        """
        flavour = {"Metadata-Flavor": "Google"}
        token, address = client.side_by_side(
            lambda: client(f"{self._root}/token", headers=flavour),
            lambda: client(f"{self._root}/email", headers=flavour),
        )
        content = token.json() or {}
        if token.status != 200 or "access_token" not in content:
            raise RefusedError(
                f"No credentials: the {self.source} answers {token.status}, so no service account is attached to this "
                "machine. Attach one, or give a key file with GOOGLE_APPLICATION_CREDENTIALS=FILE."
            )
        if address.status == 200:
            self.name = shown(address.data.decode("utf-8", "replace"))
            self.member = f"serviceAccount:{self.name}"
        self.headers["authorization"] = f"Bearer {content['access_token']}"


def _name(kind: str, info: dict[str, Any]) -> str:
    if kind == "service_account":
        return str(info["client_email"])
    if url := info.get("service_account_impersonation_url"):  # .../serviceAccounts/EMAIL:generateAccessToken
        return str(url).rpartition("/")[2].partition(":")[0]
    if kind == "external_account":
        return f"an identity of {str(info['audience']).lstrip('/')}"
    return str(info.get("account") or "the person logged in with gcloud")


def _member(kind: str, info: dict[str, Any], name: str) -> str:
    if kind == "external_account" and not info.get("service_account_impersonation_url"):
        pool = str(info["audience"]).partition("/providers/")[0].lstrip("/")
        repository = os.environ.get("GITHUB_REPOSITORY", "OWNER/REPOSITORY")
        return f"principalSet://{pool}/attribute.repository/{repository}"
    if kind in ("authorized_user", "external_account_authorized_user"):
        return f"user:{name}" if "@" in name else "user:EMAIL"
    return f"serviceAccount:{name}"


def _email_in(id_token: str | None) -> str | None:
    """The address in a person's ID token, which came straight from Google and is for display: nothing is verified."""
    try:
        payload = (id_token or "").split(".")[1]
        content = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return str(content["email"])
    except (IndexError, ValueError, KeyError, TypeError):
        return None
