"""The images of docker/: what can be said of them without a build, and, on demand, built and run."""

import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
import yaml

from .conftest import overrides
from .containers import ROOT, TOOLS, build, container, settings

DOCKER = ROOT / "docker"
LOCKS = DOCKER / "locks"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
IMAGES = [path.name.removesuffix(".Dockerfile") for path in DOCKERFILES]
BIN = Path(sys.executable).parent


def requirements(lock: Path) -> dict[str, set[str]]:
    """Lines with a version -> their hashes."""
    found: dict[str, set[str]] = {}
    for line in lock.read_text(encoding="utf-8").splitlines():
        if "==" in line:
            name = line.rstrip(" \\")
            found[name] = set()
        elif "--hash=" in line:
            found[name].add(line.strip(" \\"))
    return found


@pytest.mark.parametrize("name", ["serve", "train", "torch-cuda"])
def test_locks_are_parts_of_the_lock(name: str) -> None:
    """Markers may be fewer, where what needs a package on another system is left out."""
    whole = {re.split(" ?;", line)[0]: hashes for line, hashes in requirements(ROOT / "requirements.lock").items()}
    part = requirements(LOCKS / f"{name}.lock")
    assert len(part) > 30
    for line, hashes in part.items():
        assert hashes == whole[re.split(" ?;", line)[0]], f"{line}: make lock"


def test_the_lock_without_gpu_libraries_names_the_same_torch() -> None:
    cuda = requirements(LOCKS / "torch-cuda.lock")
    assert set(requirements(LOCKS / "torch-cpu.lock")) == {line for line in cuda if re.match("torch(vision)?==", line)}


def test_the_service_has_no_torch() -> None:
    names = {line.partition("==")[0] for line in requirements(LOCKS / "serve.lock")}
    assert not names & {"torch", "torchvision", "triton", "wandb", "optuna", "dvc", "matplotlib"}
    assert {"onnxruntime", "fastapi", "uvicorn", "opentelemetry-sdk"} <= names


@pytest.mark.skipif(not (BIN / "hadolint").exists(), reason="hadolint is not installed here")
@pytest.mark.parametrize("path", DOCKERFILES, ids=IMAGES)
def test_hadolint(path: Path) -> None:
    done = subprocess.run([BIN / "hadolint", path], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", DOCKERFILES, ids=IMAGES)
def test_what_is_copied_is_in_the_context(path: Path) -> None:
    """.dockerignore lets through what it names, and nothing else: neither data nor secrets reach a builder."""
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"
    for line in re.findall(r"^COPY (?!--from)(?:--chown=\S+ )?(.+)$", path.read_text(), re.MULTILINE):
        for source in line.split()[:-1]:
            for name in ("cuda", "cpu") if "${TORCH}" in source else ("",):
                file = source.replace("${TORCH}", name)
                assert (ROOT / file).exists(), line
                assert any(file == entry or file.startswith(f"{entry}/") for entry in let_through), line


def test_compose_names_what_exists() -> None:
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    assert set(services) == {"train", "serve", "prometheus", "grafana"}
    for name, service in services.items():
        build = service.get("build", {})
        assert not build or (ROOT / build["dockerfile"]).is_file()
        assert build or ":" in service["image"].rpartition("/")[2], f"{name} has no pinned version"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        for outside, *_ in (volume.split(":") for volume in service["volumes"]):
            assert not outside.startswith("./") or (DOCKER / outside).exists(), outside
    arguments = services["train"]["build"]["args"]
    assert set(arguments) <= set(re.findall(r"^ARG (\w+)", (DOCKER / "train.Dockerfile").read_text(), re.MULTILINE))


def test_dashboard_and_alerts_ask_for_what_the_service_tells() -> None:
    from landuse.serving.metrics import Metrics, gauge, of_processes

    states = ("queue_images", "drift", "drift_window_images")
    metrics = Metrics(lambda: [*(gauge(name, name, 0) for name in states), *of_processes([])])
    metrics.request("/predict", 200, 0.1)
    metrics.refused("busy")
    metrics.answered("forest", 0.9)
    metrics.batch(1, 0.1, 0.1)
    service = (ROOT / "src/landuse/serving/service.py").read_text()
    assert all(f'gauge("{name}"' in service for name in states)
    told = set(re.findall(r"^([a-z_]+)[{ ]", metrics.text().decode(), re.MULTILINE))
    dashboard = json.loads((DOCKER / "grafana/dashboards/landuse.json").read_text())
    rules = yaml.safe_load((DOCKER / "prometheus/alerts.yaml").read_text())["groups"][0]["rules"]
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += [rule["expr"] for rule in rules]
    named = {name for query in asked for name in re.findall(r"\b(?:landuse|process)_[a-z_]+", query)}
    assert named >= {"landuse_requests_total", "landuse_drift"}
    assert named <= told


needs_buildah = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in TOOLS), reason=f"needs {' and '.join(TOOLS)}, and root"
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, image_folder: Path) -> Path:
    """A model of three classes, as the service takes it, that any user may read."""
    where = tmp_path_factory.mktemp("exported")
    run = where / "run"
    made = [*overrides(image_folder, where), f"outputs={where}"]
    for command in (
        ["train", *made, f"hydra.run.dir={run}"],
        ["export", f"run={run}", "export.variants=[fp32]", *made],
    ):
        subprocess.run(
            [sys.executable, "-m", f"landuse.{command[0]}", *command[1:]], check=True, timeout=300, cwd=where
        )
    for folder in (where, *where.parents):
        if folder.is_relative_to(tmp_path_factory.getbasetemp().parent):
            folder.chmod(0o755)
    return run / "export" / "fp32"


