"""The page of all configuration keys, from the dataclasses of landuse.config.schema and the comments beside them."""

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from landuse.config import schema

CONF = Path(__file__).parents[2] / "conf"
SCHEMA = Path(schema.__file__)
RECIPES = {
    "experiment": "`experiment=NAME`: a training whose result was measured.",
    "debug": "`+debug=NAME`: small trainings that answer one question.",
    "sweeps": "`python -m landuse.sweep name=NAME`: a search.",
}
INTRODUCTION = """# Configuration

Every key of every command, with its type, its default before any group is chosen, and its meaning. A key is set on the
command line, `trainer.lr=0.01`; a group by its name, `augment=strong`, which sets several keys at once. A key that does
not exist is refused, with the nearest that does. `python -m landuse.train --cfg job` prints the composed tree.
"""


@dataclasses.dataclass
class Key:
    """One field of a dataclass."""

    name: str
    type: str
    default: Any  # dataclasses.MISSING where it is a dataclass itself
    meaning: str


def page() -> str:
    """The whole page, as Markdown."""
    lines = [INTRODUCTION, "## Top level", "", *_table("", read_keys(schema.Config))]
    for field in dataclasses.fields(schema.Config):
        if dataclasses.is_dataclass(field.type):
            lines += _group(field.name, field.type)
            if field.name == "model":
                for kind, node in schema.MODEL_KINDS.items():
                    lines += ["", f"### model.kind={kind}", "", _doc(node), "", *_table("model.", own_keys(node), kind)]
    lines += ["", "## Recipes", ""]
    for group, meaning in RECIPES.items():
        lines += [f"**{group}** – {meaning}", "", *_choices(group), ""]
    return "\n".join(lines) + "\n"


def own_keys(node: type) -> list[Key]:
    """The keys that a dataclass has and those that it is derived from have not, or with another default."""
    return [key for key in read_keys(node) if key.name in node.__annotations__]


def read_keys(node: Any) -> list[Key]:
    """All fields of a dataclass, with the comments of the line that declares each."""
    comments: dict[str, tuple[str, str]] = {}
    for base in reversed(node.__mro__[:-1]):
        comments |= _declared(base.__name__)
    return [
        Key(field.name, _type(comments[field.name][0]), _default(field), comments[field.name][1])
        for field in dataclasses.fields(node)
    ]


def _declared(class_name: str) -> dict[str, tuple[str, str]]:
    """Field -> (its annotation as written, its comment), of the class's own fields."""
    source = SCHEMA.read_text(encoding="utf-8")
    rows = source.splitlines()
    tree = ast.parse(source)
    class_ = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name)
    found = {}
    for node in class_.body:
        if isinstance(node, ast.AnnAssign):
            comment = rows[node.end_lineno - 1][node.end_col_offset :].partition("# ")[2]  # type: ignore[operator]
            for row in rows[node.end_lineno :]:  # a comment that goes on below
                if not row.lstrip().startswith("# "):
                    break
                comment += f" {row.strip()[2:]}"
            found[ast.unparse(node.target)] = (ast.unparse(node.annotation), comment)
    return found


def _type(annotation: str) -> str:
    """The type in words that YAML's writers use."""
    literal = re.fullmatch(r"Literal\[(.+)\]", annotation)
    if literal:
        return " or ".join(f"`{choice}`" for choice in ast.literal_eval(f"[{literal[1]}]"))
    words = {
        "str": "text", "int": "integer", "float": "number", "bool": "true or false", "None": "null",
        "list[str]": "list of texts", "list[int]": "list of integers", "list[float]": "list of numbers",
        "dict[str, Any]": "mapping",
    }  # fmt: skip
    return " or ".join(words.get(part, part) for part in annotation.split(" | "))


def _default(field: "dataclasses.Field[Any]") -> Any:
    if dataclasses.is_dataclass(field.type):
        return dataclasses.MISSING
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def as_yaml(value: Any) -> str:
    """A value as it is written in YAML and on the command line."""
    return yaml.safe_dump(value, default_flow_style=True, width=1000).strip().removesuffix("\n...").strip()


def _group(name: str, node: Any) -> Iterator[str]:
    yield from ["", f"## {name}", "", _doc(node), ""]
    if (CONF / name).is_dir():
        yield from [f"Choices of `{name}=`:", "", *_choices(name), ""]
    yield from _table(f"{name}.", read_keys(node))
    for field in dataclasses.fields(node):
        if dataclasses.is_dataclass(field.type):
            yield from ["", f"### {name}.{field.name}", "", _doc(field.type), ""]
            yield from _table(f"{name}.{field.name}.", read_keys(field.type))


def _table(prefix: str, keys: list[Key], variant: str = "") -> Iterator[str]:
    plain = [key for key in keys if key.default is not dataclasses.MISSING]
    if not plain:
        return
    yield from ['<div class="keys" markdown>', "", "| key | type | default | meaning |", "|---|---|---|---|"]
    for key in plain:
        name = f"{prefix}{key.name}"
        anchor = f"{name}.{variant}" if variant else name
        link = f"[`{name}`](#{anchor}){{ #{anchor} }}"
        yield f"| {link} | {key.type} | `{as_yaml(key.default)}` | {escaped(key.meaning)} |"
    yield from ["", "</div>"]


def _choices(group: str) -> Iterator[str]:
    for path in sorted((CONF / group).glob("*.yaml")):
        rows = [row[2:] for row in path.read_text(encoding="utf-8").splitlines() if row.startswith("# ")]
        comment = " ".join(row.strip() for row in rows if not row.startswith("@package"))
        sentence = re.split(r"(?<=[.?!])\s+(?=[A-Z+`])", comment)[0].strip() if comment else ""
        yield f"* `{path.stem}`" + (f" – {escaped(sentence.rstrip('.'))}" if sentence else "")


def _doc(node: Any) -> str:
    return re.sub(r"``([^`]+)``", r"`\1`", " ".join((node.__doc__ or "").split()))


def escaped(text: str) -> str:
    """Text in which, outside code, <names> are no HTML and other marks no Markdown."""
    parts = re.split(r"(`[^`]*`)", text)
    parts[::2] = [re.sub(r"[<>*_|\[\]]", lambda mark: f"&#{ord(mark[0])};", part) for part in parts[::2]]
    return "".join(parts)
