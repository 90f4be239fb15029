"""python -m landuse.storage says what works, and names the cause of what does not."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import EMAIL, GRANTED, TOKEN, Checkout, Emulator, FakeGoogle, Reply

PATIENT = "storage.timeout_s=60"  # a busy machine must not look like a slow network
GRANT = f"gcloud storage buckets add-iam-policy-binding gs://my-bucket --member=serviceAccount:{EMAIL} --role=roles/"


def refused(done: Any, *parts: str) -> None:
    """Status 2, one message on stderr that has all the parts, and no secret anywhere."""
    assert done.status == 2, done.out + done.err
    assert done.err.startswith("error: ") and done.err.count("\n") == 1, done.err
    for part in parts:
        assert part in done.err, done.err
    no_secret(done)


def no_secret(done: Any) -> None:
    for secret in (TOKEN, "PRIVATE KEY", "s3cret", "MIIE"):
        assert secret not in done.out + done.err


def lines(done: Any) -> dict[str, str]:
    assert done.status == 0, done.err
    no_secret(done)
    return {line.split()[0]: line.split(maxsplit=1)[1] for line in done.out.splitlines()}


# The emulator, without an account


def test_a_good_bucket(command, checkout: Checkout, emulator: Emulator) -> None:
    checkout.remote(url="gs://full-bucket/dvc", endpointurl=emulator.url, allow_anonymous_login="true")
    said = lines(command("storage", PATIENT))
    assert said["bucket"].startswith(f"gs://full-bucket/dvc at {emulator.url} (remote 'storage', DVC's default")
    assert "allow_anonymous_login" in said["account"]
    assert said["reading"] == said["writing"] == "allowed"
    assert "there are objects" in said["content"]


def test_a_bucket_without_dvc(command, checkout: Checkout, emulator: Emulator, google: FakeGoogle, monkeypatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator.url)
    key = checkout.file("key.json", checkout.key(google.url))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    assert not (checkout.root / ".dvc").exists()
    assert EMAIL in lines(command("storage", "storage.url=gs://full-bucket", PATIENT))["account"]


def test_wrong_bucket(command, checkout: Checkout, emulator: Emulator) -> None:
    checkout.remote(url="gs://no-such-bucket/dvc", endpointurl=emulator.url, allow_anonymous_login="true")
    cures = ("dvc remote modify storage url", "gcloud storage buckets create")
    refused(command("storage", PATIENT), "no bucket no-such-bucket", *cures)


def test_wrong_prefix(command, checkout: Checkout, emulator: Emulator) -> None:
    checkout.remote(url="gs://full-bucket/dv", endpointurl=emulator.url, allow_anonymous_login="true")
    refused(
        command("storage", PATIENT), "has dvc/, models/, raw/, but nothing under dv/", "dvc remote modify storage url"
    )
    assert "nothing under dv/ yet" in lines(command("storage", "storage.new_prefix=true", PATIENT))["content"]


def test_empty_bucket(command, checkout: Checkout, emulator: Emulator) -> None:
    checkout.remote(url="gs://empty-bucket/dvc", endpointurl=emulator.url, allow_anonymous_login="true")
    assert "bucket is empty" in lines(command("storage", PATIENT))["content"]


# Which account


def test_service_account(command, service_account: Checkout, google: FakeGoogle) -> None:
    said = lines(command("storage", PATIENT))
    assert said["account"].startswith(EMAIL)
    assert "key.json, credentialpath in" in said["account"]
    assert said["reading"] == said["writing"] == "allowed"
    for path, headers, _ in google.seen:
        assert path == "/token" or headers["authorization"] == f"Bearer {TOKEN}"
    (asked,) = [query["permissions"] for path, _, query in google.seen if path.endswith("testPermissions")]
    assert asked == GRANTED


def test_no_credentials(command, checkout: Checkout) -> None:
    checkout.remote(url="gs://my-bucket/dvc")
    refused(command("storage", PATIENT), "No credentials", "gcloud auth application-default login")


def test_where_an_account_comes_from(command, checkout: Checkout, google: FakeGoogle, monkeypatch) -> None:
    """The login of gcloud; over it the variable; over that the remote's own key."""
    checkout.remote(url="gs://my-bucket/dvc", endpointurl=google.url)
    gcloud = checkout.root / "elsewhere" / "cloudsdk_config" / "application_default_credentials.json"
    gcloud.write_text(json.dumps(checkout.key(google.url, client_email="gcloud@x")))
    assert lines(command("storage", PATIENT))["account"].startswith("gcloud@x")
    variable = checkout.file("variable.json", checkout.key(google.url, client_email="variable@x"))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(variable))
    assert lines(command("storage", PATIENT))["account"].startswith("variable@x")
    checkout.file("own.json", checkout.key(google.url, client_email="own@x"))
    checkout.config("['remote \"storage\"']\n credentialpath = ../own.json\n", "config.local")
    assert lines(command("storage", PATIENT))["account"].startswith("own@x")


