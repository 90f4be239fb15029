"""What README.md and docs/ name exists: commands, keys, choices; what is generated for the site is complete."""

import dataclasses
import functools
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from landuse.config.folders import config_dir
from landuse.config.schema import MODEL_KINDS, Config
from landuse.models.names import TORCHVISION_CLASSIFIERS
from landuse.sweep import OWN_KEYS
from tests.serving.browser import CHROMIUM, Browser

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
GROUPS = {path.name for path in config_dir().iterdir() if path.is_dir()}
OF_COMMANDS = {"sweep": {*OWN_KEYS, "name"}, "evaluate": {"robustness"}}  # short forms that only these have
OF_OTHERS = (
    "hydra",
    "model.params",
    "runs",
)  # Hydra's own keys, those of the user's model, patterns
THE_MISTAKE = "trainer.epoch=5"  # that the tutorial makes

pytestmark = pytest.mark.filterwarnings("ignore:Implicit conversion from int to float:FutureWarning")
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def command_lines(page: Path) -> Iterator[tuple[str, list[str]]]:
    """The command and the arguments of each line of a code block that starts one of ours."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in re.findall(r"^(?: {4}|\$ )?(?:python -m landuse\.|torchrun .*-m landuse\.|landuse-)(.+)$", text, re.M):
        words = shlex.split(re.split(r";| [>|&]", line)[0], comments=True)
        yield words[0], words[1:]


@functools.cache
def trees() -> dict[str, DictConfig]:
    """The whole configuration, once with each kind of model. What tests set in it does not matter to later ones."""
    return {
        kind: OmegaConf.merge(OmegaConf.structured(Config), {"model": OmegaConf.structured(node)})  # type: ignore[misc]
        for kind, node in MODEL_KINDS.items()
    }


def wrong(argument: str, command: str = "") -> str | None:
    """What is wrong with an override; None if nothing is."""
    override = OverridesParser.create().parse_override(argument)
    key = override.key_or_group
    root = key.partition("[")[0]
    if root in OF_COMMANDS.get(command, ()) or root.startswith(OF_OTHERS) or root.partition("/")[0] == "hydra":
        return None
    if key in GROUPS:
        names = {path.stem for path in (config_dir() / key).glob("*.yaml")}
        names |= set(TORCHVISION_CLASSIFIERS) if key == "model" else set()
        values = override.value().list if override.is_choice_sweep() else [override.value()]
        strange = [value for value in values if str(value) not in names and not str(value).isupper()]
        return f"{key} has no {strange[0]}" if strange else None
    problem = unknown(key)
    if problem or override.is_sweep_override():
        return problem
    parent, _, name = key.rpartition(".")
    for tree in trees().values():
        try:
            OmegaConf.select(tree, parent)[name] = override.value()
            return None
        except (KeyError, OmegaConfBaseException) as error:
            problem = f"{argument}: {error}"
    return problem


def unknown(key: str) -> str | None:
    """What is wrong with a key; None if it is one."""
    parent, _, name = key.rpartition(".")
    nodes = [OmegaConf.select(tree, parent) for tree in trees().values()]
    return None if any(isinstance(node, DictConfig) and name in node for node in nodes) else f"no key {key}"


@each_page
def test_commands_exist(page: Path) -> None:
    named = set(re.findall(r"python -m landuse\.([a-z_]+)", page.read_text(encoding="utf-8")))
    assert [name for name in sorted(named) if importlib.util.find_spec(f"landuse.{name}") is None] == []


@each_page
def test_overrides_of_code_blocks_are_right(page: Path) -> None:
    problems = []
    for command, arguments in command_lines(page):
        for argument in arguments:
            is_left_open = argument.startswith("-") or "..." in argument or "<" in argument
            if "=" in argument and not is_left_open and argument != THE_MISTAKE:
                problems.append(wrong(argument, command))
    assert [problem for problem in problems if problem] == []


@each_page
def test_overrides_of_the_text_are_right(page: Path) -> None:
    problems = []
    for code in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", page.read_text(encoding="utf-8")):
        for word in code.split():
            found = re.fullmatch(r"\+?(([a-z]+)(?:\.[a-z_]+)+)=(.*)", word)
            if found and found[2] in {field.name for field in dataclasses.fields(Config)}:  # others are not ours
                is_value = re.fullmatch(r"[\w./:-]+", found[3]) and "..." not in found[3]
                problems.append(wrong(f"{found[1]}={found[3]}") if is_value else unknown(found[1]))
    assert [problem for problem in problems if problem] == []


@pytest.mark.parametrize(
    "argument", ["trainer.epoch=5", "trainer.optimizer=lion", "augment=weak", "trainer.epochs=many"]
)
def test_notices_what_is_wrong(argument: str) -> None:
    assert wrong(argument)


@pytest.fixture(scope="module")
def keys() -> ModuleType:
    """docs/hooks/keys.py, which is no part of the package."""
    return _hook("keys")


def _hook(name: str) -> ModuleType:
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/hooks/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _fields(node: Any, prefix: str = "") -> Iterator[tuple[str, "dataclasses.Field[Any]"]]:
    for field in dataclasses.fields(node):
        if dataclasses.is_dataclass(field.type):
            yield from _fields(field.type, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", field


def test_the_reference_has_every_key_with_its_default_and_meaning(keys: ModuleType) -> None:
    rows = {}
    for row in re.findall(r"^\| \[`.+$", keys.page(), re.M):
        link, kind, default, meaning = re.split(r" \| ", row.strip("| "), maxsplit=3)
        rows[re.search(r"\{ #(\S+) \}", link)[1]] = (default, meaning)  # type: ignore[index]
        assert kind and meaning.strip()
    expected = list(_fields(Config))
    for kind, node in MODEL_KINDS.items():
        expected += [(f"model.{f.name}.{kind}", f) for f in dataclasses.fields(node) if f.name in node.__annotations__]
    for key, field in expected:
        made = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        assert rows[key][0] == f"`{keys.as_yaml(made)}`", key
    assert len(rows) == len(expected)


def test_the_reference_has_every_choice(keys: ModuleType) -> None:
    page = keys.page()
    for path in config_dir().glob("*/*.yaml"):
        assert f"* `{path.stem}`" in page, path


def test_the_reference_has_every_command(keys: ModuleType) -> None:
    page = _hook("reference").commands_page()
    sources = (ROOT / "src/landuse").glob("*.py")
    commands = {path.stem for path in sources if path.read_text().startswith('"""python -m landuse.')}
    assert set(re.findall(r"^## (\w+)$", page, re.M)) == commands
    assert page.count("\n| 2 | ") >= len(commands) - 3


