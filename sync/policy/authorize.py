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
    """There is no such model, or none that the tenant may use."""

    code = "model_not_found"


def model(snapshot: Snapshot, principal: Principal, name: str, task: str) -> Model:
    """Return the model of this name for this task. Raises UnknownModel, or Refused where it is for another task.

    A model that the tenant may not use is refused as one that does not exist is: nobody learns which models others have.
    """
    found = snapshot.models.get(ModelName(name))
    if found is None or found.name not in principal.tenant.allowed_models:
        raise UnknownModel(f"There is no model '{name[:100]}' that you may use: GET /v1/models lists those that there are.")
    if found.task != task:
        raise errors.Refused(f"The model '{found.name}' is for {found.task}, not for {task}.", code="model_task_mismatch")
    return found


def administration(principal: Principal) -> None:
    """Returns where the principal may administer. Raises Forbidden."""
    if ADMIN not in principal.roles:
        raise Forbidden("This needs a key with the role admin: 'ringfence keys create --role admin' makes one.")
