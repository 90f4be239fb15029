"""MkDocs hook: the front page takes its text from README.md, and links that leave docs/ do not break the site.

The pages are read in two places, in the repository and as a site. Links such as ``../conf/experiment`` work in the
first alone: on the site they become plain code, or links into ``repo_url`` where mkdocs.yml names one.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
FRONT = "<!-- front page -->"  # stands before and after that part of README.md, and where index.md takes it
# Code first, so that what looks like a link in there is left alone.
LINK = re.compile(
    r"(?P<code>^(?P<fence>```|~~~)(?s:.*?)^(?P=fence)|^ {4,}.*$|`[^`\n]*`(?!\]))"
    r"|(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)",
    re.M,
)


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """The page as the site shows it."""
    folder = posixpath.join("docs", posixpath.dirname(page.file.src_uri))
    if FRONT in markdown:
        markdown = markdown.replace(FRONT, rewrite(front_page(), "", folder, config.repo_url))
    return rewrite(markdown, folder, folder, config.repo_url)


def front_page() -> str:
    """What README.md and the site's front page have in common."""
    return (ROOT / "README.md").read_text(encoding="utf-8").split(FRONT)[1]


def rewrite(markdown: str, written_in: str, shown_in: str, repo_url: str | None) -> str:
    """Links between pages as they are seen from ``shown_in``, all others into the repository, or as plain code.

    Args:
        markdown: the text.
        written_in: the folder, from the repository's root, which its links are relative to.
        shown_in: the folder below ``docs`` of the page that it is part of.
        repo_url: the repository's address, where it has one.
    """

    def replaced(match: re.Match[str]) -> str:
        target = match["target"]
        if match["code"] is not None or re.match(r"#|//|[A-Za-z]+:", target):
            return match[0]
        path, hash_, anchor = posixpath.normpath(posixpath.join(written_in, target)).partition("#")
        if path == "README.md":
            path = "docs/index.md"
        if path.startswith("docs/"):
            return f"{match['image']}[{match['text']}]({posixpath.relpath(path, shown_in)}{hash_}{anchor})"
        if repo_url:
            return f"[{match['text']}]({repo_url.rstrip('/')}/blob/HEAD/{path}{hash_}{anchor})"
        return f"`{match['text'].strip('`')}`"

    return LINK.sub(replaced, markdown)
