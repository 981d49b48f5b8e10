"""One of the processes that `test_processes` starts: worker.py FOLDER."""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nets import Parts
from secateur.errors import InputError, PruningError
from secateur.statistics.calibration import calibrate
from secateur.statistics.sums import Statistics
from secateur.trace.tracing import trace


def _run(m: Any, x: Tensor) -> Tensor:
    """A second layer is reached by batches of positive numbers only."""
    return m.c(F.relu(m.b(F.relu(m.a(x)))) if bool((x > 0).all()) else F.relu(m.a(x)))


def close(one: Statistics, other: Statistics) -> bool:
    counts = (one.examples, one.batches) == (other.examples, other.batches)
    same = all(torch.allclose(one.sums[k], other.sums[k], rtol=1e-9) for k in other.sums if k[1] != "gram")
    return counts and one.sums.keys() == other.sums.keys() and same


def message(error: type[Exception], *args: Any, **options: Any) -> str:
    """What a calibration that fails says."""
    try:
        calibrate(*args, **options)
    except error as found:
        return str(found)
    raise AssertionError(f"no {error.__name__}")


def main(folder: str) -> None:
    torch.manual_seed(0)
    model = Parts(_run, a=nn.Linear(4, 8), b=nn.Linear(8, 8), c=nn.Linear(8, 2)).double()
    data = [(torch.rand(n, 4).double() - shift, torch.zeros(n).long()) for n, shift in ((3, 0), (2, 1), (4, 1))]
    graph = trace(model, data[0][0])
    options: dict[str, Any] = {"needs": {"moments", "gram", "gates", "gradients"}, "loss": F.cross_entropy}
    whole = calibrate(graph, data, **options)
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    shares = ([data[:1], data[1:]], [data, []], [data[1:], data[:1]])
    assert all(close(calibrate(graph, share[rank], **options), whole) for share in shares)
    for needs in ({"moments"}, {"moments", "gates"}, {"moments", "gates"}):
        found = calibrate(graph, shares[0][rank], needs=needs, loss=F.cross_entropy, cache=folder)
        assert close(found, calibrate(graph, shares[0][rank], needs=needs, loss=F.cross_entropy))
    print("sums are those of one process", flush=True)
    print(message(InputError, graph, [], **options), flush=True)
    bad = [(x * (1 if rank == 0 else float("nan")), y) for x, y in data]
    print(message(PruningError, graph, bad, **options), flush=True)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
