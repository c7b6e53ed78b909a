"""Whether a principal may: use a model, or administer."""

from __future__ import annotations

from sync.bundle.snapshot import Model, Snapshot
from sync.kit import errors
from sync.kit.ids import ModelName
from sync.policy.authenticate import Principal

ADMIN = "admin"


class Forbidden(errors.Refused):
    """The principal is known, and may not."""

    code = "forbidden"


class UnknownModel(errors.Refused):
    """Nobody has configured this model."""

    code = "model_not_found"


def model(snapshot: Snapshot, principal: Principal, name: str, task: str) -> Model:
    """The model of this name for this task. Raises UnknownModel, or Forbidden where the tenant may not use it."""
    found = snapshot.models.get(ModelName(name))
    if found is None:
        raise UnknownModel(f"The model '{name[:100]}' does not exist: GET /v1/models lists the ones that you may use.")
    if found.name not in principal.tenant.allowed_models:
        raise Forbidden(
            f"The tenant '{principal.tenant.id}' may not use the model '{found.name}': its allowed_models do not name it.",
            code="model_not_allowed",
        )
    if found.task != task:
        raise errors.Refused(f"The model '{found.name}' is for {found.task}, not for {task}.", code="model_task_mismatch")
    return found


def administration(principal: Principal) -> None:
    """Returns where the principal may administer. Raises Forbidden."""
    if ADMIN not in principal.roles:
        raise Forbidden("This needs a key with the role admin: 'ringfence keys create --role admin' makes one.")