def test_the_machines_own_account(command, checkout: Checkout, google: FakeGoogle, monkeypatch) -> None:
    checkout.remote(url="gs://my-bucket/dvc", endpointurl=google.url)
    monkeypatch.delenv("NO_GCE_CHECK")
    monkeypatch.setenv("GCE_METADATA_HOST", google.host)
    google.replies["email"] = Reply(body=b"vm@my-project.iam.gserviceaccount.com")
    assert lines(command("storage", PATIENT))["account"].startswith("vm@my-project")
    google.replies["token"] = Reply(404)
    refused(command("storage", PATIENT), "no service account is attached", "GOOGLE_APPLICATION_CREDENTIALS")


@pytest.mark.parametrize("impersonated", [True, False])
def test_workload_identity(command, checkout: Checkout, google: FakeGoogle, monkeypatch, impersonated: bool) -> None:
    """What the step "auth" leaves in a job of GitHub Actions: an identity token for a federated one, and that for an
    account's."""
    checkout.remote(url="gs://my-bucket/dvc", endpointurl=google.url)
    pool = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/github/providers/repo"
    info: dict[str, Any] = {
        "type": "external_account",
        "audience": pool,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{google.url}/v1/token",
        "credential_source": {"file": str(checkout.file("oidc", "an identity token"))},
    }
    if impersonated:
        info["service_account_impersonation_url"] = (
            f"{google.url}/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken"
        )
        google.replies[f"{EMAIL}:generateAccessToken"] = Reply(
            body={"accessToken": TOKEN, "expireTime": "2999-01-01T00:00:00Z"}
        )
    path = checkout.file("wif.json", info)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    monkeypatch.setenv("GITHUB_REPOSITORY", "me/landuse")
    said = lines(command("storage", PATIENT))
    assert "workload identity federation" in said["account"] and (EMAIL in said["account"]) == impersonated
    google.denies()
    member = f"serviceAccount:{EMAIL}" if impersonated else "principalSet://iam.googleapis.com/projects/1/"
    refused(
        command("storage", PATIENT), f"--member={member}", "" if impersonated else "attribute.repository/me/landuse"
    )
    denied = {"error": "unauthorized_client", "error_description": "The given credential is rejected by the condition."}
    google.replies["token"] = Reply(400, denied)
    refused(command("storage", PATIENT), "refuses a token", "rejected by the condition", "attribute condition")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    checkout.remote(url="gs://my-bucket/dvc", endpointurl=google.url, credentialpath=str(path))
    refused(command("storage", PATIENT), "external_account", "does not take from credentialpath", f"CREDENTIALS={path}")


# Key files


def test_key_file_missing(command, checkout: Checkout, monkeypatch) -> None:
    checkout.remote(url="gs://my-bucket/dvc", credentialpath="keys/gone.json")
    refused(command("storage", PATIENT), f"{checkout.root}/.dvc/keys/gone.json", "does not exist", "dvc remote modify")
    checkout.remote(url="gs://my-bucket/dvc")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "gone.json")
    refused(command("storage", PATIENT), "gone.json (GOOGLE_APPLICATION_CREDENTIALS) does not exist", "unset it")


