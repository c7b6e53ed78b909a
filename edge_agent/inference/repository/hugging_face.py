"""Models from a Hugging Face hub, or from a site's own mirror of it (HF_ENDPOINT). The door to huggingface_hub.

A cut fetch goes on where it was: the library keeps unfinished files beside the finished ones.
"""

from __future__ import annotations

import fnmatch
import os
import re
from pathlib import Path

from edge_agent.inference.manifest import BadFolder
from edge_agent.inference.repository.adding import MAX_BYTES, MAX_FILES, Told
from edge_agent.inference.repository.folder import ModelsFolder
from sync.kit import errors, files

# The library counts its users unless this is set before its first import.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")

import huggingface_hub
import huggingface_hub.constants
import huggingface_hub.errors

# What is lost by a cut: the library writes so many bytes at a time.
huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 256 * 1024

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?(@[\w./-]{1,100})?", re.ASCII)
WANTED = ("*.onnx", "*.onnx_data", "*.onnx.data", "*.json", "*.jinja", "vocab.txt")


class FetchFailed(errors.Retryable):
    """The hub could not be asked, or broke off. What came is kept: the same command goes on."""

    code = "fetch_failed"


def fetch(models: ModelsFolder, name: str, *, subfolder: str, told: Told) -> tuple[Path, str]:
    """The repository's model files in a folder, and its revision. `subfolder`: the one of several models. Raises BadFolder or
    FetchFailed."""
    if not NAME.fullmatch(name):
        raise BadFolder(f"'{name[:200]}' is no repository: write hf:ORGANISATION/NAME, with @REVISION where it is not the newest.")
    repository, _, revision = name.partition("@")
    api = huggingface_hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=os.environ.get("HF_TOKEN") or False)
    try:
        info = api.model_info(repository, revision=revision or None, files_metadata=True)
        wanted = _wanted(info.siblings or [], subfolder)
        if not wanted:
            raise BadFolder(f"{repository} has no ONNX file{' in ' + subfolder if subfolder else ''}: it is to be exported first.")
        whole = sum(size for _, size in wanted)
        if len(wanted) > MAX_FILES or whole > MAX_BYTES:
            raise BadFolder(f"{repository} has {len(wanted)} files of {whole // 2**20} MiB: name the one with --subfolder.")
        target, done = models.incoming(f"hf-{repository.replace('/', '--')}-{info.sha}"), 0
        for path, size in wanted:
            told(path, done, whole)
            api.hf_hub_download(repository, path, revision=info.sha, local_dir=target)
            done += size
        told("", whole, whole)
    except huggingface_hub.errors.RepositoryNotFoundError as error:
        raise BadFolder(f"The hub has no repository '{repository}', or not for this token (HF_TOKEN).") from error
    except huggingface_hub.errors.RevisionNotFoundError as error:
        raise BadFolder(f"The repository '{repository}' has no revision '{revision}'.") from error
    except OSError as error:
        if error.errno is not None and getattr(error, "response", None) is None:
            raise files.not_writable(models.path, error) from error
        raise _failed(repository, error) from error
    except (BadFolder, errors.RingfenceError):
        raise
    except Exception as error:
        raise _failed(repository, error) from error
    return (target / subfolder if subfolder else target), str(info.sha)


def _wanted(siblings: list[huggingface_hub.hf_api.RepoSibling], subfolder: str) -> list[tuple[str, int]]:
    """The files to fetch with their sizes: configuration from the top, models from the top, from `onnx/` or from the subfolder."""
    found = []
    for sibling in siblings:
        folder, _, name = sibling.rfilename.rpartition("/")
        if folder in ({subfolder} if subfolder else {"", "onnx", "1_Pooling"}) and any(fnmatch.fnmatch(name, w) for w in WANTED):
            found.append((sibling.rfilename, sibling.size or 0))
    return found if any(path.endswith(".onnx") for path, _ in found) else []


def _failed(repository: str, error: Exception) -> FetchFailed:
    return FetchFailed(
        f"Fetching '{repository}' broke off ({type(error).__name__}): what came is kept, and the same command goes on from there."
    )
