"""Models of diffusers, small and with random weights: cut, proved, saved and loaded."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch

import secateur
from diffusion import MODELS
from secateur import InputError
from secateur.base.nested import tensors_in
from secateur.export.loader import loader_source

diffusers: Any = pytest.importorskip("diffusers", reason="diffusers is not installed (extra diffusers)")
diffusers.logging.set_verbosity_error()

QUICK = ("unet2d", "autoencoder kl", "dit")
EACH = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in MODELS]


def outputs(model: Any, call: Any) -> list[torch.Tensor]:
    torch.manual_seed(0)
    with torch.no_grad():
        return tensors_in(model(**call))


def same(one: Any, two: Any, call: Any) -> bool:
    pairs = zip(outputs(one, call), outputs(two, call), strict=True)
    return all(torch.allclose(a, b, rtol=1e-5, atol=1e-5) for a, b in pairs)  # kernels round by where tensors lie


@lru_cache(maxsize=1)
def pruned(name: str) -> Any:
    model = MODELS[name].build()
    config = dict(model.config)
    result = secateur.prune(model, MODELS[name].call(), "channels=0.7")
    assert dict(model.config) == config
    return result


@pytest.mark.parametrize("name", EACH)
def test_a_model_is_cut_proved_saved_and_loaded(name: str, tmp_path: Path) -> None:
    result, call = pruned(name), MODELS[name].call()
    assert result.proved
    assert result.graph.coverage.params > 0.9
    assert result.plan.after.params < 0.75 * result.plan.before.params
    result.save(tmp_path / "small.safetensors")
    assert same(result.model, secateur.load(MODELS[name].build(seed=2), tmp_path / "small.safetensors"), call)
    scope: dict[str, Any] = {}
    exec(loader_source(tmp_path / "small.safetensors"), scope)
    assert same(result.model, scope["load_pruned"](MODELS[name].build(seed=2), tmp_path / "small.safetensors"), call)


@pytest.mark.parametrize("name", EACH)
def test_what_no_config_describes_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    message = rf"the config of this {MODELS[name].kind} does not describe it: .*\n.*secateur\.save\(model, "
    with pytest.raises(InputError, match=message):
        pruned(name).model.save_pretrained(tmp_path / "small")
    assert list(tmp_path.iterdir()) == []
