"""Getting a dataset's archive and making sure that its content is the expected one."""

import hashlib
import http.client
import logging
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

from landuse.config.schema import ArchiveConfig
from landuse.errors import UserError
from landuse.files import replacing

log = logging.getLogger(__name__)

TIMEOUT_S = 30  # without a byte from the server
CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class VerifiedArchive:
    """An archive on this machine whose content has been checked."""

    path: Path
    checksum: str  # the accepted "md5:<hex>" or "sha256:<hex>" that it has; identifies the content


def accepted_checksums(config: ArchiveConfig) -> list[str]:
    """The checksums an archive may have: the user's own, or else the registered ones."""
    return [f"sha256:{config.sha256.lower()}"] if config.sha256 is not None else [c.lower() for c in config.checksums]


def obtain(config: ArchiveConfig, home: Path) -> VerifiedArchive:
    """The verified archive; downloads it into ``home/downloads`` unless it is there or its address is a local file.

    Raises:
        UserError: no such file, the download failed, or the content has none of the accepted checksums.
    """
    assert config.url is not None
    if urlparse(config.url).scheme == "file":
        path = local_path(config.url)
        return VerifiedArchive(path, _verify(path, config, config.url))
    path = home / "downloads" / _file_name(config)
    if not path.is_file():
        log.info("downloading %s", config.url)
        with replacing(path) as temporary:
            _download(config.url, temporary)
            _verify(temporary, config, config.url)
    return VerifiedArchive(path, _verify(path, config, str(path)))


def local_path(url: str) -> Path:
    path = Path(urllib.request.url2pathname(urlparse(url).netloc + urlparse(url).path))
    if not path.is_file():
        raise UserError(f"data.archive.url={url}: there is no file {path}. A file:// address needs an absolute path.")
    return path


def _file_name(config: ArchiveConfig) -> str:
    """The address's own name behind the start of the first accepted checksum: another content gets another name."""
    name = Path(unquote(urlparse(config.url or "").path)).name or "archive"
    return f"{accepted_checksums(config)[0].partition(':')[2][:12]}-{name}"


def _download(url: str, target: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, target.open("wb") as file:
            expected = int(response.headers.get("Content-Length") or -1)
            received = 0
            while chunk := response.read(CHUNK):
                file.write(chunk)
                received += len(chunk)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"{url} could not be downloaded ({reason}). Check the network, or fetch the file elsewhere and give "
            "data.archive.url=file://<absolute path>."
        ) from error
    if expected not in (-1, received):
        raise UserError(
            f"{url} broke off after {received} of {expected} bytes; nothing was kept. Run the command again."
        )


def _verify(path: Path, config: ArchiveConfig, origin: str) -> str:
    accepted = accepted_checksums(config)
    hashes = {name: hashlib.new(name) for name in {"sha256", *(checksum.partition(":")[0] for checksum in accepted)}}
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            for digest in hashes.values():
                digest.update(chunk)
    found = {f"{name}:{digest.hexdigest()}" for name, digest in hashes.items()}
    for checksum in accepted:
        if checksum in found:
            return checksum
    raise UserError(
        f"{origin} has the checksum sha256:{hashes['sha256'].hexdigest()}, expected {' or '.join(accepted)}: the file "
        "is damaged or another one. If it is the archive you mean, give its checksum as data.archive.sha256."
    )
