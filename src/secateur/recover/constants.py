"""Where a constant can go that is to be added to what a weight makes: its bias, the norm behind it, or a new bias."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from secateur.plan.parts import Added
from secateur.recover.walking import Ends


class Constants:
    """Takes constants for the weights of `model`, by what a rehearsal found of them.

    A layer that has no bias but could have one gets it, of zeros, where `new` allows; `added` names those that were
    used, and `tidy` takes all of them out again.
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
        """The bias of a weight, if all of it is that of this weight."""
        if name in self._new:
            return self._new[name]
        found = self._ends.biases.get(name)
        whole = isinstance(found, nn.Parameter) and found.numel() == self._ends.outputs[name]
        return found if whole else None  # type: ignore[return-value]

    def takes(self, name: str) -> bool:
        """Whether a constant can be added to all that a weight makes."""
        return self.bias(name) is not None or self._ends.mean(name) is not None

    def add(self, name: str, shift: Tensor) -> None:
        """Add a constant, (outputs,)."""
        bias, mean = self.bias(name), self._ends.mean(name)
        if bias is not None:
            bias.data.add_(shift.to(bias).view_as(bias))
        elif mean is not None:
            mean.sub_(shift.to(mean))

    def tidy(self) -> dict[Added, Tensor]:
        """Take the new biases out; gives those that are not zero, with their values."""
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
