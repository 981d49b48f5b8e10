from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from secateur.data import load_data
from secateur.data.folder import MEAN, STD, read_image
from secateur.errors import FileError, InputError

Image = pytest.importorskip("PIL.Image", reason="needs secateur[vision]")


def save(path: Path, colour: tuple[int, int, int] = (0, 0, 0), size: tuple[int, int] = (40, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, count in {"train": 3, "test": 2}.items():
        for index in range(count):
            save(tmp_path / split / "dog" / f"{index}.png", (255, 0, 0))
            save(tmp_path / split / "cat" / f"{index}.JPG", (0, 0, 255))
    return tmp_path


def test_classes_are_sorted_and_images_normalised(root: Path) -> None:
    data = load_data("folder", train_path=f"{root}/train", test_path=f"{root}/test", image_size=8)
    ((x, y),) = data.test
    assert (data.num_classes, y.tolist(), y.dtype) == (2, [0, 0, 1, 1], torch.int64)
    assert (tuple(x.shape), x.dtype) == ((4, 3, 8, 8), torch.float32)
    assert x[3, :, 4, 4].tolist() == pytest.approx([(v - m) / s for v, m, s in zip((1, 0, 0), MEAN, STD, strict=True)])


def test_a_folder_with_train_and_test_in_it(root: Path) -> None:
    data = load_data(str(root), image_size=8, batch_size=4)
    assert (len(data.train), len(data.test)) == (2, 1)
    (root / "test").rename(root / "val")
    assert len(load_data(str(root), image_size=8).test) == 1


def test_training_is_shuffled(root: Path) -> None:
    assert {tuple(y.tolist()) for seed in range(8) for _, y in load_data(str(root), image_size=4, seed=seed).train} > {
        (0, 0, 0, 1, 1, 1)
    }


def test_the_centre_is_kept(tmp_path: Path) -> None:
    image = Image.new("RGB", (30, 10), (255, 255, 255))
    image.paste((0, 0, 0), (10, 0, 20, 10))
    image.save(tmp_path / "wide.png")
    assert read_image(tmp_path / "wide.png", 10).amax() == pytest.approx(
        -min(m / s for m, s in zip(MEAN, STD, strict=True))
    )


@pytest.mark.parametrize("image_mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path: Path, image_mode: str) -> None:
    path = tmp_path / ("a.tif" if image_mode == "CMYK" else "a.png")
    Image.new(image_mode, (9, 9)).save(path)
    assert read_image(path, 4).shape == (3, 4, 4)


def test_hidden_and_other_files_are_no_images(root: Path) -> None:
    (root / "train" / "cat" / "notes.txt").touch()
    (root / "train" / "cat" / ".hidden.png").touch()
    (root / "train" / ".cache").mkdir()
    data = load_data(str(root), image_size=4)
    assert (data.num_classes, sum(len(y) for _, y in data.train)) == (2, 6)


def test_an_unreadable_image(root: Path) -> None:
    (root / "test" / "cat" / "0.JPG").write_bytes(b"no image")
    data = load_data(str(root), image_size=4)
    with pytest.raises(FileError, match=r"image .*test/cat/0.JPG cannot be read: .*; remove or replace it"):
        list(data.test)


def test_a_truncated_image(root: Path) -> None:
    path = root / "test" / "dog" / "0.png"
    save(path, size=(400, 400))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(FileError, match=r"0\.png cannot be read"):
        read_image(path, 4)


def test_no_path() -> None:
    with pytest.raises(InputError, match=r"train_path \(--train-path\) is missing; name a folder"):
        load_data("folder")


def test_a_wrong_path(root: Path) -> None:
    with pytest.raises(InputError, match=r"test_path \(--test-path\) .*/tset is not a folder; did you mean 'test'\?"):
        load_data("folder", train_path=f"{root}/train", test_path=f"{root}/tset")


def test_no_classes(root: Path) -> None:
    (root / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty has no sub-folders \(and 0 files\); put the images of each"):
        load_data("folder", train_path=f"{root}/empty", test_path=f"{root}/test")
    save(root / "empty" / "0.png")
    with pytest.raises(InputError, match=r"empty has no sub-folders \(and 1 file\)"):
        load_data("folder", train_path=f"{root}/train", test_path=f"{root}/empty")


def test_an_empty_class(root: Path) -> None:
    for split in ("train", "test"):
        (root / split / "eel").mkdir()
    with pytest.raises(InputError, match=r"train/eel holds no image; known endings are .bmp, .gif, .jpeg"):
        load_data(str(root))


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({"test": ["eel"]}, ["only in {root}/test: 'eel'"]),
        ({"train": ["eel", "cow"]}, ["only in {root}/train: 'cow', 'eel'"]),
        ({"train": ["dogs"], "test": ["Dogs"]}, ["only in {root}/train: 'dogs'", "only in {root}/test: 'Dogs'"]),
    ],
)
def test_classes_that_differ(root: Path, extra: dict[str, list[str]], told: list[str]) -> None:
    for split, names in extra.items():
        for name in names:
            save(root / split / name / "0.png")
    with pytest.raises(InputError) as caught:
        load_data(str(root))
    first, *lines, last = str(caught.value).splitlines()
    assert first == "the classes of the training and the test folder differ"
    assert [line.strip() for line in lines] == [line.format(root=root) for line in told]
    assert last == "every class needs a sub-folder of the same name in both; rename, add or remove these"


def test_without_pillow(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(InputError, match=r"Pillow is not installed; .* pip install 'secateur\[vision\]'"):
        load_data(str(root))
