"""`Plan`: what is cut, with the methods that compose, write, read and print it."""

from __future__ import annotations

from dataclasses import replace

from secateur.errors import FileError, InputError
from secateur.plan.as_json import fields, how_to_read, no_plan, written
from secateur.plan.check import check_plan
from secateur.plan.choice import Choice
from secateur.plan.compose import compose
from secateur.plan.text import table


class Plan(Choice):
    """A plan of what is cut, plain data without tensors. `print(plan)` shows it as a table.

    Make one with `secateur.plan`, apply it with `secateur.cut`. The fields are documented in `Choice`.

    Example:
        >>> import secateur, torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
        >>> plan = secateur.plan(secateur.trace(net, torch.zeros(1, 4)), drop={"0": [1, 5]})
        >>> plan.axes["0"].kept
        (0, 2, 3, 4, 6, 7)
        >>> Plan.from_json(plan.to_json()) == plan
        True
    """

    def then(self, second: Plan) -> Plan:
        """Return one plan that does what this one and then `second` do.

        It names the recovery steps of both in their order, but like every plan it cannot restore recovered weights.

        Args:
            second: A plan that was made on the model that this plan produces.

        Returns:
            The composed plan, for the original model.

        Raises:
            PruningError: The second plan was not made on the model that this plan produces.
        """
        return compose(self, second)

    def to_json(self) -> str:
        """Return the plan as one JSON object, for `Plan.from_json`."""
        return written(self)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read a plan from JSON.

        Args:
            text: The string that `to_json` returned.

        Returns:
            The plan.

        Raises:
            FileError: The string is not a plan, or the plan is not consistent in itself.
        """
        try:
            plan = cls(**fields(text))
            check_plan(plan)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            if isinstance(error, FileError):
                raise
            raise no_plan(error) from error
        return plan

    def __str__(self) -> str:
        return table(self)


def needs_plan(plan: object) -> None:
    """Raise `InputError` for anything but a Plan."""
    if not isinstance(plan, Plan):
        raise InputError(
            f"plan is a {type(plan).__name__}: {str(plan)[:60]}\n"
            f"make one with secateur.plan(graph, target), or read one with {how_to_read(plan)}"
        )


def with_notes(plan: Plan, **notes: str) -> Plan:
    """Return the plan with further notes (criterion, seed, ...)."""
    return replace(plan, notes={**plan.notes, **notes})


__all__ = ["Plan", "needs_plan", "with_notes"]
