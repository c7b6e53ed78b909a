"""The models folder: versions, which one is used, which models are pinned. Every change is one rename.

<models>/<name>/state.json              which version is used, which one was before, pinned or not, what was trusted
<models>/<name>/<version>/manifest.json
<models>/.incoming/                     what is being fetched: nothing looks there but the one that fetches
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydantic

from edge_agent.inference import manifest as manifests
from edge_agent.inference.manifest import BadFolder, FileName, Manifest
from sync.kit import files, ids

STATE = "state.json"
INCOMING = ".incoming"
GONE = ".gone-"
MAX_STATE = 64 * 1024


class State(pydantic.BaseModel):
    """What an administrator decided of one model. Without `use`, the highest version is used."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    use: str = ""
    previous: str = ""
    pinned: bool = False
    trusted: dict[FileName, str] = {}
    """By version the SHA-256 of the manifest that was trusted: another manifest is not."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version on disk."""

    path: Path
    manifest: Manifest
    state: State
    used: bool


class ModelsFolder:
    """One agent's models on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def must_exist(self) -> None:
        """Raises BadFolder where the folder is not there."""
        if not self.path.is_dir():
            raise BadFolder(
                f"The models folder {self.path} does not exist: name one with --models or RINGFENCE_AGENT_MODELS, "
                "or make it with 'ringfence-agent models add'."
            )

    def names(self) -> list[str]:
        """The names of all models, whatever state they are in."""
        self.must_exist()
        return sorted(path.name for path in self.path.iterdir() if path.is_dir() and not path.name.startswith("."))

    def versions(self, name: str) -> list[str]:
        """The versions of a model, the highest first."""
        folder = self.path / name
        if not folder.is_dir():
            raise BadFolder(f"There is no model '{name[:100]}' in {self.path}: 'ringfence-agent models list' shows what there is.")
        found = [child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")]
        return sorted(found, key=_order, reverse=True)

    def state(self, name: str) -> State:
        """Raises BadFolder where the file is damaged."""
        path = self.path / name / STATE
        try:
            if path.stat().st_size > MAX_STATE:
                raise BadFolder(f"{path} is over {MAX_STATE} bytes.")
            return State.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return State()
        except (OSError, pydantic.ValidationError) as error:
            raise BadFolder(f"{path} is damaged: choose a version again with 'ringfence-agent models use'.") from error

    def write_state(self, name: str, **changes: object) -> State:
        """The state with these changes, on disk."""
        try:
            known = self.state(name)
        except BadFolder:
            known = State()
        made = State.model_validate({**known.model_dump(), **changes})
        files.write_atomically(self.path / name / STATE, made.model_dump_json(indent=1).encode() + b"\n")
        return made

    def used_version(self, name: str) -> str:
        """The version that is used. Raises BadFolder where there is none, or it is missing."""
        versions = self.versions(name)
        if not versions:
            raise BadFolder(f"The model '{name}' in {self.path} has no version.")
        chosen = self.state(name).use or versions[0]
        if chosen not in versions:
            raise BadFolder(f"The version {chosen} of '{name}', which is to be used, is not in {self.path}: 'models use' another.")
        return chosen

    def find(self, name: str, version: str = "") -> Version:
        """A version, or the one that is used. Raises BadFolder."""
        used = self.used_version(name)
        chosen = version or used
        path = self.path / name / chosen
        if chosen not in self.versions(name):
            raise BadFolder(f"The model '{name}' has no version '{chosen[:100]}': it has {', '.join(self.versions(name))}.")
        manifest = manifests.read(path)
        if (manifest.name, manifest.version) != (name, chosen):
            raise BadFolder(f"{path} holds the manifest of '{manifest.name}', version {manifest.version}: the folder was moved.")
        return Version(path, manifest, self.state(name), chosen == used)

    def use(self, name: str, version: str) -> State:
        """Chooses a version from now on. Raises BadFolder."""
        found = self.find(name, version)
        before = self.used_version(name)
        return self.write_state(
            name, use=found.manifest.version, previous=before if before != version else self.state(name).previous
        )

    def roll_back(self, name: str) -> State:
        """Goes back to the version that was used before. Raises BadFolder where there is none."""
        state = self.state(name)
        if not state.previous:
            raise BadFolder(f"No other version of '{name}' was used before: 'models use' names one.")
        return self.use(name, state.previous)

    def remove(self, name: str, version: str = "") -> list[str]:
        """Removes a version, or the whole model; the versions that are gone. Raises BadFolder for one that is used or pinned."""
        versions = self.versions(name)
        if version:
            if version not in versions:
                raise BadFolder(f"The model '{name}' has no version '{version[:100]}'.")
            if len(versions) > 1 and self.used_version(name) == version:
                raise BadFolder(f"The version {version} of '{name}' is the one that is used: 'models use' another one first.")
        if self.state(name).pinned and (not version or len(versions) == 1):
            raise BadFolder(f"The model '{name}' is pinned: 'models unpin {name}' first.")
        whole = not version or versions == [version]
        target = self.path / name if whole else self.path / name / version
        # Out of sight in one step; a crash in the middle leaves what the next removal takes with it.
        gone = self.path / f"{GONE}{ids.sortable()}"
        try:
            target.rename(gone)
        except OSError as error:
            raise files.not_writable(target, error) from error
        files.sync_folder(self.path)
        for old in self.path.glob(f"{GONE}*"):
            shutil.rmtree(old, ignore_errors=True)
        return versions if whole else [version]

    def place(self, made: Path, manifest: Manifest, *, trusted: str = "") -> Path:
        """Puts a finished folder in as a version: whole or not at all. `trusted`: the digest of its manifest, where it was.
        Raises BadFolder."""
        target = self.path / manifest.name / manifest.version
        if target.exists():
            raise BadFolder(f"{target} is there already: choose another version.")
        for path in made.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        target.parent.mkdir(parents=True, exist_ok=True)
        if trusted:
            known = self.state(manifest.name).trusted
            self.write_state(manifest.name, trusted={**known, manifest.version: trusted})
        made.rename(target)
        files.sync_folder(target.parent)
        return target

    def incoming(self, key: str) -> Path:
        """A folder for what is being fetched; the same key finds what an earlier try has left."""
        path = self.path / INCOMING / key
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise files.not_writable(path, error) from error
        return path

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())


def bytes_of(version: Version) -> int:
    """Bytes of the files that the manifest names."""
    return sum((version.path / name).stat().st_size for name in version.manifest.files if (version.path / name).is_file())


def _order(version: str) -> tuple[tuple[int, str], ...]:
    """Numbers in versions compare as numbers: 1.10 after 1.9."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in version.replace("-", ".").split("."))
