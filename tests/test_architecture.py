"""Who may import whom, as docs/architecture.md says."""

import ast
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "landuse"
NAMES = (
    "download", "drift", "evaluate", "export", "map", "params", "predict", "preprocess", "report", "reproduce", "serve",
    "storage", "sweep", "track", "train",
)  # fmt: skip
COMMANDS = {"landuse.cli", *(f"landuse.{name}" for name in NAMES)}
LIBRARIES = {
    "fastapi", "hydra", "matplotlib", "omegaconf", "numpy", "onnx", "onnxruntime", "torch", "torchvision", "uvicorn",
    "wandb",
}  # fmt: skip
PACKAGES = {
    f"landuse.{name}"
    for name in (
        "cloud",
        "config",
        "data",
        "models",
        "monitoring",
        "training",
        "evaluation",
        "tracking",
        "page",
        "sweeps",
        "exporting",
        "mapping",
        "serving",
    )
}
ALLOWED = {
    "cloud": {"landuse.config"},
    "config": {"hydra", "omegaconf", "landuse.models"},
    "data": {"numpy", "torch", "landuse.cloud", "landuse.config", "landuse.page"},
    "models": {"torch", "torchvision", "landuse.config"},
    "training": {"numpy", "torch"}
    | {f"landuse.{name}" for name in ("config", "data", "models", "monitoring", "evaluation")},
    "evaluation": {"numpy", "matplotlib", "omegaconf", "landuse.config", "landuse.monitoring", "landuse.page"},
    "monitoring": {"numpy", "matplotlib", "landuse.config", "landuse.page"},
    "exporting": {"numpy", "onnx", "onnxruntime", "torch"}
    | {f"landuse.{name}" for name in ("config", "data", "models", "monitoring", "evaluation", "training", "serving")},
    "serving": {"numpy", "fastapi", "onnxruntime", "uvicorn"}
    | {f"landuse.{name}" for name in ("config", "data", "mapping", "models", "monitoring")},
    "mapping": {"numpy", "matplotlib", "torch"}
    | {f"landuse.{name}" for name in ("config", "data", "models", "page", "serving")},
    "page": {"matplotlib"},
    "sweeps": {"numpy", "matplotlib", "omegaconf", "hydra", "torch"}
    | {f"landuse.{name}" for name in ("config", "models", "page", "tracking", "training")},
    "tracking": {"torch", "wandb"} | {f"landuse.{name}" for name in ("config", "data", "evaluation", "training")},
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("package", ALLOWED)
def test_layers(package: str) -> None:
    forbidden = (COMMANDS | LIBRARIES | PACKAGES) - ALLOWED[package] - {f"landuse.{package}"}
    for path in (SRC / package).rglob("*.py"):
        for name in imports(path):
            crossed = {layer for layer in forbidden if name == layer or name.startswith(layer + ".")}
            assert not crossed, f"{path.relative_to(SRC)} imports {name}"


def test_nobody_imports_a_command() -> None:
    for path in SRC.rglob("*.py"):
        crossed = imports(path) & (COMMANDS - {"landuse.cli"})
        assert not crossed, f"{path.relative_to(SRC)} imports {crossed}"
        if f"landuse.{path.stem}" not in COMMANDS or path.parent != SRC:
            assert "landuse.cli" not in imports(path), path


def test_files_and_functions_stay_short() -> None:
    """About 400 lines a file and 60 a function."""
    plugins = SRC.parent / "hydra_plugins"
    for path in (*SRC.rglob("*.py"), *plugins.glob("*.py"), *Path(__file__).parent.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 62, f"{path}: {node.name}"


def test_hydra_finds_the_sweeper_and_imports_little_for_it() -> None:
    """Hydra imports the plugin at every start of every application."""
    plugins = SRC.parent / "hydra_plugins"
    assert not (plugins / "__init__.py").exists()
    for node in ast.parse((plugins / "landuse_sweeper.py").read_text(encoding="utf-8")).body:
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        tops = {name.partition(".")[0] for name in names}
        assert tops <= {"hydra", "omegaconf", *sys.stdlib_module_names}