MALFORMED = {
    "empty": ("", ["is not JSON"]),
    "cut": ('{"type": "service_account", "private_key": "s3cret', ["is not JSON", "gcloud iam service-accounts keys"]),
    "a list": ("[]", ["no JSON object"]),
    "an OAuth client": ('{"installed": {"client_id": "x"}}', ["service_account but lacks client_email, private_key"]),
    "another type": ('{"type": "s3cret-thing\\n-----BEGIN PRIVATE KEY"}', ["has the type", "must be one of"]),
    "no refresh token": (
        '{"type": "authorized_user", "client_id": "x", "client_secret": "s3cret"}',
        ["lacks refresh_token", "gcloud auth application-default login"],
    ),
    "no private key": (
        f'{{"type": "service_account", "client_email": "{EMAIL}", "token_uri": "http://127.0.0.1:1/token"}}',
        ["lacks private_key", "gcloud iam service-accounts keys create"],
    ),
    "damaged private key": (
        f'{{"type": "service_account", "client_email": "{EMAIL}", "token_uri": "http://127.0.0.1:1/token", '
        '"private_key": "-----BEGIN PRIVATE KEY-----\\nMIIEs3cret\\n-----END PRIVATE KEY-----\\n"}',
        ["private_key is damaged", f"--iam-account={EMAIL}"],
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_key_file_malformed(command, checkout: Checkout, case: str) -> None:
    text, parts = MALFORMED[case]
    path = checkout.file("key.json", text)
    checkout.remote(url="gs://my-bucket/dvc", credentialpath=str(path))
    refused(command("storage", PATIENT), str(path), *parts)


def test_a_folder_as_key_file(command, checkout: Checkout) -> None:
    checkout.remote(url="gs://my-bucket/dvc", credentialpath=str(checkout.root))
    refused(command("storage", PATIENT), "cannot be read")


def test_a_key_in_place_of_its_path(command, checkout: Checkout, monkeypatch) -> None:
    checkout.remote(url="gs://my-bucket/dvc")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", '{"private_key": "-----BEGIN PRIVATE KEY-----s3cret"}')
    refused(command("storage", PATIENT), "holds the content of a key", "path")


def test_a_token_in_place_of_a_path(command, checkout: Checkout) -> None:
    """gcsfs would send such a thing to Google; DVC makes it a path first."""
    checkout.remote(url="gs://my-bucket/dvc", credentialpath=TOKEN)
    refused(command("storage", PATIENT), "does not exist")


def test_another_project(command, checkout: Checkout, google: FakeGoogle, monkeypatch) -> None:
    key = checkout.file("key.json", checkout.key(google.url))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    checkout.remote(url="gs://my-bucket/dvc", endpointurl=google.url, projectname="other")
    refused(
        command("storage", PATIENT), "projectname=other", "my-project", "dvc remote modify --unset storage projectname"
    )
    checkout.remote(url="gs://my-bucket/dvc", endpointurl=google.url, projectname="my-project")
    lines(command("storage", PATIENT))


# Tokens


def invalid_grant(description: str) -> Reply:
    return Reply(400, {"error": "invalid_grant", "error_description": description})


def test_token_refused(command, service_account: Checkout, google: FakeGoogle) -> None:
    google.replies["token"] = invalid_grant("Invalid JWT Signature.")
    parts = ("refuses a token", EMAIL, "key.json", "Invalid JWT Signature", "keys create", f"--iam-account={EMAIL}")
    refused(command("storage", PATIENT), *parts)


def test_clock_skew(command, service_account: Checkout, google: FakeGoogle) -> None:
    google.replies["token"] = invalid_grant("Invalid JWT: Token must be short-lived and in a reasonable timeframe.")
    refused(command("storage", PATIENT), "clock is wrong", "timedatectl")
    google.clock_ahead_s = 3600
    refused(command("storage", PATIENT), "clock is 60 minutes behind", "timedatectl")


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b"<html>Sign in to the hotel's network</html>"),
        Reply(body=b'"text"'),
        Reply(body={"id_token": "s3cret"}),
        Reply(body={"access_token": TOKEN, "expires_in": "soon"}),
        Reply(302, headers={"Location": "http://127.0.0.1:1/"}),
        Reply(200, b"\xff\xfe\x00"),
    ],
)
def test_malformed_token(command, service_account: Checkout, google: FakeGoogle, reply: Reply) -> None:
    google.replies["token"] = reply
    refused(command("storage", PATIENT), EMAIL)


def test_token_server_in_trouble(command, service_account: Checkout, google: FakeGoogle) -> None:
    google.replies["token"] = Reply(503)
    refused(command("storage", PATIENT), f"{google.host} answers 503", "try again")


def test_token_not_accepted(command, service_account: Checkout, google: FakeGoogle) -> None:
    google.replies["list"] = Reply(401, {"error": {"message": "Invalid Credentials"}})
    refused(command("storage", PATIENT), "does not accept the token", EMAIL, "Invalid Credentials")


# Permissions


def test_no_permission(command, service_account: Checkout, google: FakeGoogle) -> None:
    google.denies()
    parts = (f"{EMAIL} (", "lacks storage.objects.list on gs://my-bucket", f"{GRANT}storage.objectViewer")
    refused(command("storage", PATIENT), *parts)
    refused(command("storage", "storage.needs=write", PATIENT), f"{GRANT}storage.objectUser")


def test_listing_without_reading(command, service_account: Checkout, google: FakeGoogle) -> None:
    google.denies("storage.objects.list")
    refused(command("storage", PATIENT), "lacks storage.objects.get", f"{GRANT}storage.objectViewer")


