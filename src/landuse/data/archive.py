"""Getting a dataset's archive and making sure that its content is the expected one.

    <home>/downloads/<start of the checksum>-<name>         whole and verified
    <home>/downloads/kaggle@<owner>@<dataset>[@v<N>].zip    the same; with <...>.zip.sha256 where no checksum was given
    <home>/downloads/<...>.part, <...>.part.json            what a broken transfer left; the next call goes on from it

A finished file is hashed whenever it is asked for: a pack is made of it once, and then it is needed no more.
"""

import contextlib
import hashlib
import logging
import re
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from landuse.addresses import shown
from landuse.config.schema import ArchiveConfig
from landuse.data.entries import open_archive
from landuse.data.fetch import kaggle, places, transfer
from landuse.data.fetch.failures import FetchError
from landuse.data.fetch.partial import Partial
from landuse.errors import Interrupted, UserError
from landuse.files import locked, replacing
from landuse.progress import size

log = logging.getLogger(__name__)

CHUNK = 1 << 20  # bytes
ELSEWHERE = "fetch the file elsewhere and give data.archive.url=file://<absolute path>"
BY_HAND = "fetch and unpack it by hand and give data.source=folder data.root=<folder of the class folders>"


@dataclass(frozen=True)
class VerifiedArchive:
    """An archive on this machine whose content has been checked."""

    path: Path
    checksum: str  # the accepted "md5:<hex>" or "sha256:<hex>" that it has; identifies the content


def accepted_checksums(config: ArchiveConfig, home: Path) -> list[str]:
    """The checksums an archive may have: the user's own, the registered ones, or that of the first download.

    None only for what comes from Kaggle without a checksum and has not been downloaded yet.
    """
    if config.sha256 is not None:
        return [f"sha256:{config.sha256.lower()}"]
    return [checksum.lower() for checksum in config.checksums] or _recorded(config, home)


def obtain(config: ArchiveConfig, home: Path) -> VerifiedArchive:
    """The verified archive: a local file where it lies, anything else downloaded into ``home/downloads``.

    Its address and then its mirrors are tried in turn. Of several processes that ask at once one downloads, while the
    others wait for it.

    Raises:
        UserError: no address gives a file with one of the accepted checksums, or it cannot be written; says why.
    """
    addresses = [str(config.url), *config.mirrors]
    is_local = all(_scheme(url) == "file" for url in addresses)
    if not is_local and (found := _downloaded(config, home)) is not None:
        return found  # before the lock, which a folder that others share read-only would not let us take
    with contextlib.nullcontext() if is_local else locked(home, _target(config, home).name):
        if not is_local and (found := _downloaded(config, home)) is not None:
            return found
        if not is_local and _target(config, home).is_file():
            log.warning("%s is damaged: its checksum is another now; downloading it again", _target(config, home))
        failures = []
        for url in addresses:
            try:
                return _from(url, config, home)
            except FetchError as failure:
                failures.append(failure)
                if len(addresses) > 1:
                    log.warning("%s could not be downloaded, because %s", shown(url), failure.cause)
    raise UserError(_explained(addresses, failures, Partial(_target(config, home))))


def local_path(url: str) -> Path:
    """The path of a file:// address."""
    parts = urlsplit(url)
    return Path(urllib.request.url2pathname(parts.netloc + parts.path))


def _scheme(url: str) -> str:
    return url.partition(":")[0].lower()


def _target(config: ArchiveConfig, home: Path) -> Path:
    """Where the download goes.

    It is the address's own name behind the start of the first accepted checksum: another content gets another name.
    """
    url = str(config.url)
    if _scheme(url) == "kaggle":
        owner, dataset, version = kaggle.split(url)
        # Joined by what no part can contain, so that no other dataset has this name.
        return home / "downloads" / f"kaggle@{owner}@{dataset}{f'@v{version}' if version else ''}.zip"
    name = re.sub(r"[^\w.-]", "_", Path(unquote(urlsplit(url).path)).name) or "archive"
    return home / "downloads" / f"{accepted_checksums(config, home)[0].partition(':')[2][:12]}-{name}"


def _record(config: ArchiveConfig, home: Path) -> Path:
    """Where the checksum of the first download is kept, in the form of the command sha256sum."""
    target = _target(config, home)
    return target.with_name(f"{target.name}.sha256")


