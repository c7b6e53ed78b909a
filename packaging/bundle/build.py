"""Builds the release for servers without a network: python packaging/bundle/build.py --key PRIVATE [--policy FILE …] [--models FOLDER].

One tar with the packages, the wheels for other distributions, models, policies (what 'ringfence bundle export' wrote), an install script,
and SHA256SUMS with its signature by the release key ('packaging/release.py key' makes one).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "packaging"))

import release  # noqa: E402 - beside this folder

MODELS = ROOT / "packaging" / "models" / "repository"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--key", type=Path, required=True, help="the private release key")
    parser.add_argument("--packages", type=Path, help="a folder with packages that are built already")
    parser.add_argument(
        "--policy", type=Path, action="append", default=[], help="a site's bundle, as 'ringfence bundle export' wrote it"
    )
    parser.add_argument("--models", type=Path, default=MODELS, help="a folder of models")
    parser.add_argument("--no-wheels", action="store_true", help="without the wheels for other distributions")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    chosen = parser.parse_args()
    public = chosen.key.with_name(f"{chosen.key.name}.pub")
    if not chosen.key.is_file() or not public.is_file():
        sys.exit(
            f"There is no release key in {chosen.key} with its {public.name}: make one with 'python packaging/release.py key FILE'."
        )
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    name = f"ringfence-{version}-bundle"
    chosen.out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / name
        folder.mkdir()
        _fill(folder, chosen, public)
        release.sign(folder, chosen.key)
        target = chosen.out / f"{name}.tar"
        with tarfile.open(target, "w") as tar:
            tar.add(folder, arcname=name)
    sys.stdout.write(
        f"{target} ({target.stat().st_size / 2**20:.0f} MiB). On the server: sh {name}/install.sh --key {public.name}\n"
    )


def _fill(folder: Path, chosen: argparse.Namespace, public: Path) -> None:
    packages = chosen.packages or _packages(public)
    for path in sorted(packages.glob("ringfence-*.deb")):
        shutil.copyfile(path, folder / path.name)
    shutil.copyfile(HERE / "install.sh", folder / "install.sh")
    shutil.copytree(chosen.models, folder / "models")
    for path in chosen.policy:
        (folder / "policy").mkdir(exist_ok=True)
        shutil.copyfile(path, folder / "policy" / f"{path.stem}.parcel")
    if not chosen.no_wheels:
        _wheels(folder / "wheels")


def _packages(public: Path) -> Path:
    for part, key in (("agent", ("--release-key", public)), ("hub", ()), ("leaf", ())):
        _run(sys.executable, ROOT / "packaging/deb/build.py", part, "--out", ROOT / "dist", *key)
    return ROOT / "dist"


def _wheels(folder: Path) -> None:
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    _run(
        *pip,
        "download",
        "--only-binary=:all:",
        "--no-deps",
        "--require-hashes",
        "-r",
        ROOT / "packaging/deb/agent.lock",
        "-d",
        folder,
    )
    _run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, ROOT)


def _run(*command: object) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command[:6]))} … failed:\n{done.stderr.strip()}")


if __name__ == "__main__":
    main()
