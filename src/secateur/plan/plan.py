"""The Plan: what is cut, and what one can do with it."""

from __future__ import annotations

from dataclasses import replace

from secateur.errors import FileError, InputError
from secateur.plan.as_json import fields, no_plan, written
from secateur.plan.check import check_plan
from secateur.plan.choice import Choice
from secateur.plan.compose import compose
from secateur.plan.text import table


class Plan(Choice):
    """What is cut. `print(plan)` shows it; `Plan.from_json(plan.to_json()) == plan`."""

    def then(self, second: Plan) -> Plan:
        """One plan for this one followed by `second`, which was made on the model that this one gives.

        It has the units, sizes and parameters of both, and names the recovery steps of both in their order; as no
        plan can, it does not give recovered weights again. Raises `PruningError` where the second does not continue
        the first.
        """
        return compose(self, second)

    def to_json(self) -> str:
        """The plan as one JSON object."""
        return written(self)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read a plan back. Raises `FileError` where the text is none, or where it makes no sense in itself."""
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
            "make one with secateur.plan(graph, target), or read one with Plan.from_json(text)"
        )


def with_notes(plan: Plan, **notes: str) -> Plan:
    """The same plan with further notes (criterion, seed, ...)."""
    return replace(plan, notes={**plan.notes, **notes})


__all__ = ["Plan", "needs_plan", "with_notes"]
