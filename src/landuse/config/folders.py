"""Where the configuration's files are, and which folders a run may be put into."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from landuse.errors import UserError

IS_WINDOWS = os.name == "nt"
WINDOWS_DEVICES = r"con|prn|aux|nul|com[1-9¹²³]|lpt[1-9¹²³]|conin\$|conout\$"
LONGEST_NAME = 200  # bytes; file systems take 255, and some files carry a name with something added


def config_dir() -> Path:
    """The folder of YAML files: ``conf/`` of the checkout, or the copy that an installed wheel carries."""
    package = Path(__file__).resolve().parent.parent
    checkout = package.parent.parent / "conf"
    return checkout if (checkout / "config.yaml").is_file() else package / "conf"


def recipes() -> list[str]:
    """The names of the sweeps that ``+sweeps=`` can choose without a ``--config-dir``.

    Raises:
        UserError: the checkout has a file in place of the link to them.
    """
    folder = config_dir() / "sweeps"
    if folder.is_file():  # what git writes for a link where the system grants none
        raise UserError(
            f"{folder} should be a link to the folder {folder.read_text(encoding='utf-8').strip()}: allow links (on "
            "Windows by its developer mode), then git config core.symlinks true and git checkout conf/sweeps."
        )
    return sorted(path.stem for path in folder.glob("*.yaml"))


def run_folder(outputs: str, command: str, *names: str) -> str:
    """The folder of a run; Hydra makes it before the configuration is checked, so its names are looked at here.

    Args:
        names: of the experiment and the run; of a multirun, of the run alone.

    Raises:
        UserError: they are no names of folders, or would lead out of ``outputs``.
    """
    for problem in name_problems(outputs, **dict(zip(("run_name", "experiment_name"), reversed(names), strict=False))):
        raise UserError(problem)
    return str(Path(outputs, command, *names))


def name_problems(outputs: str, **names: str) -> Iterator[str]:
    """What is wrong with the keys that make up the folder of a run.

    Args:
        names: ``experiment_name`` and ``run_name``.
    """
    if not outputs:
        yield "outputs is empty: give the folder for runs, such as outputs=outputs."
    for key, name in names.items():
        if name in (".", "..") or not re.fullmatch(r"[^/\\\x00-\x1f]+", name):
            yield f"{key}={name[:60]}: names one folder below outputs and may be neither empty nor a path."
        elif IS_WINDOWS and not is_windows_name(name):
            yield f"{key}={name[:60]}: is no name that Windows takes for a folder; give another {key}=NAME."
        elif len(name.encode(errors="surrogateescape")) > LONGEST_NAME:
            yield f"{key}={name[:60]}...: is too long ({len(name)} characters); give a shorter {key}=NAME."


def is_windows_name(name: str) -> bool:
    """Whether Windows takes it for a file or folder: no special characters, no device, no dot or space at its end."""
    is_device = re.fullmatch(WINDOWS_DEVICES, name.partition(".")[0].rstrip(), re.IGNORECASE)
    return not (is_device or re.search(r'[<>:"|?*]|[. ]$', name))
