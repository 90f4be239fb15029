"""A service that many tests ask, of a model that tells colours apart."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serving.running import Running, running
from tests.serving.tiny_model import write_exported


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete exported folder."""
    return write_exported(tmp_path_factory.mktemp("exported") / "fp32")


@pytest.fixture(scope="session")
def service(exported: Path) -> Iterator[Running]:
    """Limits are small, so that tests can reach them."""
    limits = ["serve.max_bytes=300_000", "serve.max_files=4", "serve.max_pixels=1_000_000", "serve.upload_timeout_s=2"]
    with running(exported, *limits, "serve.lanes=2", "serve.max_batch=4") as service:
        yield service


@pytest.fixture
def client(service: Running) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client
