"""Fine-tuning after the cut, and the metric before the cut, after it and after fine-tuning."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from secateur.cli.measuring import MetricReader
from secateur.cli.origin import Loaded
from secateur.cli.train import as_history, told
from secateur.cli.trainer import CommandTrainer

if TYPE_CHECKING:
    from torch import nn

    from secateur.report import MetricScores
    from secateur.train import History


@dataclass(frozen=True)
class Tuning:
    """How to fine-tune, and the results once it has run. `stages`: a record for each stage of a loop."""

    trainer: CommandTrainer
    history: History | None = None
    scores: MetricScores | None = None
    stages: tuple[dict[str, Any], ...] = ()

    def as_dict(self) -> dict[str, Any] | None:
        """Return the fine-tuning as run.json stores it."""
        if self.history is None:
            return None
        options = {"options": asdict(self.trainer.options)}
        stages = {"stages": list(self.stages)} if self.stages else {}
        return {**as_history(self.history, self.trainer.epochs), **options, **stages}

    def __str__(self) -> str:
        if self.history is None:
            return ""
        many = f", in {len(self.stages) - 1} stages" if self.stages else ""
        return f"fine-tuning: {told(self.history, self.trainer.epochs)}{many}"


def tuned(dense: Loaded, small: nn.Module, judge: MetricReader | None, tuning: Tuning) -> Tuning:
    """Evaluate before and after the cut, fine-tune, and evaluate again."""
    from secateur.report import MetricScores

    if judge is None:
        return tuning
    judge.rehearse(dense.model)
    scores = MetricScores(judge.name, judge.score(dense.model, "before"), judge.score(small, "after the cut"))
    trainer = tuning.trainer
    if not trainer.epochs:
        return replace(tuning, scores=scores)
    history = trainer.fit(dense, small, judge, "fine-tuning", own=dense.model)
    scores = replace(scores, after_finetuning=judge.score(small, "after fine-tuning"))
    return replace(tuning, history=history, scores=scores)
