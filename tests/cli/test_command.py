from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import secateur as library
from commands import HALF, SHAPE, Command
from secateur.cli import SUBCOMMANDS, main
from secateur.cli.command import plain
from secateur.cli.option_names import in_options

ALONE = """
import pathlib, sys, types
package = types.ModuleType("secateur")
package.__path__ = [sys.argv[1]]
sys.modules["secateur"] = package
from typer.testing import CliRunner
from secateur.cli import app
for words in (["--help"], ["prune", "--help"], ["--nonsense"]):
    CliRunner().invoke(app, words)
print([name for name in ("torch", "numpy", "safetensors") if name in sys.modules])
"""


def test_help_needs_no_heavy_import() -> None:
    folder = Path(library.__file__).parent
    done = subprocess.run([sys.executable, "-c", ALONE, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_main(secateur: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["secateur", "count", secateur.net, *SHAPE, "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    assert (ended.value.code, json.loads(out)["params"] > 0, err) == (0, True, "building\n")


def test_a_real_process_fails_without_traceback(secateur: Command) -> None:
    program = [sys.executable, "-c", "from secateur.cli import main; main()"]
    bad = subprocess.run(
        [*program, "count", secateur.file("bild"), *SHAPE], capture_output=True, text=True, check=False
    )
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("error: ")
    assert "Traceback" not in bad.stderr


def test_version(secateur: Command) -> None:
    assert secateur("--version") == f"secateur {library.__version__}\n"


@pytest.mark.parametrize("subcommand", SUBCOMMANDS, ids=lambda function: function.__name__)
def test_help(secateur: Command, subcommand: object) -> None:
    name = subcommand.__name__  # type: ignore[attr-defined]
    text = secateur(name, "--help")
    assert "--json" in text
    assert f"secateur {name}" in text


@pytest.mark.parametrize(
    "arguments",
    [["prun"], ["count"], ["plan", "x", "--targte", "macs=1"], ["prune", "x", "--out", "o", "--seed", "one"], ["-x"]],
)
def test_usage_errors_end_with_2(secateur: Command, arguments: list[str]) -> None:
    assert "Usage: " in secateur.fails(*arguments)


def test_what_a_factory_prints_is_not_on_stdout(secateur: Command) -> None:
    result = secateur.invoke("plan", secateur.net, *SHAPE, *HALF)
    assert "building" not in result.stdout
    assert "building" in result.stderr


def test_progress_is_for_terminals(secateur: Command) -> None:
    arguments = ("train", secateur.net, "--data", secateur.file("data"), "--out", secateur.folder / "o")
    assert secateur.invoke(*arguments).stderr == "building\nbuilding\n"
    shown = secateur.invoke(*arguments, env={"TTY_COMPATIBLE": "1", "TERM": "xterm"})
    assert "training" in shown.stderr
    assert "training" not in shown.stdout.partition("accuracy")[0]


def test_json_has_no_infinity() -> None:
    assert json.dumps(plain({"a": (1.5, float("inf")), "b": [float("nan")]})) == '{"a": [1.5, null], "b": [null]}'


def test_messages_speak_of_options() -> None:
    assert in_options("lower select.floor, or see print(graph)") == "lower --floor, or see secateur inspect"
    assert in_options("and 3 more: plan.attributes") == "and 3 more: --json"
