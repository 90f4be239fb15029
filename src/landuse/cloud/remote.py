"""Which bucket DVC would use, found in the files that DVC reads, in its order, by its rules.

``dvc.config`` itself would take longer to import and to build than the rest of the check; a test holds the two equal.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from landuse.cloud.transport import shown
from landuse.config.schema import StorageConfig
from landuse.errors import UserError

GOOGLE = "https://storage.googleapis.com"
PLACEHOLDER = "YOUR-BUCKET"  # in the project's .dvc/config; no bucket can have capitals in its name
BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


class Setting(NamedTuple):
    """A value, the file that gave it, and the option with which ``dvc remote modify`` writes to that file."""

    value: str
    file: Path
    level: str = ""  # --local, --global, --system, or nothing for the repository's own file


Section = dict[str, Setting]


@dataclass(frozen=True)
class Remote:
    """A bucket, the way to it, and what is said about the account."""

    label: str  # for messages: which remote, or storage.url
    bucket: str
    prefix: str  # without slashes at its ends; empty for the whole bucket
    endpoint: str = GOOGLE
    anonymous: bool = False
    credentialpath: Setting | None = None
    project: Setting | None = None
    name: str = ""  # DVC's; empty for storage.url
    level: str = ""  # of its url

    @property
    def url(self) -> str:
        """As DVC writes it."""
        return f"gs://{self.bucket}/{self.prefix}".rstrip("/")

    def readdress(self, url: str) -> str:
        """The command, or key, that gives another address."""
        return _modify(self.level, self.name, "url", url) if self.name else f"storage.url={url}"

    def unset(self, option: str, level: str) -> str:
        """The command that takes a setting out, where it was made."""
        return _modify(f"{level} --unset".strip(), self.name, option)


def find(config: StorageConfig, folder: Path) -> Remote:
    """The place that ``storage.url`` or ``storage.remote`` means, or else DVC's default remote.

    Raises:
        UserError: not in a DVC checkout, no such remote, or no bucket of Google's.
    """
    if config.url is not None:
        bucket, prefix = _split("storage.url", config.url, "give storage.url=gs://bucket/prefix")
        return Remote("storage.url", bucket, prefix, _endpoint(None))
    default, remotes = read(_dvc_dir(folder))
    name = config.remote or (default.value if default else None)
    if name is None:
        known = f" (there are: {', '.join(sorted(remotes))})" if remotes else ""
        cure = f"'dvc remote default NAME'{known} or storage.remote=NAME" if known else "'dvc remote add -d NAME URL'"
        raise UserError(f"DVC has no default remote here: set one with {cure}.")
    section = _section(name.lower(), remotes)
    label = f"remote '{name}'" + ("" if config.remote else ", DVC's default")
    return _remote(name.lower(), label, section)


def read(dvc_dir: Path) -> tuple[Setting | None, dict[str, Section]]:
    """The name of the default remote, and all remotes by name, merged over DVC's four levels.

    Raises:
        UserError: one of the files cannot be read.
    """
    default: Setting | None = None
    remotes: dict[str, Section] = {}
    for level, file in _levels(dvc_dir):
        for title, section in _parse(file).items():
            settings = {key.lower(): Setting(value, file, level) for key, value in section.items()}
            if title.lower() == "core":
                default = settings.get("remote", default)
            elif match := re.fullmatch(r'\s*remote\s*"(.*)"\s*', title.lower()):
                remotes.setdefault(match[1], {}).update(settings)
    return default, remotes


def _dvc_dir(folder: Path) -> Path:
    for candidate in (folder, *folder.parents):
        if (candidate / ".dvc").is_dir():
            return candidate / ".dvc"
        if os.path.ismount(candidate):
            break
    raise UserError(
        f"{folder} is not in a DVC checkout: go to the project's folder (or run 'dvc init' in it), or give "
        "storage.url=gs://bucket/prefix to check a bucket without DVC."
    )


def _levels(dvc_dir: Path) -> Iterator[tuple[str, Path]]:
    """DVC's configuration files with the option of each; a later one goes over an earlier one."""
    import platformdirs

    system = os.environ.get("DVC_SYSTEM_CONFIG_DIR") or platformdirs.site_config_dir("dvc", "iterative")
    user = os.environ.get("DVC_GLOBAL_CONFIG_DIR") or platformdirs.user_config_dir("dvc", "iterative")
    yield "--system", Path(system) / "config"
    yield "--global", Path(user) / "config"
    yield "", dvc_dir / "config"
    yield "--local", dvc_dir / "config.local"


