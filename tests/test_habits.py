"""The habits of the house: one style, one direction of imports, public names that are true, docs that keep up."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from dashboard.cli import cli
from milcore.formats import FORMATS
from milcore.tables import READERS
from milcore.training import Settings

ROOT = Path(__file__).parents[1]

# The one straight line: a file may import only files before it (the views are one place).
LINE = re.findall(
    r"\w+",
    """
errors folder memory progress crew matrix measures tasks labels names cohort formats profiles columns files text binary
large pairing tables patients belonging naming owners mapping inspection measurements readers surroundings preprocess
neighbours folds neighbourhood models learning training case stacking evidence faithfulness stability permutation
validation calibration associations reach baselines covariates probes projection phenotypes effects gating seen
scorer cellfile analysis selections results judgement
retraining chain prediction export sample_data theme outcome trust worth checks colouring shades planes hover drivers
why maps figures chartdata svg stills document webpage ink paper pictures casepage method pseudonyms report
slides comparing workspace layouts journal worker process jobs server doctor options terminal targets cli selection
picks kept state browser widgets canvas views frame app
""",
)
SCREEN = LINE[LINE.index("state") :]  # the only files that know Streamlit
PACKAGES = ("milcore", "dashboard", "sample_data")


def sources() -> list[Path]:
    """Every Python file of the product."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return sorted(path for path in files if path.stat().st_size)


def place(module: str) -> str:
    """The name on the line of 'milcore.cohort', 'dashboard.views.train' or 'sample_data.generate'."""
    first, *rest = module.split(".")
    return first if first == "sample_data" or not rest else rest[0]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def imports(path: Path) -> list[tuple[str, str]]:
    """(module, name) of everything a file imports, also late and inside functions."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [(node.module, alias.name) for alias in node.names]
    return found


def ours(path: Path) -> Iterator[str]:
    """The modules of this project that a file imports."""
    for module, name in imports(path):
        if module.split(".")[0] in PACKAGES:
            inner = f"{module}.{name}"
            yield inner if (ROOT / inner.replace(".", "/")).with_suffix(".py").exists() else module


@pytest.mark.parametrize(
    "command", [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)], ids=" ".join
)
def test_style_and_types(command: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_imports_run_in_one_direction() -> None:
    wrong = []
    for path in sources():
        here = place(module_of(path))
        if here in PACKAGES and here != "sample_data":
            continue  # the packages' own __init__ import nothing, below
        assert here in LINE, f"{path.name} has no place on the line"
        for module in ours(path):
            there = place(module)
            if there != here and LINE.index(there) > LINE.index(here):
                wrong.append(f"{here} imports {there}")
    assert wrong == []
    for package in ("milcore", "dashboard"):
        assert list(imports(ROOT / package / "__init__.py")) == []


def test_streamlit_stays_on_the_screen() -> None:
    for path in sources():
        if place(module_of(path)) not in SCREEN:
            assert not [module for module, _ in imports(path) if module.split(".")[0] == "streamlit"], (
                path.name
            )


def test_session_state_is_spelled_in_one_file() -> None:
    spelled = [path.name for path in sources() if "session_state" in path.read_text(encoding="utf-8")]
    assert spelled in ([], ["state.py"])


@pytest.mark.parametrize("path", sorted((ROOT / "milcore").glob("[!_]*.py")), ids=lambda path: path.stem)
def test_public_names_are_true(path: Path) -> None:
    module = importlib.import_module(f"milcore.{path.stem}")
    stated = module.__all__
    assert len(set(stated)) == len(stated)
    for name in stated:
        thing = getattr(module, name)
        if getattr(thing, "__module__", "").startswith("milcore"):
            assert thing.__doc__, f"{name} has no docstring"
    for other in sources():
        if other != path:
            taken = {name for source, name in imports(other) if name and source == f"milcore.{path.stem}"}
            assert taken <= set(stated), f"{other.name} takes what is not public"


# ---------------------------------------------------------------- docs


def options(command: click.Command) -> list[click.Option]:
    return [one for one in command.params if isinstance(one, click.Option)]


def test_every_command_and_option_is_explained() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, command in cli.commands.items():
        assert command.help, name
        assert f"milscope {name}" in readme
        for option in options(command):
            assert option.help, f"{name} {option.opts[0]}"
            assert f"`{option.opts[0]}" in readme, f"{name} {option.opts[0]} is not in the README"


def test_every_setting_is_an_option_of_run() -> None:
    given = {option.name for option in options(cli.commands["run"])}
    assert set(Settings.__dataclass_fields__) <= given


def test_every_reader_is_named() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for ending in READERS:
        assert f"`.{ending}`" in readme, ending


def test_every_tool_is_explained() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for tool in (known.name for known in FORMATS if not known.refused):
        assert re.search(rf"^\|[^|]*\b{tool}\b", readme, flags=re.MULTILINE), tool


def test_the_readme_begins_with_the_two_lines_of_the_makefile() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)\n```", readme, flags=re.DOTALL)[:2]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipes = [re.search(rf"^{name}:\n\t(.*)$", makefile, flags=re.MULTILINE) for name in ("run", "test")]
    assert blocks == [recipe.group(1) for recipe in recipes if recipe]
    assert all("\n" not in block for block in blocks)


def test_pictures_and_links_of_the_readme_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", readme):
        assert (ROOT / target).exists(), target


def test_nothing_committed_names_this_machine() -> None:
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    secret = re.compile("/" + "work/|/" + "tmp/|pypi" + r"\.org|files\.python" + "hosted")
    named = []
    for name in files:
        path = ROOT / name
        if path.suffix in (".py", ".md", ".toml", ".txt", ".css", ".cfg", "") and path.is_file():
            named += [name for line in path.read_text(encoding="utf-8").splitlines() if secret.search(line)]
    assert named == []
