"""Recovery from input moments of the dense model: mean shift, and least squares in one pass.

Both use the inputs of every weight in the dense model. They do not see how the cut changes the inputs of later layers;
`secateur.recover.layerwise` does.

Reference:
    Mean shift: Berisha et al., "Variance-Based Pruning for Accelerating and Compressing Trained Networks", ICCV 2025
    (the mean of a removed activation is moved into the next bias). Least squares: He, Zhang and Sun, "Channel Pruning
    for Accelerating Very Deep Neural Networks", ICCV 2017, equation 4 (least-squares reconstruction), with a ridge
    penalty. Solving all layers in one pass is our own simplification.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.apply.kept_by_axis import kept_by_axis
from secateur.graph.consumers import matrix_of, weight_of
from secateur.recover.constants import Constants
from secateur.recover.task import Task
from secateur.recover.walking import Ends
from secateur.terms import positions


class FromMoments:
    """Corrects the weights of a cut model from the input moments of the dense one."""

    def __init__(self, task: Task, ends: Ends, constants: Constants):
        assert task.statistics is not None, "the step declares the statistics that it needs"
        self._task, self._ends, self._constants, self._statistics = task, ends, constants, task.statistics
        self._dense = dict(task.graph.model.named_parameters(remove_duplicate=False))
        self._cut = dict(task.model.named_parameters(remove_duplicate=False))
        self._keep = kept_by_axis(task.graph, task.plan)

    def shift(self) -> int:
        """Add the mean contribution of removed channels to the bias of each weight that read them.

        b += sum over removed channels i of w_i E[x_i]. In a convolution, w_i is summed over the kernel, which ignores
        padding.

        Returns:
            The number of biases that changed.
        """
        changed = 0
        for name in sorted(self._ends.solvable):
            total, count = (self._statistics.get(name, quantity) for quantity in ("sum", "count"))
            if total is None or count is None or not self._constants.takes(name):
                continue
            pair = self._pair(name)
            mean = (total / count).repeat_interleave(pair.dense.shape[0] * pair.dense.shape[1] // len(total))
            before = pair.outputs(mean.view(pair.dense.shape[0], 1, -1) @ pair.dense)
            shift = (before - mean[pair.places].unsqueeze(1) @ pair.cut).flatten()
            if bool(shift.any()):
                self._constants.add(name, shift)
                changed += 1
        return changed

    def least_squares(self, ridge: float) -> int:
        """Replace each weight that lost inputs by the least-squares solution on the remaining inputs.

        H are the second moments of the inputs of the dense weight W, with a constant 1 appended, and K the kept
        features. The weight changes by (H_KK + r)^-1 (H_K W - H_KK W_K), where r is `ridge` times the mean second
        moment of K.

        Returns:
            The number of weights that changed.
        """
        changed = 0
        for name in sorted(self._ends.solvable):
            gram, pair = self._statistics.get(name, "gram"), self._pair(name)
            if gram is None or pair.is_whole:
                continue
            change = pair.change(gram, ridge, constant=self._constants.takes(name))
            weight = self._cut[name]
            weight.data.add_(weight_of(change[:, :-1], weight, self._task.graph.readers[name].dim).to(weight))
            if self._constants.takes(name):
                self._constants.add(name, change[:, -1].flatten())
            changed += 1
        return changed

    def _pair(self, name: str) -> _Pair:
        reader, plan = self._task.graph.readers[name], self._task.plan
        dense, cut = self._dense[name].detach().double().cpu(), self._cut[name].detach().double().cpu()
        kept = torch.tensor(positions(reader.channels, self._keep))
        groups = len(kept) // cut.shape[reader.dim]
        wide = matrix_of(dense, reader.dim, reader.groups)
        narrow = matrix_of(cut, reader.dim, groups)
        kernel = wide.shape[1] * reader.groups // reader.channels.n
        places = (kept.unsqueeze(1) * kernel + torch.arange(kernel)).view(groups, -1)
        out = plan.positions(name)[self._ends.out_dims[name]] if name in plan.sites else None
        return _Pair(wide, narrow, places, None if out is None else torch.tensor(out))


@dataclass(frozen=True, slots=True)
class _Pair:
    """A dense and a cut weight as matrices, (groups, features, outputs). places: the kept dense features, (kept groups,
    kept features), numbered across groups; kept: the kept outputs, numbered likewise, or None for all."""

    dense: Tensor
    cut: Tensor
    places: Tensor
    kept: Tensor | None

    @property
    def is_whole(self) -> bool:
        return self.places.numel() == self.dense.shape[0] * self.dense.shape[1]

    def outputs(self, made: Tensor) -> Tensor:
        """Select kept outputs: (groups, rows, outputs), dense -> (kept groups, rows, kept outputs)."""
        if self.kept is None:
            return made
        flat = made.transpose(0, 1).flatten(1)[:, self.kept]
        return flat.unflatten(1, (self.cut.shape[0], -1)).transpose(0, 1)

    def change(self, gram: Tensor, ridge: float, *, constant: bool) -> Tensor:
        """Solve for the change: gram (groups, f + 1, f + 1) -> (kept groups, kept f + 1, kept outputs)."""
        features = self.dense.shape[1]
        made = self.outputs(gram[:, :, :-1] @ self.dense)  # all features against the results
        group = self.places[:, 0] // features
        at = torch.cat([self.places % features, torch.full_like(self.places[:, :1], features)], 1)
        own = gram[group].gather(1, at.unsqueeze(2).expand(-1, -1, features + 1))
        inner = own.gather(2, at.unsqueeze(1).expand(-1, at.shape[1], -1))
        left = made.gather(1, at.unsqueeze(2).expand(-1, -1, made.shape[2])) - inner[:, :, :-1] @ self.cut
        weights = torch.zeros(inner.shape[:2], dtype=inner.dtype)
        weights[:, :-1] = ridge * inner.diagonal(dim1=1, dim2=2)[:, :-1].mean(1, keepdim=True).clamp_min(1e-30)
        if not constant:
            inner[:, -1], inner[:, :, -1], left[:, -1], weights[:, -1] = 0.0, 0.0, 0.0, 1.0
        return torch.linalg.solve(inner + torch.diag_embed(weights), left)


__all__ = ["FromMoments"]