def test_reading_without_writing(command, service_account: Checkout, google: FakeGoogle) -> None:
    google.denies("storage.objects.get", "storage.objects.list")
    said = lines(command("storage", PATIENT))
    assert said["reading"] == "allowed"
    assert said["writing"].startswith("not allowed") and said["writing"].endswith(f"{GRANT}storage.objectUser")
    parts = ("lacks storage.objects.create", f"{GRANT}storage.objectUser")
    refused(command("storage", "storage.needs=write", PATIENT), *parts)


@pytest.mark.parametrize("reply", [Reply(404), Reply(501), Reply(403, b"no"), Reply(body=b"[]"), Reply(405)])
def test_server_without_permissions(command, service_account: Checkout, google: FakeGoogle, reply: Reply) -> None:
    google.replies["permissions"] = reply
    said = lines(command("storage", PATIENT))
    assert "listing works" in said["reading"] and "not checked" in said["writing"]


def test_refused_for_another_reason(command, service_account: Checkout, google: FakeGoogle) -> None:
    message = "The billing account for the owning project is disabled in state absent"
    google.replies["list"] = Reply(403, {"error": {"message": message}})
    refused(command("storage", PATIENT), "billing account", "no missing role")


def test_not_public(command, checkout: Checkout, google: FakeGoogle) -> None:
    checkout.remote(url="gs://my-bucket/dvc", endpointurl=google.url, allow_anonymous_login="true")
    message = "Anonymous caller does not have storage.objects.list access to the Google Cloud Storage bucket."
    google.replies["list"] = Reply(401, {"error": {"message": message}})
    refused(command("storage", PATIENT), "is not public", "take allow_anonymous_login out")


@pytest.mark.parametrize(
    "reply", [Reply(body=b"<html>Welcome</html>"), Reply(body=b"{}]"), Reply(302), Reply(418), Reply(404, b"<html>")]
)
def test_malformed_answers(command, service_account: Checkout, google: FakeGoogle, reply: Reply) -> None:
    google.replies["list"] = reply
    refused(command("storage", PATIENT), f"answers {reply.status} with something", "endpointurl")


def test_a_redirection_does_not_get_the_token(command, service_account: Checkout, google: FakeGoogle) -> None:
    google.replies["list"] = Reply(307, headers={"Location": f"{google.url}/elsewhere"})
    refused(command("storage", PATIENT), "answers 307")
    assert not [path for path, _, _ in google.seen if path == "/elsewhere"]


# The command around it


def test_not_in_a_checkout(command, checkout: Checkout) -> None:
    refused(command("storage"), "not in a DVC checkout", "storage.url=")


def test_unknown_remote(command, service_account: Checkout) -> None:
    refused(command("storage", "storage.remote=other"), "no remote 'other'", "there are: storage")
    assert "(remote 'storage')" in lines(command("storage", "storage.remote=storage", PATIENT))["bucket"]


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["storage.url=s3://x"], "gs://bucket/prefix"),
        (["storage.url=gs://abc", "storage.remote=a"], "one of them"),
        (["storage.timeout_s=0"], "storage.timeout_s=0"),
        (["storage.needs=all"], "storage.needs=all"),
        (["storage.remotes=a"], "storage.remote"),
    ],
)
def test_keys(command, checkout: Checkout, overrides: list[str], part: str) -> None:
    refused(command("storage", *overrides), part)


def test_extra_not_installed(service_account: Checkout, tmp_path: Path) -> None:
    """In an interpreter that has every package of this one but those."""
    import site

    without = tmp_path / "site"
    without.mkdir()
    for entry in Path(site.getsitepackages()[0]).iterdir():
        if not entry.name.startswith(("dvc", "gcsfs", "google")):
            (without / entry.name).symlink_to(entry)
    source = Path(__file__).parents[2] / "src"
    environment = os.environ | {"PYTHONPATH": f"{source}{os.pathsep}{without}"}
    done = subprocess.run(
        [sys.executable, "-S", "-m", "landuse.storage"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "cloud extra is not installed (missing: google.auth, dvc, dvc_gs, gcsfs)" in done.stderr
    assert "make setup" in done.stderr


def test_nothing_heavy_is_imported(service_account: Checkout, google: FakeGoogle) -> None:
    """A process of its own: what it loads is what the user waits for."""
    program = (
        "import sys, runpy\n"
        f"sys.argv = ['storage', {PATIENT!r}]\n"
        "try:\n    runpy.run_module('landuse.storage', run_name='__main__')\nfinally:\n"
        "    heavy = ('torch', 'numpy', 'dvc', 'gcsfs', 'requests', 'rich')\n"
        "    print('LOADED', [name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=service_account.root, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "LOADED []" in done.stdout
