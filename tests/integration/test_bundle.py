"""The release for servers without a network: what the install script refuses before it runs anything, with packages that stand in."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sync.crypto import releases
from tests.support import packages
from tests.support import running as support

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None or shutil.which("dpkg-deb") is None, reason="needs openssl and dpkg"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the release's tar, its key and the public one."""
    folder = tmp_path_factory.mktemp("bundle")
    subprocess.run([sys.executable, support.ROOT / "packaging/release.py", "key", folder / "key"], check=True, capture_output=True)
    built = packages.build(folder, "0.1.0", packages.stub(folder))
    (folder / "frankfurt.bundle").write_bytes(b"a site's policy")
    done = subprocess.run(
        [
            sys.executable, support.ROOT / "packaging/bundle/build.py", "--key", folder / "key", "--packages", built.parent, "--no-wheels",
            "--policy", folder / "frankfurt.bundle", "--out", folder,
        ], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "install.sh --key key.pub" in done.stdout
    return folder


@pytest.fixture
def unpacked(made: Path, tmp_path: Path) -> Path:
    with tarfile.open(next(made.glob("*.tar"))) as tar:
        tar.extractall(tmp_path)  # noqa: S202 - made here
    return next(tmp_path.iterdir())


def install(folder: Path, *arguments: object) -> tuple[int, str]:
    """As a user who is not root: after every check, and before anything is installed, it ends."""
    folder.parent.chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", folder / "install.sh", *map(str, arguments)], capture_output=True, text=True, check=False,
        env={"PATH": f"{folder.parent}/bin:/usr/bin:/bin"},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def without_root(folder: Path) -> None:
    """Has `id -u` say that this is not root, so that the script ends where it would install."""
    (folder.parent / "bin").mkdir()
    fake = folder.parent / "bin" / "id"
    fake.write_text("#!/bin/sh\necho 1000\n")
    fake.chmod(0o755)


def test_a_good_bundle_has_everything_and_passes_every_check(made: Path, unpacked: Path) -> None:
    for name in ("install.sh", "SHA256SUMS", "SHA256SUMS.sig", "policy/frankfurt.parcel", "models/guide/1/manifest.json"):
        assert (unpacked / name).is_file(), name
    without_root(unpacked)
    code, said = install(unpacked, "--key", made / "key.pub")
    assert code == 2 and "The signature and every file are good." in said and "Run this as root" in said, said


def _changed(folder: Path) -> None:
    path = next(folder.glob("*.deb"))
    path.write_bytes(path.read_bytes() + b"x")


def _added(folder: Path) -> None:
    (folder / "models" / "more.onnx").write_bytes(b"x")


def _sums_made_anew(folder: Path) -> None:
    _changed(folder)
    (folder / releases.SUMS).write_bytes(releases.sums(folder))


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file changed": (_changed, "is not the one that SHA256SUMS names"),
    "a file added": (_added, "models/more.onnx is here and not in SHA256SUMS"),
    "digests made anew": (_sums_made_anew, "is not signed by that key"),
    "a signature that is gone": (lambda folder: (folder / releases.SIGNATURE).unlink(), "is not signed by that key"),
    "a file that is gone": (lambda folder: next(folder.glob("*.deb")).unlink(), "is not the one that SHA256SUMS names"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bundle_that_was_tampered_with_installs_nothing(made: Path, unpacked: Path, name: str) -> None:
    spoil, said = BAD[name]
    spoil(unpacked)
    without_root(unpacked)
    code, told = install(unpacked, "--key", made / "key.pub")
    assert code == 2 and said in told and "nothing was installed" in told and "are good" not in told, told


def test_a_key_must_be_given_and_be_the_right_one(made: Path, unpacked: Path) -> None:
    without_root(unpacked)
    assert "usage:" in install(unpacked)[1]
    assert "cannot be read" in install(unpacked, "--key", "none")[1]
    (unpacked.parent / "other.pub").write_bytes(releases.new_key()[1])
    code, said = install(unpacked, "--key", unpacked.parent / "other.pub")
    assert code == 2 and "is not signed by that key" in said
