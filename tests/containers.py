"""Images built and run by buildah, which needs neither a daemon nor a registry: what the tests of docker/ share."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Layers stay here between calls; removed by hand (`buildah --root STORE/storage ... prune`).
STORE = Path(os.environ.get("LANDUSE_CONTAINER_STORE", "/var/tmp/landuse-containers"))
BASE = "localhost/landuse-base:bookworm"
CERTIFICATES = Path("/etc/ssl/certs")  # of the host, for networks with a certificate authority of their own
TOOLS = ("buildah", "debootstrap")
MOST_FILES = 16_384  # open ones, of a container


def buildah(*arguments: str, timeout_s: float = 60) -> str:
    """What it prints; its own words on stderr when it fails."""
    store = ["--root", str(STORE / "storage"), "--runroot", str(STORE / "run"), "--storage-driver", "overlay"]
    done = subprocess.run(["buildah", *store, *arguments], capture_output=True, text=True, timeout=timeout_s, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def base_image() -> str:
    """A small Debian with Python, made here once: what python:3.13-slim is where a registry can be reached."""
    if BASE not in buildah("images", "--format", "{{.Name}}:{{.Tag}}"):
        tree = STORE / "base"
        shutil.rmtree(tree, ignore_errors=True)
        command = [
            "debootstrap",
            "--variant=minbase",
            "--include=python3,python3-venv,ca-certificates",
            "bookworm",
            tree,
        ]
        subprocess.run(command, check=True, timeout=900, capture_output=True)
        container = buildah("from", "scratch").strip()
        buildah("add", container, str(tree), "/", timeout_s=300)
        buildah("commit", "--rm", container, BASE, timeout_s=300)
        shutil.rmtree(tree)
    return BASE


def build(name: str, **arguments: str) -> str:
    """Build docker/<name>.Dockerfile with build arguments; the image's name. Unchanged layers are taken as they are."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    arguments = {"BASE_IMAGE": base_image(), "GIT_COMMIT": commit.strip(), **arguments}
    image = f"localhost/landuse-{name}"
    buildah(
        "bud", "--isolation", "chroot", "--format", "docker", "--layers", "-t", image,
        "-f", f"docker/{name}.Dockerfile",
        "-v", f"{CERTIFICATES}:{CERTIFICATES}:ro",
        *(f"--env={key}={CERTIFICATES}/ca-certificates.crt" for key in ("SSL_CERT_FILE", "PIP_CERT")),
        *(f"--build-arg={key}={value}" for key, value in arguments.items()),
        ".", timeout_s=3000,
    )  # fmt: skip
    return image


def settings(image: str) -> dict[str, object]:
    """The image's configuration: Entrypoint, Env, User, Labels, ..."""
    found: dict[str, object] = json.loads(buildah("inspect", "--type", "image", image))["Docker"]["config"]
    return found


@contextmanager
def container(image: str, *arguments: str, volumes: dict[Path, str] | None = None) -> Iterator["subprocess.Popen[str]"]:
    """The image's entry point with its user and environment, as `docker run` would start it; stopped at the end."""
    name = buildah("from", "--ulimit", f"nofile={MOST_FILES}:{MOST_FILES}", image).strip()
    entry = settings(image)["Entrypoint"]
    mounts = [word for outside, inside in (volumes or {}).items() for word in ("-v", f"{outside}:{inside}")]
    command = [
        "buildah", "--root", STORE / "storage", "--runroot", STORE / "run", "--storage-driver", "overlay", "run",
        "--isolation", "chroot", *mounts, name, "--", *entry, *arguments,  # type: ignore[misc]
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=60)
        buildah("rm", name)
