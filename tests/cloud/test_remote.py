"""Remotes are found as DVC finds them."""

import pytest

from landuse.cloud import remote as remotes
from landuse.config.schema import StorageConfig
from landuse.errors import UserError

from .conftest import Checkout

NO_REMOTE = "[core]\n    analytics = false\n"


def find(checkout: Checkout, **keys: str) -> remotes.Remote:
    return remotes.find(StorageConfig(**keys), checkout.root)


def write(checkout: Checkout, level: str, text: str) -> None:
    if level in ("config", "config.local"):
        checkout.config(text, level)
    else:
        (checkout.root / "elsewhere" / f"dvc_{level}_config_dir" / "config").write_text(text)


def test_the_same_as_dvc(checkout: Checkout) -> None:
    """Four levels, capitals, a relative, an absolute and a home path, one remote built upon another, interpolation."""
    dvc_config = pytest.importorskip("dvc.config")
    from dvc.fs import get_fs_config

    write(
        checkout, "system", "[core]\n remote = base\n['remote \"base\"']\n url = gs://system-bucket\n projectname = p\n"
    )
    write(checkout, "global", "['remote \"base\"']\n url = gs://base-bucket/top\n credentialpath = keys/global.json\n")
    write(checkout, "config", (
        "[core]\n remote = Storage\n['remote \"Storage\"']\n URL = remote://base/dvc/\n endpointurl = http://localhost:1\n"
        "['remote \"home\"']\n url = gs://home-bucket/%(where)s\n where = here\n credentialpath = ~/key.json\n"
        "['remote \"public\"']\n url = gs://public-bucket\n allow_anonymous_login = True\n"
    ))  # fmt: skip
    write(
        checkout, "config.local", "['remote \"storage\"']\n credentialpath = ../key.json\n[core]\n remote = STORAGE\n"
    )
    theirs = dvc_config.Config(checkout.root / ".dvc", validate=False)
    default, sections = remotes.read(checkout.root / ".dvc")
    assert default is not None and default.value == theirs["core"]["remote"] == "STORAGE"
    assert sorted(sections) == sorted(theirs["remote"])
    for name in sections:
        ours, expected = find(checkout, remote=name), get_fs_config(theirs, name=name)
        assert ours.url == expected["url"].rstrip("/")
        assert (ours.project.value if ours.project else None) == expected.get("projectname")
        assert ours.anonymous == (expected.get("allow_anonymous_login") == "True")
        path = expected.get("credentialpath")
        assert (ours.credentialpath.value if ours.credentialpath else None) == (str(path) if path else None)
    local = checkout.root / ".dvc" / "config.local"
    assert find(checkout).credentialpath == (str(checkout.root / "key.json"), local, "--local")
    assert find(checkout).endpoint == "http://localhost:1"


def test_found_from_a_folder_below(checkout: Checkout) -> None:
    checkout.remote(url="gs://my-bucket/a/b/")
    (below := checkout.root / "src" / "deep").mkdir(parents=True)
    found = remotes.find(StorageConfig(), below)
    assert (found.bucket, found.prefix, found.endpoint) == ("my-bucket", "a/b", remotes.GOOGLE)


def test_the_variable_for_emulators(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout.remote(url="gs://my-bucket")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "localhost:9023")
    assert find(checkout).endpoint == "http://localhost:9023"
    assert find(checkout, url="gs://other-bucket").endpoint == "http://localhost:9023"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (NO_REMOTE, ["no default remote", "dvc remote add -d"]),
        ("['remote \"a\"']\n url = gs://abc\n", ["no default remote", "there are: a", "storage.remote="]),
        ("[core]\n remote = b\n['remote \"a\"']\n url = gs://abc\n", ["no remote 'b'", "there are: a"]),
        ("[core]\n remote = a\n['remote \"a\"']\n jobs = 4\n", ["'a' has no url", "dvc remote modify a url"]),
        ("[core]\n remote = a\n['remote \"a\"']\n url = remote://b\n", ["no remote 'b'"]),
        ("[core]\n remote = a\n['remote \"a\"']\n url = remote://a/x\n", ["built upon itself"]),
        ("[core]\n remote = a\n['remote \"a\"']\n url = s3://abc/x\n", ["is s3://", "only gs://"]),
        ("[core]\n remote = a\n['remote \"a\"']\n url = /mnt/dvc\n", ["is a folder", "only gs://"]),
        ("[core]\n remote = a\n['remote \"a\"']\n url = gs://YOUR-BUCKET\n", ["placeholder", "remote modify a url"]),
        ("[core]\n remote = a\n['remote \"a\"']\n url = gs://My_Bucket\n", ["'My_Bucket' cannot be a bucket's name"]),
        ("[core]\n remote = a\n['remote \"a\"']\n url = gs://abc\n endpointurl = local:1\n", ["endpointurl=local:1"]),
        ("[core]\n remote = a\n['remote \"a\"']\n url = gs://abc\n allow_anonymous_login = yes\n", ["true or false"]),
        ("[core\n remote = a\n", [".dvc/config cannot be read"]),
        ("['remote \"a\"']\n url = gs://%(nothing)s\n", [".dvc/config cannot be read"]),
    ],
)  # fmt: skip
def test_faults_in_the_configuration(checkout: Checkout, text: str, shown: list[str]) -> None:
    checkout.config(text)
    with pytest.raises(UserError) as caught:
        find(checkout)
    for part in shown:
        assert part in str(caught.value)


def test_an_address_is_not_quoted(checkout: Checkout) -> None:
    checkout.remote(url="https://me:secret@host/x")
    with pytest.raises(UserError, match="is https://") as caught:
        find(checkout)
    assert "secret" not in str(caught.value)


def test_the_projects_own_remote_is_a_placeholder() -> None:
    """Nobody's data may go to a bucket that somebody else may own."""
    from pathlib import Path

    default, sections = remotes.read(Path(__file__).parents[2] / ".dvc")
    assert default is not None
    if default.file.name == "config":  # not so in a checkout where somebody has set a remote of their own
        url = sections[default.value]["url"]
        assert url.file.name != "config" or url.value.startswith(f"gs://{remotes.PLACEHOLDER}/")
