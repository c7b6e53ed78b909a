"""The house stands as it was drawn."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("sync", "classifiers", "orchestrator", "edge_agent")
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if "training" not in path.parts  # needs torch
)


def test_each_module_imports_alone() -> None:
    code = (
        "import importlib, sys\nfor name in sys.argv[1:]:\n    for known in [m for m in sys.modules if m.split('.')[0] in "
        + repr(PACKAGES)
        + "]:\n"
    )
    code += "        del sys.modules[known]\n    importlib.import_module(name)\n"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *MODULES], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_package_begins_with_a_docstring_and_nothing_else() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("__init__.py"):
            text = path.read_text().strip()
            assert text.startswith('"""') and text.endswith('"""') and text.count('"""') == 2, path


AT_THE_ROOT = {
    ".ci", ".gitignore", "CHANGELOG.md", "LICENSE", "Makefile", "README.md", "classifiers", "docs", "edge_agent", "orchestrator",
    "packaging", "pyproject.toml", "requirements.lock", "sync", "tests",
}  # fmt: skip


def test_nothing_unknown_is_kept_at_the_root() -> None:
    kept = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    assert {path.split("/")[0] for path in kept if path} <= AT_THE_ROOT


def test_no_package_marker_where_there_is_no_package() -> None:
    assert not [*(ROOT / "packaging").rglob("__init__.py"), *(ROOT / "tests").rglob("__init__.py")]


def test_no_file_is_longer_than_600_lines() -> None:
    tracked = [path for folder in (*PACKAGES, "tests", "packaging") for path in (ROOT / folder).rglob("*.py")]
    assert not [(path, n) for path in tracked if (n := len(path.read_text().splitlines())) > 600]


@pytest.mark.parametrize("marker", ["TODO", "FIXME", "XXX", "NotImplementedError"])
def test_nothing_is_left_unfinished(marker: str) -> None:
    assert not [path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if marker in path.read_text()]


def test_onnxruntime_sends_and_keeps_no_telemetry(tmp_path: Path) -> None:
    code = "from classifiers.onnx import session; import sys; session.Session.__init__; import onnxruntime as o; o.get_available_providers()"
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    model = ROOT / "packaging/models/repository/guide/1/model.onnx"
    code += f"\nsession.Session(__import__('pathlib').Path({str(model)!r}), session.Setup())"
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("*")), "onnxruntime has written something"


def test_whoever_installs_one_half_gets_all_that_it_imports() -> None:
    """What a package imports is declared: for all, or by the extra of its half."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {extra: _names(wanted) for extra, wanted in project["optional-dependencies"].items()}
    core, made_by = _names(project["dependencies"]), importlib.metadata.packages_distributions()
    for package, extra in {"sync": "", "classifiers": "", "orchestrator": "hub", "edge_agent": "agent"}.items():
        allowed = core | declared.get(extra, set())
        for path in (ROOT / package).rglob("*.py"):
            if {"training", "evaluation"} & set(path.parts):
                continue
            for top in _imported(path) - set(sys.stdlib_module_names) - set(PACKAGES):
                owners = {_plain(name) for name in made_by.get(top, [top])}
                assert owners & allowed, f"{path} imports {top}, which '{package}' does not declare"


def _names(requirements: list[str]) -> set[str]:
    return {_plain(re.split(r"[\[<>=; ]", requirement)[0]) for requirement in requirements}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.split(".")[0] for name in names}
