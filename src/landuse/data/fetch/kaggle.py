"""kaggle://owner/dataset[?version=N]: a dataset's zip from Kaggle's REST API, with the user's own token."""

import json
import os
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from landuse.data.fetch.failures import FetchError
from landuse.data.fetch.places import Login, Place, basic, bearer

ENDPOINT = "https://www.kaggle.com"  # KAGGLE_API_ENDPOINT goes before it, as in Kaggle's own client
GET_TOKEN = (
    "make one under Settings, API at https://www.kaggle.com/settings and save it as ~/.kaggle/kaggle.json, or set "
    "KAGGLE_USERNAME and KAGGLE_KEY (or KAGGLE_API_TOKEN)"
)
NEW_TOKEN = GET_TOKEN.replace("make one", "make a new one", 1)


def find(url: str) -> Place:
    """The request that downloads the dataset.

    Raises:
        FetchError: there is no token, or its file is damaged.
    """
    owner, dataset, version = split(url)
    endpoint = os.environ.get("KAGGLE_API_ENDPOINT") or ENDPOINT
    query = f"?datasetVersionNumber={version}" if version else ""
    page = f"https://www.kaggle.com/datasets/{owner}/{dataset}"
    return Place(
        f"{endpoint.rstrip('/')}/api/v1/datasets/download/{owner}/{dataset}{query}",
        login(),
        refusals={
            401: FetchError("Kaggle does not accept your token (401)", NEW_TOKEN),
            403: FetchError(
                "Kaggle refuses it to your account (403)",
                f"log in at {page} and accept what it asks there, or make a new token under Settings, API",
            ),
            404: FetchError(f"Kaggle has no such dataset or version (404), see {page}", "correct it", is_final=True),
        },
    )


def split(url: str) -> tuple[str, str, int | None]:
    """Owner, dataset and version, if any, of a kaggle:// address.

    Raises:
        ValueError: it is not of that form.
    """
    parts = urlsplit(url)
    dataset = parts.path.strip("/")
    version = parse_qs(parts.query, strict_parsing=True, keep_blank_values=True) if parts.query else {}
    numbers = version.pop("version", [])
    if not (parts.netloc and dataset) or "/" in dataset or version or len(numbers) > 1:
        raise ValueError(url)
    return parts.netloc, dataset, int(numbers[0]) if numbers else None


def login() -> Login:
    """The user's token, from where Kaggle's own client looks for it.

    Raises:
        FetchError: there is none, or its file is damaged.
    """
    if token := os.environ.get("KAGGLE_API_TOKEN"):
        return bearer(token)
    user, key = os.environ.get("KAGGLE_USERNAME"), os.environ.get("KAGGLE_KEY")
    if user and key:
        return basic(user, key)
    folder = os.environ.get("KAGGLE_CONFIG_DIR")
    folders = [Path(folder)] if folder else [Path.home() / ".kaggle", Path.home() / ".config" / "kaggle"]
    for file in (folder / "kaggle.json" for folder in folders):
        if not file.exists():
            continue
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            return basic(str(content["username"]), str(content["key"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            cause = f"the Kaggle token {file} cannot be read or lacks username and key"
            raise FetchError(cause, NEW_TOKEN) from error
    raise FetchError("Kaggle asks for your token and there is none", GET_TOKEN)
