"""The key that releases are signed by, and their signing: python packaging/release.py key FILE | sign FOLDER KEY.

`key` makes FILE (private, keep it off line) and FILE.pub, which goes into packages by 'make deb RELEASE_KEY=FILE.pub'.
`sign` writes SHA256SUMS of all files in FOLDER, and SHA256SUMS.sig.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from sync.crypto import releases
from sync.kit import files


def key(path: Path) -> None:
    private, public = releases.new_key()
    if path.exists():
        sys.exit(f"{path} is there already: a release key is not replaced in passing.")
    files.write_atomically(path, private, mode=files.PRIVATE)
    files.write_atomically(path.with_name(f"{path.name}.pub"), public)
    sys.stdout.write(f"{path} signs releases: keep it off line. {path}.pub goes into packages.\n")


def sign(folder: Path, private: Path) -> None:
    told = releases.sums(folder)
    files.write_atomically(folder / releases.SUMS, told)
    files.write_atomically(folder / releases.SIGNATURE, releases.sign(told, files.read_private(private)))
    sys.stdout.write(f"{folder / releases.SUMS} names {len(told.splitlines())} files, and is signed.\n")


def main() -> None:
    match sys.argv[1:]:
        case ["key", path]:
            key(Path(path))
        case ["sign", folder, private]:
            sign(Path(folder), Path(private))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
