"""The configuration as people write it: one YAML document. The door to PyYAML.

A mistake is told with its line and its field, all of them at once, and nothing of a wrong document is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pydantic
import yaml

from classifiers import profile
from classifiers import tenant as tenant_profile
from classifiers.redaction import Mode
from sync.bundle import snapshot
from sync.kit import errors, ids
from sync.wire.levels import Level, Zone

MAX_DOCUMENT = 4 * 1024 * 1024
MAX_DEPTH = 30
MAX_BUDGET_WORDS = 1_000_000
"""Words of a request that a tenant may have read: 5 MB of prose, and 15 to 25 seconds of one core."""


class BadDocument(errors.Misconfigured):
    """The document is not what it should be; the sentence has a line for each mistake."""

    code = "bad_configuration"


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


def _name(text: str) -> str:
    if not ids.is_name(text):
        raise ValueError("use lower-case letters, digits, '-' and '_', at most 63")
    return text


def _level(value: object) -> Level:
    if isinstance(value, Level):
        return value
    return Level.of(str(value))


def _no_milliseconds(_: object) -> None:
    raise ValueError(
        "the level would depend on how busy the machine is, so time is not counted any more: take"
        " this line out, or write 'budget_words', the words of one request that the model reads"
        f" ({profile.BUDGET_WORDS} where it is left out, about 80 KB of prose)"
    )


Name = Annotated[str, pydantic.AfterValidator(_name)]
ModelId = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}$")]
Folder = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
LevelWord = Annotated[Level, pydantic.BeforeValidator(_level)]
Text = Annotated[str, pydantic.StringConstraints(max_length=500)]


class Deployment(_Part):
    """One way to serve a model: a folder of the agents' repositories, in these zones."""

    folder: Folder
    zones: list[Zone] = pydantic.Field(min_length=1)


class Model(_Part):
    """A name that apps ask for."""

    task: Literal["generate", "embed", "classify", "rerank", "tensors"]
    deployments: list[Deployment] = pydantic.Field(min_length=1)


class Site(_Part):
    """One installation in a region, which is under a jurisdiction."""

    region: Name
    jurisdiction: Name


class RateLimit(_Part):
    """Sliding minutes; `concurrent` is how many requests may be at work at a time."""

    requests_per_minute: int = pydantic.Field(600, ge=0, le=10_000_000)
    tokens_per_minute: int = pydantic.Field(200_000, ge=0, le=1_000_000_000)
    concurrent: int = pydantic.Field(64, ge=1, le=100_000)


class Route(_Part):
    """Where a level may run. A bare list of zones is short for this."""

    zones: list[Zone]
    jurisdictions: list[Name] = []

    @pydantic.model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"zones": value} if isinstance(value, list) else value


class Routing(_Part):
    """A route for each level, in order of preference; what is left out is the default."""

    public: Route = Route(zones=[Zone.PUBLIC_CLOUD, Zone.PRIVATE_CLOUD, Zone.ON_PREMISE])
    internal: Route = Route(zones=[Zone.PRIVATE_CLOUD, Zone.ON_PREMISE])
    confidential: Route = Route(zones=[Zone.PRIVATE_CLOUD, Zone.ON_PREMISE])
    restricted: Route = Route(zones=[Zone.ON_PREMISE])


class Rule(_Part):
    """Narrows or denies what it matches; conditions that are left out match all."""

    id: Name
    why: Text
    at_least: LevelWord = Level.PUBLIC
    categories: list[str] = []
    models: list[ModelId] = []
    roles: list[str] = []
    deny: bool = False
    zones: list[Zone] = []
    jurisdictions: list[Name] = []

    @pydantic.model_validator(mode="after")
    def _does_something(self) -> Rule:
        if not (self.deny or self.zones or self.jurisdictions):
            raise ValueError("a rule needs deny, zones or jurisdictions: else it does nothing")
        return self


class Recognizer(_Part):
    """A kind of finding of the tenant's own: a pattern in RE2's syntax."""

    name: Name
    type: Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{1,62}$")]
    category: Name = "pii"
    pattern: Text
    score: float = pydantic.Field(0.8, gt=0, le=1)
    context: list[Text] = []
    whole_words: bool = True


class Classification(_Part):
    """What the tenant changes of the classifier; `deny` maps a category to its words and phrases."""

    recognizers: list[Recognizer] = pydantic.Field([], max_length=profile.MAX_RULES)
    deny: dict[Name, list[Text]] = {}
    allow: list[Text] = []
    phone_regions: list[Text] = []
    disabled: list[Text] = []
    categories: dict[str, LevelWord] = {}
    types: dict[str, LevelWord] = {}
    together: int = pydantic.Field(2, ge=2, le=100)
    many: int = pydantic.Field(5, ge=2, le=1000)
    model: bool = True
    budget_ms: Annotated[None, pydantic.BeforeValidator(_no_milliseconds)] = None
    budget_words: int = pydantic.Field(profile.BUDGET_WORDS, ge=1, le=MAX_BUDGET_WORDS)
    over_budget: LevelWord = Level.RESTRICTED

    @pydantic.model_validator(mode="after")
    def _compiles(self) -> Classification:
        try:
            tenant_profile.of_tenant(self.compiled())
        except profile.BadProfile as error:
            raise ValueError(str(error)) from error
        return self

    def compiled(self) -> snapshot.Classification:
        """As the bundle has it."""
        return snapshot.Classification(
            recognizers=tuple(
                snapshot.Recognizer(
                    name=r.name,
                    type=r.type,
                    category=r.category,
                    pattern=r.pattern,
                    score=r.score,
                    context=tuple(r.context),
                    whole_words=r.whole_words,
                )
                for r in self.recognizers
            ),
            deny=tuple(snapshot.WordList(f"deny-{category}", category, tuple(entries)) for category, entries in self.deny.items()),
            allow=tuple(self.allow),
            phone_regions=tuple(self.phone_regions),
            disabled=tuple(self.disabled),
            categories=tuple(snapshot.LevelFor(name, level) for name, level in self.categories.items()),
            types=tuple(snapshot.LevelFor(name, level) for name, level in self.types.items()),
            together=self.together,
            many=self.many,
            model=self.model,
            budget_words=0 if self.budget_words == profile.BUDGET_WORDS else self.budget_words,
            over_budget=self.over_budget,
        )


