"""Debian packages of the agent for tests: small ones whose release does what the test says, and the real one under another version."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from sync.crypto import releases

NAME = "ringfence-agent"


def build(folder: Path, version: str, library: Path, *, package: str = NAME, architecture: str = "amd64") -> Path:
    """An unsigned package with this library, in a folder of its own."""
    out = folder / f"release-{version}"
    root = out / "root"
    target = root / "opt" / NAME / "releases" / version / "lib"
    target.parent.mkdir(parents=True)
    shutil.copytree(library, target, symlinks=True)
    (root / "DEBIAN").mkdir()
    told = f"Package: {package}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: Nobody <n@n.example>\nDescription: a test\n"
    (root / "DEBIAN/control").write_text(told)
    path = out / f"{NAME}_{version}_{architecture}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", root, path], check=True, capture_output=True)
    shutil.rmtree(root)
    return path


def signed(path: Path, private: bytes) -> Path:
    """The same package, with the digests and the signature of its release beside it."""
    told = releases.sums(path.parent)
    (path.parent / releases.SUMS).write_bytes(told)
    (path.parent / releases.SIGNATURE).write_bytes(releases.sign(told, private))
    return path


def stub(folder: Path, *, fails: bool = False) -> Path:
    """A library that only starts, or does not."""
    library = folder / ("broken" if fails else "stub")
    if not library.exists():
        (library / "edge_agent/commands").mkdir(parents=True)
        (library / "edge_agent/__init__.py").write_text("")
        (library / "edge_agent/cli.py").write_text("raise SystemExit('this release is broken')\n" if fails else "cli = None\n")
        (library / "edge_agent/commands/__init__.py").write_text("")
        (library / "edge_agent/commands/run.py").write_text("")
        (library / "edge_agent/settings.py").write_text("def read():\n    return None\n")
    return library
