"""Settings, read once at the start: from the command line, the environment, then a file. What both sides' settings are made of.

The file is YAML with the settings' own names as keys; one variable of the environment names it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar, TypeVar

import pydantic
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, YamlConfigSettingsSource

from sync.kit import errors

MAX_FILE = 64 * 1024
S = TypeVar("S", bound="FileSettings")


class FileSettings(BaseSettings):
    """`CONFIG`: the variable that names the file."""

    CONFIG: ClassVar[str]

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic's own names
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:  # fmt: skip
        path = os.environ.get(cls.CONFIG)
        return (init_settings, env_settings, *([_file(cls, Path(path))] if path else []))

    @classmethod
    def prefix(cls) -> str:
        return str(cls.model_config["env_prefix"])


def read(kind: type[S], given: dict[str, object]) -> S:
    """The settings; what is given and not None goes before the environment. Raises Misconfigured naming each wrong one."""
    try:
        return kind(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except pydantic.ValidationError as error:
        told = "; ".join(f"{_name(kind, str(e['loc'][0]))}: {e['msg']}" for e in error.errors())
        raise errors.Misconfigured(f"A setting is wrong: {told}.", code="bad_setting") from error


def _file(kind: type[FileSettings], path: Path) -> YamlConfigSettingsSource:
    """What the file says. Raises Misconfigured where it cannot be read, or names what is no setting."""
    try:
        if path.stat().st_size > MAX_FILE:
            raise errors.Misconfigured(f"{path} is over {MAX_FILE} bytes: it is no file of settings.", code="bad_setting")
        source = YamlConfigSettingsSource(kind, yaml_file=path)
    except OSError as error:
        raise errors.Misconfigured(
            f"{path}, which {kind.CONFIG} names, cannot be read ({error.strerror}).", code="bad_setting"
        ) from error
    except (ValueError, TypeError) as error:
        raise errors.Misconfigured(f"{path} is no mapping of settings to values: {error}.", code="bad_setting") from error
    except Exception as error:  # whatever its YAML parser raises, which is its own affair
        told = " ".join(str(error).split())[:300]
        raise errors.Misconfigured(f"{path} is not YAML: {told}.", code="bad_setting") from error
    for key in source.yaml_data or {}:
        if key not in kind.model_fields:
            known = ", ".join(kind.model_fields)
            raise errors.Misconfigured(f"{path}: there is no setting '{str(key)[:60]}': there are {known}.", code="bad_setting")
    return source


def _name(kind: type[FileSettings], field: str) -> str:
    """What a person calls a setting, where it may have come from either."""
    variable = f"{kind.prefix()}{field.upper()}"
    return f"{variable} (or '{field}' in the file)" if os.environ.get(kind.CONFIG) else variable