class Redaction(_Part):
    """In these zones what was found is replaced before a request runs; pseudonyms and surrogates are put back into the answer."""

    mode: Mode
    zones: list[Zone] = pydantic.Field(min_length=1)


class Retention(_Part):
    """How long records are kept, by level where it differs; and whether prompts and answers are, each under a key of its own."""

    days: int = pydantic.Field(365, ge=1, le=36_500)
    levels: dict[LevelWord, Annotated[int, pydantic.Field(ge=1, le=36_500)]] = {}
    content: Literal["none", "encrypted"] = "none"


class Tenant(_Part):
    """A customer organisation, or a unit of one."""

    id: Name
    name: Text = ""
    industry: Text = ""
    compliance: list[Text] = []
    allowed_models: list[ModelId]
    max_tokens_per_request: int = pydantic.Field(1024, ge=1, le=1_000_000)
    rate_limit: RateLimit = RateLimit()
    security_level: LevelWord = Level.PUBLIC
    jurisdictions: list[Name] = []
    routing: Routing = Routing()
    rules: list[Rule] = []
    retention: Retention = Retention()
    cache_ttl_seconds: int = pydantic.Field(0, ge=0, le=31_536_000)
    offline_grace_hours: int = pydantic.Field(24 * 21, ge=0, le=87_600)
    sites: list[Name] = []
    classification: Classification = Classification()
    redaction: Redaction | None = None
    forward_at_most: LevelWord = Level.RESTRICTED


class Document(_Part):
    """The whole configuration."""

    version: Literal[1]
    models: dict[ModelId, Model]
    sites: dict[Name, Site]
    tenants: list[Tenant]

    @pydantic.model_validator(mode="after")
    def _names_fit(self) -> Document:
        mistakes = list(_dangling(self))
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self


def parse(text: str, source: str) -> Document:
    """The document in this YAML text. Raises BadDocument; `source` is the name of the file, for the sentence."""
    if len(text) > MAX_DOCUMENT:
        raise BadDocument(f"{source} is over {MAX_DOCUMENT} bytes.")
    try:
        node = yaml.compose(text, Loader=_Loader)
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader without aliases
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark
        where = f"{source}, line {at.line + 1}, column {at.column + 1}" if at else source
        raise BadDocument(f"{where}: this is not YAML: {error.problem}.") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BadDocument(f"{source}: this is not YAML.") from error
    if not isinstance(value, dict):
        raise BadDocument(f"{source} is empty, or not a mapping with version, models, sites and tenants.")
    try:
        return Document.model_validate(value)
    except pydantic.ValidationError as error:
        raise BadDocument("\n".join(_sentences(error, node, source))) from error


class _Loader(yaml.SafeLoader):
    """Safe, and without aliases: they can make a small file a huge one."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases are not allowed", problem_mark=self.get_mark())
        self._depth = getattr(self, "_depth", 0) + 1
        if self._depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem="it is nested too deeply", problem_mark=self.get_mark())
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _sentences(error: pydantic.ValidationError, node: Any, source: str) -> Iterator[str]:
    for mistake in error.errors(include_url=False, include_input=False):
        path = [part for part in mistake["loc"] if part != "[key]"]
        message = mistake["msg"].removeprefix("Value error, ")
        yield f"{source}, line {_line(node, path)}: {'.'.join(map(str, path)) or 'the document'}: {message}"


def _line(node: Any, path: list[int | str]) -> int:
    """The line of the deepest part of the path that is written down."""
    line: int = node.start_mark.line + 1
    for part in path:
        found = None
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            found = (node.value[part], node.value[part])
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line


def _dangling(document: Document) -> Iterator[str]:
    """What is named and does not exist, or is named twice."""
    seen: set[str] = set()
    jurisdictions = {site.jurisdiction for site in document.sites.values()}
    for i, tenant in enumerate(document.tenants):
        at = f"tenants.{i} ({tenant.id})"
        if tenant.id in seen:
            yield f"{at}: the id is used twice"
        seen.add(tenant.id)
        yield from (f"{at}: the model '{m}' is not in models" for m in tenant.allowed_models if m not in document.models)
        yield from (f"{at}: the site '{s}' is not in sites" for s in tenant.sites if s not in document.sites)
        named = [*tenant.jurisdictions, *(j for rule in tenant.rules for j in rule.jurisdictions)]
        yield from (f"{at}: no site is in the jurisdiction '{j}'" for j in named if j not in jurisdictions)
