"""MkDocs hook: the reference pages, written anew from the sources at each build and never checked in.

The configuration's page comes from the dataclasses and their comments (docs/hooks/keys.py), the commands' page from the
docstrings of the commands, and the API's pages ask mkdocstrings for the modules of each package. Sources are read, not
imported, but for the schema, which needs neither torch nor W&B.
"""

import ast
import re
from pathlib import Path

import keys  # MkDocs looks for what a hook imports beside it
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/landuse"
# Each command with the keys that matter to it, in the order of a model's life.
COMMANDS = {
    "download": ["data"],
    "preprocess": ["data"],
    "train": ["model", "data", "augment", "trainer", "hardware", "tracking", "seed", "run_name", "outputs"],
    "sweep": ["trainer.monitor"],
    "evaluate": ["run", "evaluation", "trainer.device", "data.home"],
    "report": ["run", "runs", "report"],
    "reproduce": ["run", "trainer.device", "data.home"],
    "track": ["run", "tracking"],
    "export": ["run", "export", "hardware.num_threads", "data.home"],
    "predict": ["run", "variant", "input", "predict", "data.quality.value_range"],
    "serve": ["run", "variant", "serve", "drift"],
    "map": ["run", "variant", "input", "output", "shard", "map", "trainer.device"],
    "drift": ["run", "variant", "input", "drift"],
    "storage": ["storage"],
    "params": ["experiment"],
}
STATUS = {"UserError": "2", "Interrupted": "130 or 143"}  # of the exceptions that docstrings name; all others: 1


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {"configuration": keys.page(), "commands": commands_page()} | api_pages()
    for name, text in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def commands_page() -> str:
    """All commands: what each does, the keys that matter to it, and how it ends."""
    lines = [
        "# Commands",
        "",
        "Each is `python -m landuse.<name> [key=value ...]` and, but for `params`, installed as `landuse-<name>`."
        " All compose [one configuration](configuration.md); named here are the keys that matter"
        " most. How overrides are written, what `--cfg job` and `--help` do, and what an exit status means:"
        " [command line](../command-line.md).",
    ]
    for name, matters in COMMANDS.items():
        lines += ["", *_command(name, matters)]
    return "\n".join(lines) + "\n"


def _command(name: str, matters: list[str]) -> list[str]:
    module = ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))
    head, _, rest = (ast.get_docstring(module) or "").partition("\n\n")
    summary = _markdown(head.partition(": ")[2].partition(" What it does: ")[0])
    functions = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
    body, raises = _docstring(functions[name]) if name in functions else ("", [])
    lines = [f"## {name}", "", f"{summary[0].upper()}{summary[1:]}", ""]
    lines += [_markdown(part) + "\n" for part in (rest, body) if part]
    usage = next(
        (n.value for n in module.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "USAGE"), None
    )
    if usage is not None:
        lines += ["```text", str(ast.literal_eval(usage)), "```", ""]
    links = [f"`{key}=`" if key == "experiment" else f"[`{key}`](configuration.md#{key})" for key in matters]
    lines += [f"Keys: {', '.join(links)}.", "", "| status | when |", "|---|---|", "| 0 | done |"]
    return lines + [f"| {STATUS.get(error, '1')} | {_markdown(when)} |" for error, when in raises]


def _docstring(function: ast.FunctionDef) -> tuple[str, list[tuple[str, str]]]:
    """What the docstring says, without its sections, and what it says of each exception."""
    text = ast.get_docstring(function) or ""
    raises = text.partition("\nRaises:\n")[2].partition("\n\n")[0]
    body = re.split(r"\n(?:Raises|Returns|Args):\n", text)[0]
    joined = re.sub(r"\n {8,}", " ", raises)
    return body.strip(), re.findall(r"^ {4}(\w+): (.+)$", joined, re.M)


def _markdown(text: str) -> str:
    """Plain Markdown of a docstring's reStructuredText."""
    return keys.escaped(re.sub(r"(?::\w+:)?(`+)~?([^`]+)\1", r"`\2`", text).strip())


def api_pages() -> dict[str, str]:
    """A page for each package, with all of its modules."""
    pages = {}
    for folder in sorted(path.parent for path in PACKAGE.glob("*/__init__.py")):
        files = sorted(path for path in folder.rglob("*.py") if path.name != "__init__.py")
        names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in files]
        docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
        head = [f"# landuse.{folder.name}", "", _markdown(docstring or "")]
        pages[f"api/{folder.name}"] = "\n".join(head + [f"\n::: {name}" for name in names]) + "\n"
    return pages