def _parse(file: Path) -> dict[str, dict[str, str]]:
    from configobj import ConfigObj, ConfigObjError  # type: ignore[import-untyped]

    try:
        content = ConfigObj(file.read_text(encoding="utf-8").splitlines()).dict()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ConfigObjError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"DVC's configuration {file} cannot be read ({shown(error)}): mend it by hand.") from error
    return {
        title: {key: str(value) for key, value in section.items()}
        for title, section in content.items()
        if isinstance(section, dict)
    }


def _section(name: str, remotes: dict[str, Section], referred: tuple[str, ...] = ()) -> Section:
    """The settings of a remote, those of the ``remote://`` it is built upon underneath."""
    if name not in remotes:
        cure = f"there are: {', '.join(sorted(remotes))}" if remotes else "make it with 'dvc remote add -d NAME URL'"
        raise UserError(f"DVC has no remote '{name}' here: {cure}.")
    if name in referred:
        raise UserError(f"The remote '{name}' is built upon itself ({' -> '.join((*referred, name))}): mend its url.")
    section = remotes[name]
    if "url" not in section:
        raise UserError(f"The remote '{name}' has no url: 'dvc remote modify {name} url gs://BUCKET/PREFIX'.")
    url = section["url"]
    if not url.value.startswith("remote://"):
        return section
    parts = urlsplit(url.value)
    base = _section(parts.netloc.lower(), remotes, (*referred, name))
    return {**base, **section, "url": url._replace(value=f"{base['url'].value}/{parts.path.lstrip('/')}")}


def _remote(name: str, label: str, section: Section) -> Remote:
    url = section["url"]
    cure = f"set it with '{_modify(url.level, name, 'url', 'gs://BUCKET/PREFIX')}'"
    bucket, prefix = _split(f"the {label} ({url.file})", url.value, cure)
    anonymous = section.get("allow_anonymous_login", Setting("false", url.file))
    if anonymous.value.lower() not in ("true", "false"):
        raise UserError(f"allow_anonymous_login={anonymous.value} in {anonymous.file}: must be true or false.")
    path = section.get("credentialpath")
    return Remote(
        label=label,
        bucket=bucket,
        prefix=prefix,
        endpoint=_endpoint(section.get("endpointurl")),
        anonymous=anonymous.value.lower() == "true",
        credentialpath=path._replace(value=_resolved(path)) if path else None,
        project=section.get("projectname"),
        name=name,
        level=url.level,
    )


def _modify(level: str, name: str, *arguments: str) -> str:
    return " ".join(["dvc remote modify", *([level] if level else []), name, *arguments])


def _split(what: str, url: str, cure: str) -> tuple[str, str]:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme != "gs":
        kind = f"{scheme}://" if separator else "a folder"  # no more of it: an address may hold a password
        other = "choose another with storage.remote=NAME"
        raise UserError(f"{what[0].upper()}{what[1:]} is {kind}; only gs:// can be checked: {cure}, or {other}.")
    bucket, _, prefix = rest.partition("/")
    if bucket == PLACEHOLDER:
        raise UserError(f"{what[0].upper()}{what[1:]} still names the placeholder {PLACEHOLDER}: {cure}.")
    if not BUCKET_NAME.fullmatch(bucket):
        rule = "3 or more lower-case letters, digits, '-', '_' and '.'"
        raise UserError(f"{what[0].upper()}{what[1:]}: '{shown(bucket)}' cannot be a bucket's name ({rule}): {cure}.")
    return bucket, prefix.strip("/")


def _endpoint(setting: Setting | None) -> str:
    """Where the JSON API is, found as gcsfs finds it."""
    emulator = os.environ.get("STORAGE_EMULATOR_HOST", "")
    if setting is None and emulator in ("", "default"):
        return GOOGLE
    if setting is None:
        return (emulator if "://" in emulator else f"http://{emulator}").rstrip("/")
    parts = urlsplit(setting.value)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UserError(f"endpointurl={shown(setting.value)} in {setting.file}: must begin with http:// or https://.")
    return setting.value.rstrip("/")


def _resolved(path: Setting) -> str:
    """DVC takes a relative path from the folder of the file that it stands in."""
    if re.match(r"\w+://", path.value):
        return path.value
    return os.path.abspath(path.file.parent / Path(path.value).expanduser())  # noqa: PTH100  resolve() follows links