@pytest.mark.container
@needs_buildah
def test_the_service_answers(exported: Path, image_folder: Path) -> None:
    image = build("serve")
    about = settings(image)
    assert about["User"] == "10001"
    assert re.fullmatch("[0-9a-f]{40}", about["Labels"]["org.opencontainers.image.revision"])  # type: ignore[index]
    with container(image, "serve.port=8517", volumes={exported: "/model:ro"}) as process:
        for _ in range(100):
            assert process.poll() is None
            with contextlib.suppress(requests.ConnectionError):
                assert requests.get("http://127.0.0.1:8517/readyz", timeout=2).status_code == 200
                break
            time.sleep(0.2)
        picture = next((image_folder / "water").glob("*.png"))
        answer = requests.post("http://127.0.0.1:8517/predict", files={"file": picture.read_bytes()}, timeout=10)
        assert answer.status_code == 200, answer.text
        assert answer.json()["results"][0]["predictions"][0]["class"] in {"field", "roof", "water"}, answer.text
        status = Path(f"/proc/{_inside(process.pid)}/status").read_text()
        assert "Uid:\t10001\t" in status


@pytest.mark.container
@needs_buildah
def test_training_in_a_container(tmp_path: Path) -> None:
    """The embedded dataset; what it wrote is outside, and says which commit the image is of."""
    image = build("train", TORCH="cuda")
    folders = {name: tmp_path / name for name in ("data", "outputs")}
    for folder in folders.values():
        folder.mkdir()
        _give_to_the_image(folder)
    volumes = {folder: f"/work/{name}" for name, folder in folders.items()}
    small = ["model=cnn", "data.synthetic.images_per_class=10", "data.image_size=32", "run_name=small", "model.depth=3"]
    with container(image, *small, "trainer.epochs=3", volumes=volumes) as process:
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
    run = next(folders["outputs"].glob("train/*/small"))
    assert json.loads((run / "summary.json").read_text())["status"] == "completed"
    made_by = json.loads((run / "provenance.json").read_text())
    assert made_by["git_commit"] == settings(image)["Labels"]["org.opencontainers.image.revision"]  # type: ignore[index]
    assert made_by["lock_hash"]
    with container(image, "evaluate", "run=/work/outputs/train/synthetic_cnn/small", volumes=volumes) as process:
        said, _ = process.communicate(timeout=300)
    assert (run / "evaluation.json").is_file(), said


@pytest.mark.container
@needs_buildah
def test_the_pipeline_in_a_container(tmp_path: Path) -> None:
    """Of the copy in the image, and of a checkout that is mounted, whose own code and configuration count."""
    build("train", TORCH="cuda")
    image = build("pipeline", TRAIN_IMAGE="localhost/landuse-train")
    with container(image, "status", "params") as process:
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 0 and "up to date" in said, said
    checkout = tmp_path / "checkout"
    subprocess.run(["git", "clone", "--quiet", ROOT, checkout], check=True)
    recipe = checkout / "conf/experiment/pipeline.yaml"
    recipe.write_text(recipe.read_text().replace("\ntrainer:\n", "\nseed: 4711\ntrainer:\n", 1))
    assert "4711" in recipe.read_text()
    _give_to_the_image(checkout)
    with container(image, "repro", "params", volumes={checkout: "/work"}) as process:
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "seed: 4711" in (checkout / "params.yaml").read_text()


def _give_to_the_image(folder: Path) -> None:
    """All of it to the image's user, who also needs a way there."""
    subprocess.run(["chown", "-R", "10001:0", folder], check=True)
    for above in list(folder.parents)[:3]:
        above.chmod(0o755)


def _inside(pid: int) -> int:
    """The process that a chain of single children ends in."""
    while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        pid = int(children[0])
    return pid