def test_links_out_of_the_pages(keys: ModuleType) -> None:
    rewrite = _hook("links").rewrite
    text = "[`a`](../conf/a.yaml) [b](b.md#c) `[d](../d)` [R](../README.md) [e](https://e.org)"
    plain = "`a` [b](b.md#c) `[d](../d)` [R](index.md) [e](https://e.org)"
    assert rewrite(text, "docs", "docs", None) == plain
    assert rewrite(text, "docs", "docs", "https://h.org/r").startswith("[`a`](https://h.org/r/blob/HEAD/conf/a.yaml) ")
    fenced = "```md\n[a](../conf)\n```\n~~~\n[b](../c)\n~~~\n"
    assert rewrite(fenced + text, "docs", "docs", None) == fenced + plain
    assert rewrite("![x](docs/i/x.png) [y](docs/y.md)", "", "docs", None) == "![x](i/x.png) [y](y.md)"


def test_the_example_of_an_own_model_trains(
    command, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "my_nets", None)  # type: ignore[arg-type]
    monkeypatch.delitem(sys.modules, "my_nets")  # and after the test as it was, for others that have one of this name
    page = (ROOT / "docs/own-model.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    (tmp_path / "my_nets.py").write_text(code)
    train, evaluate, _ = command_lines(ROOT / "docs/own-model.md")
    small = [override for override in tiny if not override.startswith("model")]
    done = command("train", *train[1], *small)
    assert done.status == 0, done.err
    assert "mixer with" in done.err
    done = command("evaluate", *evaluate[1])
    assert done.status == 0, done.err


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for path in (tmp_path / "site").rglob("*.html"):  # nothing is loaded from elsewhere
        assert not re.search(
            r'<(?:script|img|link rel="stylesheet")[^>]+(?:src|href)="(?:https?:)?//', path.read_text()
        ), path
    if CHROMIUM is not None:
        search_from_the_disk(tmp_path)


def search_from_the_disk(folder: Path) -> None:
    """The search of the site in ``folder`` works where no server is, and asks nobody for anything."""
    (folder / "profile").mkdir()
    browser = Browser(folder / "profile")
    try:
        browser.open((folder / "site/tutorial.html").as_uri() + "?q=cutmix")
        browser.wait_for("document.querySelector('.md-search-result__item')")
        assert "CutMix" in browser.text(".md-search-result__list")
        assert [url for url in browser.requests if not url.startswith(("file:", "data:", "about:"))] == []
    finally:
        browser.close()
