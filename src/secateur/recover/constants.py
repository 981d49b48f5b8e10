"""Places for a constant that is added to the output of a weight: its bias, the norm behind it, or a new bias.

Subtracting the constant from the running mean of the batch norm behind a weight has the same effect as adding it to a
bias. This bookkeeping is our own.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from secateur.plan.parts import Added
from secateur.recover.walking import Ends


class Constants:
    """Adds constants to the outputs of the weights `names` of `model`, as far as `ends` found a place for them.

    With `new`, a layer without a bias that could have one gets a bias of zeros; `tidy` removes all of them again and
    returns those that were used.
    """

    def __init__(self, model: nn.Module, ends: Ends, names: Iterable[str], *, new: bool):
        self._ends = ends
        self._parameters = dict(model.named_parameters(remove_duplicate=False))
        self._modules = dict(model.named_modules(remove_duplicate=False))
        self._new: dict[str, nn.Parameter] = {}
        for name in names if new else ():
            module, _, leaf = name.rpartition(".")
            table = self._modules[module]._parameters
            free = leaf == "weight" and "bias" in table and table["bias"] is None
            if free and name not in ends.biases and ends.mean(name) is None:
                table["bias"] = self._new[name] = nn.Parameter(self._zeros(name), requires_grad=False)

    def _zeros(self, name: str) -> Tensor:
        weight = self._parameters[name].detach()
        return weight.new_zeros(self._ends.outputs[name])

    def bias(self, name: str) -> nn.Parameter | None:
        """Return the bias of a weight, or None if it has none or shares it with another weight."""
        if name in self._new:
            return self._new[name]
        found = self._ends.biases.get(name)
        whole = isinstance(found, nn.Parameter) and found.numel() == self._ends.outputs[name]
        return found if whole else None  # type: ignore[return-value]

    def takes(self, name: str) -> bool:
        """Return whether a constant can be added to the whole output of a weight."""
        return self.bias(name) is not None or self._ends.mean(name) is not None

    def add(self, name: str, shift: Tensor) -> None:
        """Add a constant of shape (outputs,) to the output of a weight."""
        bias, mean = self.bias(name), self._ends.mean(name)
        if bias is not None:
            bias.data.add_(shift.to(bias).view_as(bias))
        elif mean is not None:
            mean.sub_(shift.to(mean))

    def tidy(self) -> dict[Added, Tensor]:
        """Remove the new biases and return those that are not zero, with their values."""
        found = {}
        for name, bias in self._new.items():
            module = name.rpartition(".")[0]
            self._modules[module]._parameters["bias"] = None
            if bool(bias.any()):
                path = f"{module}.bias" if module else "bias"
                found[Added(path, name, self._ends.out_dims[name])] = bias.detach()
        self._new.clear()
        return found


__all__ = ["Constants"]
