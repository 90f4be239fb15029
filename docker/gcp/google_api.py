"""Requests to Google's APIs: sent with the account of this machine, retried, waited for, explained."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests
from documents import PolicyChange, Request, Step

from landuse.cloud import credentials
from landuse.cloud.bounded import bounded, object_in
from landuse.cloud.endpoint import redirected
from landuse.cloud.remote import Remote
from landuse.cloud.transport import OVERLOADED, shown
from landuse.errors import FailureError, UserError, printable

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
TIMEOUT_S = 30.0  # of silence
WHOLE_ANSWER_S, WHOLE_UPLOAD_S = 60.0, 900.0
TRIES = 5
LONGEST_OPERATION_S = 1800.0
LONGEST_SILENCE_S = 600.0  # of what goes on whether or not anybody asks after it
TOO_MANY = 429  # refused before anything is done; after another answer, or none, something may have been
PERHAPS_DONE = "It may have been started all the same: 'status' shows it."
LOGIN = "gcloud auth application-default login"
# Which predefined role holds a permission, by its beginning: the narrowest that somebody who does this by hand needs.
ROLES = {
    "aiplatform.": "roles/aiplatform.user",
    "artifactregistry.repositories.downloadArtifacts": "roles/artifactregistry.reader",
    "artifactregistry.": "roles/artifactregistry.admin",
    "billing.": "roles/billing.costsManager on the billing account",
    "cloudbuild.": "roles/cloudbuild.builds.editor",
    "cloudsql.": "roles/cloudsql.admin",
    "iam.serviceAccounts.actAs": "roles/iam.serviceAccountUser",
    "iam.serviceAccounts.": "roles/iam.serviceAccountAdmin",
    "iam.workloadIdentityPool": "roles/iam.workloadIdentityPoolAdmin",
    "logging.": "roles/logging.viewer",
    "resourcemanager.": "roles/resourcemanager.projectIamAdmin",
    "run.": "roles/run.admin",
    "secretmanager.": "roles/secretmanager.admin",
    "serviceusage.services.use": "roles/serviceusage.serviceUsageConsumer",
    "serviceusage.": "roles/serviceusage.serviceUsageAdmin",
    "storage.objects.": "roles/storage.objectUser",
    "storage.": "roles/storage.admin",
}
BY_HOST = {
    "aiplatform": "aiplatform.", "artifactregistry": "artifactregistry.", "billingbudgets": "billing.",
    "cloudbuild": "cloudbuild.", "sqladmin": "cloudsql.", "iam": "iam.serviceAccounts.", "logging": "logging.",
    "cloudresourcemanager": "resourcemanager.", "run": "run.", "secretmanager": "secretmanager.",
    "serviceusage": "serviceusage.", "storage": "storage.",
}  # fmt: skip


class AnsweredError(Exception):
    """An API's answer that is no success."""

    def __init__(self, status: int, content: dict[str, Any]) -> None:
        error = content.get("error")
        self.status, self.error = status, error if isinstance(error, dict) else {}
        self.message = shown(
            self.error.get("message") or content.get("error_description") or error or "no reason given"
        )
        super().__init__(f"{status}: {self.message}")

    @property
    def reason(self) -> tuple[str, dict[str, str]]:
        """The machine-readable reason and what belongs to it: google.rpc.ErrorInfo, or the older form of errors."""
        try:
            for detail in self.error.get("details") or []:
                if str(detail.get("@type", "")).endswith("google.rpc.ErrorInfo"):
                    about = detail.get("metadata") or {}
                    return str(detail.get("reason", "")), {key: str(value) for key, value in about.items()}
            return next((str(item.get("reason", "")) for item in self.error.get("errors") or []), ""), {}
        except (AttributeError, TypeError):  # of another form: the status and the message tell what they can
            return "", {}


class NoAnswerError(UserError):
    """Nobody answers, for now."""


class OddAnswerError(FailureError):
    """An answer of another form than Google's."""

    def __init__(self, request: Step) -> None:
        started = f" {PERHAPS_DONE}" if isinstance(request, Request) and request.once else ""
        super().__init__(
            f"{request.say}: {urlsplit(request.url).netloc} answers in a form that is not understood: a proxy or a "
            f"captive portal may stand in between.{started}"
        )


@contextlib.contextmanager
def understood(request: Step) -> Iterator[None]:
    """Around the use of what a request is answered with.

    Raises:
        OddAnswerError: it has not the form that Google publishes.
    """
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise OddAnswerError(request) from error