def _recorded(config: ArchiveConfig, home: Path) -> list[str]:
    if _scheme(str(config.url)) != "kaggle":
        return []
    try:
        found = re.match(r"[0-9a-f]{64}\b", _record(config, home).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return []
    return [f"sha256:{found[0]}"] if found else []


def _downloaded(config: ArchiveConfig, home: Path) -> VerifiedArchive | None:
    """What an earlier call downloaded; None where it is not there or damaged."""
    path = _target(config, home)
    if not path.is_file():
        return None
    try:
        return VerifiedArchive(path, _verify(path, config, home))
    except FetchError:
        return None


def _from(url: str, config: ArchiveConfig, home: Path) -> VerifiedArchive:
    """The verified archive from one address.

    Raises:
        FetchError: it is not there, or another content is.
    """
    if _scheme(url) == "file":
        path = local_path(url)
        if not path.is_file():
            raise FetchError(f"there is no file {path}", "correct the address, which needs an absolute path")
        try:
            return VerifiedArchive(path, _verify(path, config, home))
        except OSError as error:
            raise FetchError(
                f"{path} cannot be read ({error.strerror})", "check its permissions and its disk"
            ) from error
    place = places.find(url, config.timeout)
    part = Partial(_target(config, home))
    limits = transfer.Limits(config.timeout, config.retries)
    while True:
        is_resumed = transfer.is_of(place, part.whole)
        log.info("downloading %s", shown(url))
        try:
            transfer.fetch(place, part, limits)
        except (KeyboardInterrupt, Interrupted):
            if part.whole is not None:
                log.warning(_kept(part))
            raise
        try:
            checksum = _verify(part.path, config, home)
            break
        except FetchError:
            part.discard()
            if not is_resumed:
                raise
            log.warning("what was resumed does not have the right checksum; downloading it anew")
    log.info("downloaded %s", size(part.size))
    part.finish()
    return VerifiedArchive(part.target, checksum)


def _verify(path: Path, config: ArchiveConfig, home: Path) -> str:
    """The accepted checksum that the file has; that of a first download from Kaggle is recorded.

    Raises:
        FetchError: it has none of them.
    """
    accepted = accepted_checksums(config, home)
    hashes = {name: hashlib.new(name) for name in {"sha256", *(checksum.partition(":")[0] for checksum in accepted)}}
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            for digest in hashes.values():
                digest.update(chunk)
    found = {f"{name}:{digest.hexdigest()}" for name, digest in hashes.items()}
    for checksum in accepted:
        if checksum in found:
            return checksum
    sha256 = hashes["sha256"].hexdigest()
    if not accepted:
        _check_whole(path)
        _trust(sha256, config, home)
        return f"sha256:{sha256}"
    cure = "if it is the archive you mean, give its checksum as data.archive.sha256"
    if accepted == _recorded(config, home):
        cure = f"if the dataset was changed on purpose, remove {_record(config, home)}"
    cause = f"its content has the checksum sha256:{sha256}, expected {' or '.join(accepted)}, so it is another"
    raise FetchError(cause, cure, is_final=True)


def _check_whole(path: Path) -> None:
    """Without a checksum, and from a server that names no length, a file that was cut off looks like any other."""
    try:
        open_archive(path, lambda _: False)
    except UserError as error:
        raise FetchError(f"what came is no whole archive: {error}", "try again", is_final=True) from error


def _trust(sha256: str, config: ArchiveConfig, home: Path) -> None:
    record = _record(config, home)
    with replacing(record) as temporary:
        temporary.write_text(f"{sha256}  {_target(config, home).name}\n", encoding="utf-8", newline="\n")
    log.warning(
        "%s has no checksum that is known beforehand. That of this content is kept in %s, and others are refused from "
        "now on; to have the same content elsewhere, give data.archive.sha256=%s",
        shown(str(config.url)), record, sha256,
    )  # fmt: skip


def _explained(addresses: list[str], failures: list[FetchError], part: Partial) -> str:
    """One sentence for one address, with what to do; all reasons for several."""
    otherwise = BY_HAND if any(_scheme(url) == "kaggle" for url in addresses) else ELSEWHERE
    if len(addresses) == 1:
        is_local, failure = _scheme(addresses[0]) == "file", failures[0]
        what = f"data.archive.url={shown(addresses[0])} cannot be used" if is_local else ""
        message = f"{what or f'{shown(addresses[0])} could not be downloaded'}, because {failure.cause}: {failure.cure}"
        message += "." if is_local else f", or {otherwise}."
    else:
        pairs = zip(addresses, failures, strict=True)
        reasons = "; ".join(f"({i}) {shown(url)}, because {failure.cause}" for i, (url, failure) in enumerate(pairs, 1))
        message = f"None of {len(addresses)} addresses gave the archive: {reasons}. Try again later, or {otherwise}."
    return message if part.whole is None else f"{message} {_kept(part)}"


def _kept(part: Partial) -> str:
    assert part.whole is not None
    kept = f"{size(part.size)} of {size(part.whole.length)} are kept in {part.path}"
    return f"{kept}, and the next call goes on from there."