class Google:
    """An account of Google's, and a way to ask.

    Args:
        project: for messages, and for the bill of what is asked.
        pause_s: between two looks at something that takes time.

    Raises:
        UserError: there are no credentials, or they are malformed.
    """

    def __init__(self, project: str, pause_s: float = 5.0) -> None:
        import google.auth
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import AuthorizedSession

        self.project, self.pause_s = project, pause_s
        self.member = credentials.find(Remote("cloud", "", "")).member  # and a fault of its file in a sentence
        try:
            found, _ = google.auth.default(scopes=[SCOPE])
        except GoogleAuthError as error:
            raise UserError(f"The credentials cannot be used ({shown(error)}): log in with '{LOGIN}'.") from error
        # Typed as the plain session that it is, for google-auth has no types of its own.
        self._session: requests.Session = AuthorizedSession(found, refresh_timeout=TIMEOUT_S)  # type: ignore[no-untyped-call]

    def send(self, request: Request, data: bytes | None = None) -> dict[str, Any]:
        """The answer's JSON. What may pass is tried again; a request that is sent ``once``, only after a 429.

        Raises:
            AnsweredError: the API refuses.
            NoAnswerError: nobody answers.
            OddAnswerError: what answers is not Google.
            UserError: the account cannot log in.
        """
        passing = (TOO_MANY,) if request.once else OVERLOADED
        for attempt in range(TRIES):
            response = self._once(request, data)
            if response.status_code not in passing or attempt == TRIES - 1:
                break
            said = response.headers.get("retry-after", "")
            is_number = said.isascii() and said.isdigit()
            time.sleep(min(30.0, float(said)) if is_number else min(30.0, self.pause_s / 5 * 2**attempt))
        is_good = 200 <= response.status_code < 300
        try:
            content = object_in(response)
        except ValueError as error:
            if is_good:
                raise OddAnswerError(request) from error
            content = {}
        if not is_good:
            raise AnsweredError(response.status_code, content)
        return content

    def _once(self, request: Request, data: bytes | None) -> requests.Response:
        from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError

        host = urlsplit(request.url).netloc
        try:
            url = redirected(request.url)
            response = bounded(
                lambda: self._session.request(
                    request.verb, url, data=data, json=request.body, timeout=TIMEOUT_S, allow_redirects=False,
                    stream=True,
                ),
                WHOLE_ANSWER_S if data is None else WHOLE_UPLOAD_S,
            )  # fmt: skip
        except RefreshError as error:
            if error.retryable:
                raise NoAnswerError(f"The token server is in trouble ({shown(error.args[0])}): try again.") from error
            raise UserError(
                f"Google refuses a token for {self.member} ({shown(error.args[0])}): log in again with '{LOGIN}', or "
                "give another key file in GOOGLE_APPLICATION_CREDENTIALS."
            ) from error
        except (TransportError, requests.RequestException) as error:
            was_sent = request.once and isinstance(error, requests.RequestException)  # and no token asked for in vain
            raise NoAnswerError(
                f"No answer from {host} ({shown(error)}): check the network connection, the proxy and the firewall."
                + (f" {PERHAPS_DONE}" if was_sent else "")
            ) from error
        except GoogleAuthError as error:
            raise UserError(f"The account cannot log in ({shown(error)}): log in with '{LOGIN}'.") from error
        return response

    def look(self, request: Request, key: str | None = None) -> dict[str, Any]:
        """How something stands that goes on by itself: no answer is put up with for ten minutes, and said once.

        Args:
            request: how it is asked after.
            key: a text that the answer must have.

        Raises:
            OddAnswerError: what answers is not understood, for longer.
            AnsweredError: the API refuses, or is in trouble for longer.
            NoAnswerError: nobody answers for longer.
        """
        ends = 0.0
        while True:
            try:
                answer = self.send(request)
                if key is not None and not isinstance(answer.get(key), str):
                    raise OddAnswerError(request)
                return answer
            except (AnsweredError, NoAnswerError, OddAnswerError) as error:
                if isinstance(error, AnsweredError) and error.status not in OVERLOADED:
                    raise
                if not ends:
                    ends = time.monotonic() + LONGEST_SILENCE_S
                    minutes = f"{LONGEST_SILENCE_S / 60:.0f} minutes"
                    tell(f"warning: {request.say} goes on, and is asked after for {minutes} more: {error}")
                elif time.monotonic() > ends:
                    raise
            time.sleep(self.pause_s)

    def finish(self, request: Request, answer: dict[str, Any]) -> dict[str, Any]:
        """Wait for what the answer says is under way, if anything, and give its result.

        Raises:
            FailureError: it failed, or takes longer than half an hour.
        """
        began = time.monotonic()
        while _is_under_way(answer):
            if time.monotonic() - began > LONGEST_OPERATION_S:
                raise FailureError(f"{request.say}: still under way after {LONGEST_OPERATION_S / 60:.0f} minutes.")
            time.sleep(self.pause_s)
            answer = self.look(Request(request.say, "GET", operation_url(request.url, answer, self.project)))
        if error := answer.get("error"):
            said = error.get("message") if isinstance(error, dict) else error
            raise FailureError(f"{request.say}: {shown(said or json.dumps(error))}.")
        response = answer.get("response", answer)
        return response if isinstance(response, dict) else {}

    def change(self, step: PolicyChange) -> bool:
        """Read a policy, change it and write it back; whether there was anything to change."""
        for attempt in range(TRIES):
            request = step.write(self.send(step.read))
            if request is None:
                return False
            try:
                self.send(request)
            except AnsweredError as error:
                # Somebody wrote in between (409, 412), or an account made a moment ago is not known everywhere yet.
                is_passing = error.status in (409, 412) or "does not exist" in error.message
                if not is_passing or attempt == TRIES - 1:
                    raise
                time.sleep(self.pause_s)
            else:
                return True
        return True

    def explained(self, error: AnsweredError, step: Step) -> UserError:
        """What an answer means and what mends it."""
        host = urlsplit(step.url).netloc
        return UserError(
            f"{step.say}: {host} answers {error.status} ({error.message.rstrip('.')}). {self._cure(error, step)}"
        )

    def _cure(self, error: AnsweredError, step: Step) -> str:
        reason, about = error.reason
        host = urlsplit(step.url).netloc.removesuffix(".googleapis.com").rpartition("-")[2]
        text = error.message.lower()
        if reason in ("SERVICE_DISABLED", "accessNotConfigured"):
            service = about.get("service", f"{host}.googleapis.com")
            return f"Enable the API: gcloud services enable {service} --project={self.project}"
        if reason in ("BILLING_DISABLED", "UREQ_PROJECT_BILLING_NOT_FOUND") or (
            "billing" in text and error.status != 404
        ):
            return f"Link a billing account: gcloud billing projects link {self.project} --billing-account=ACCOUNT"
        if reason == "ACCESS_TOKEN_SCOPE_INSUFFICIENT":
            return f"Log in with the scope: {LOGIN} --scopes={SCOPE}"
        if reason == "USER_PROJECT_DENIED" or "quota project" in text:
            return (
                f"Name the project that is asked for: gcloud auth application-default set-quota-project {self.project}"
            )
        if "repository mapping does not exist" in text:
            return f"Connect the repository: https://console.cloud.google.com/cloud-build/triggers/connect?project={self.project}"
        if error.status == 401:
            return f"The token is not valid any more: {LOGIN}"
        if "constraints/" in text:
            return "A policy of the organisation forbids it: its administrator can make an exception for this project."
        if error.status == 403:
            return self._grant(about.get("permission", ""), host, error.message)
        if error.status == 404:
            return f"Check cloud.project={self.project}, cloud.region and the name, and that 'setup' has been run."
        if error.status == 429 or "quota" in text:
            return (
                "The project's quota is used up or zero, as that of GPUs is at first: ask for more under IAM & Admin > "
                "Quotas, or take another cloud.region or machine."
            )
        if error.status == 400:
            return "A setting has a value that the API does not take: --dry-run shows the request."
        if error.status in OVERLOADED and isinstance(step, Request) and step.once:
            return PERHAPS_DONE
        return "Try again in a few minutes." if error.status >= 500 else "--dry-run shows the request."

    def _grant(self, permission: str, host: str, message: str) -> str:
        if "actas" in message.lower().replace(" ", ""):
            permission = "iam.serviceAccounts.actAs"
        permission = permission or next((word.strip("'\"") for word in message.split() if word.count(".") >= 2), "")
        role = next((role for start, role in ROLES.items() if permission.startswith(start)), "")
        role = role or ROLES[BY_HOST.get(host, "resourcemanager.")]
        if " on " in role:
            return f"Whoever administers the billing account grants {role} to {self.member}."
        if permission.endswith("actAs"):
            account = next(
                (word.strip("'\".,") for word in message.split() if ".iam.gserviceaccount.com" in word), "ACCOUNT"
            )
            return (
                f"Grant it: gcloud iam service-accounts add-iam-policy-binding {account.rpartition('/')[2]} "
                f"--member={self.member} --role={role}"
            )
        return f"Grant it: gcloud projects add-iam-policy-binding {self.project} --member={self.member} --role={role}"


def operation_url(url: str, operation: dict[str, Any], project: str) -> str:
    """Where an operation that a request to ``url`` began is asked after."""
    parts, name = urlsplit(url), operation["name"]
    if operation.get("kind") == "sql#operation":
        name = f"projects/{project}/operations/{name}"
    return urlunsplit((parts.scheme, parts.netloc, f"/{parts.path.split('/')[1]}/{name}", "", ""))


def _is_under_way(answer: dict[str, Any]) -> bool:
    if answer.get("kind") == "sql#operation":
        return answer.get("status") != "DONE"
    name = str(answer.get("name", ""))
    is_operation = "operations/" in name
    return is_operation and not answer.get("done", False)


def pause_s() -> float:
    """Between two looks; the tests' server needs no patience.

    Raises:
        UserError: the variable holds no such number.
    """
    value = os.environ.get("LANDUSE_CLOUD_PAUSE_S", "5")
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(value)) <= 3600:
            return seconds
    raise UserError(f"LANDUSE_CLOUD_PAUSE_S={value} is no number of seconds up to 3600.")


def tell(text: str) -> None:
    """To people; stdout is for what was asked for."""
    print(printable(text), file=sys.stderr, flush=True)
