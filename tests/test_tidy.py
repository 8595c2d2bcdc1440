"""House rules as tests: what a reviewer would otherwise have to look for.

Covers: names, packages, docstrings, prints, wide excepts, who may wait, sizes, the top level, pins, and that no file
tells where it was written.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGES: Final = ("gateway", "channels", "ledger", "sts", "config")
# About what one reads at a sitting; a table of cases may be longer.
LINES_MAX: Final = 650
TEST_LINES_MAX: Final = 900

TOP_LEVEL: Final = {
    *PACKAGES,
    ".ci", ".dockerignore", ".gitignore", ".pre-commit-config.yaml",
    "CHANGELOG.md", "Dockerfile", "LICENSE", "Makefile", "README.md",
    "constraints.txt", "docs", "pyproject.toml", "tests",
}  # fmt: skip

# Where people are talked to at a terminal.
MAY_PRINT: Final = ("gateway.__main__", "gateway.demo", "gateway.bench")

# A module that calls itself pure imports none of these. SQLAlchemy is not among them: it only describes statements.
OUTSIDE: Final = {
    "asyncio", "socket", "ssl", "aiohttp", "subprocess", "threading", "concurrent", "multiprocessing", "signal",
    "asyncpg", "sqlite3", "alembic", "logging", "tenacity", "os", "shutil", "tempfile",
}  # fmt: skip

# Written in halves, so that this file does not break its own rule.
NEVER_NAMED: Final = [
    "/wo" + "rk/", "/ro" + "ot/", "py" + "pi.org", "python" + "hosted", "registry." + "npmjs", "deb.deb" + "ian.org",
]  # fmt: skip


@cache
def _files() -> tuple[Path, ...]:
    """Every file of the project, as git would commit it; without git, every file that is not made by a tool."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        made = re.compile(
            r"(^|/)(\.git|\.venv|__pycache__|[^/]*\.egg-info|\.\w+_cache|\.hypothesis|build|dist|var)(/|$)"
        )
        listed = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")]
        listed = [name for name in listed if not made.search(name)]
    return tuple(sorted(ROOT / name for name in listed if name and (ROOT / name).is_file()))


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _name(path: Path) -> str:
    """A module's dotted name."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _modules(*folders: str) -> list[Path]:
    return [path for path in _files() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in folders]


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    """The first part of each name that a module imports, with the line."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0], node.lineno


def _pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _at(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


# --- names and packages -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES)
def test_our_top_level_names_are_ours_and_not_some_dependencys(package: str) -> None:
    found = importlib.util.find_spec(package)
    assert found is not None and found.origin is not None
    assert Path(found.origin).resolve() == ROOT / package / "__init__.py"


def test_the_top_level_holds_only_what_was_agreed() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in _files()} <= TOP_LEVEL


def test_an_init_file_holds_the_packages_map_and_nothing_else() -> None:
    for path in _modules(*PACKAGES, "tests"):
        if path.name == "__init__.py":
            body = _tree(path).body
            assert ast.get_docstring(_tree(path)) and len(body) == 1, f"{_at(path, 1)}: a docstring and nothing else"


def test_every_folder_of_tests_is_a_package() -> None:
    # Without it a folder such as tests/sts hides the package sts.
    folders = {
        folder for path in _modules("tests") for folder in path.parents if ROOT / "tests" in (folder, *folder.parents)
    }
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_every_folder_of_code_is_a_package() -> None:
    folders = {path.parent for path in _modules(*PACKAGES)}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_every_module_says_first_what_it_is_for() -> None:
    silent = [_at(path, 1) for path in _modules(*PACKAGES, "tests") if not ast.get_docstring(_tree(path))]
    assert silent == []


def test_no_file_is_too_long_to_read_at_one_sitting() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in _modules(*PACKAGES, "tests")
        if (lines := len(path.read_text(encoding="utf-8").splitlines()))
        > (TEST_LINES_MAX if path.is_relative_to(ROOT / "tests") else LINES_MAX)
    }
    assert long == {}


# --- code -------------------------------------------------------------------------------------------------------------


def test_only_the_terminal_commands_print() -> None:
    printing = [
        _at(path, node.lineno)
        for path in _modules(*PACKAGES)
        if _name(path) not in MAY_PRINT
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert printing == []


def test_a_wide_except_says_why() -> None:
    unexplained: list[str] = []
    for path in _modules(*PACKAGES):
        lines = path.read_text(encoding="utf-8").splitlines()
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.ExceptHandler) and _is_wide(node.type) and not _is_raised_again(node):
                around = lines[node.lineno - 2 : node.lineno + 1]
                if not any("# " in line for line in around):
                    unexplained.append(_at(path, node.lineno))
    assert unexplained == []


def _is_wide(caught: ast.expr | None) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(_is_wide(part) for part in caught.elts)
    return caught is None or (isinstance(caught, ast.Name) and caught.id in ("Exception", "BaseException"))


def _is_raised_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def _may_wait() -> list[str]:
    """The list in pyproject.toml that import-linter enforces too."""
    contracts = _pyproject()["tool"]["importlinter"]["contracts"]
    (contract,) = [contract for contract in contracts if contract["name"].startswith("Only the modules listed here")]
    return [line.split(" -> ")[0].replace("**.", "*") for line in contract["ignore_imports"]]


def test_only_listed_modules_wait_or_open_sockets() -> None:
    listed = _may_wait()
    found = [
        f"{_at(path, line)} {imported}"
        for path in _modules(*PACKAGES)
        if not any(fnmatchcase(_name(path), pattern) for pattern in listed)
        for imported, line in _imports(path)
        if imported in ("asyncio", "socket", "ssl", "aiohttp")
    ]
    assert found == []


def test_a_module_that_calls_itself_pure_is() -> None:
    found = [
        f"{_at(path, line)} {imported}"
        for path in _modules(*PACKAGES)
        if re.search(r"\bPure[.:]", ast.get_docstring(_tree(path)) or "")
        for imported, line in _imports(path)
        if imported in OUTSIDE
    ]
    assert found == []


def test_only_the_world_reads_the_clock_makes_ids_or_draws_chance() -> None:
    found = [
        f"{_at(path, line)} {imported}"
        for path in _modules(*PACKAGES)
        if _name(path) != "gateway.world"
        for imported, line in _imports(path)
        if imported in ("random", "secrets")
    ]
    assert found == []


# --- every file -------------------------------------------------------------------------------------------------------


def test_no_file_tells_where_it_was_written_or_where_packages_come_from() -> None:
    found: list[str] = []
    for path in _files():
        text = path.read_bytes().decode("utf-8", errors="replace")
        for number, line in enumerate(text.splitlines(), start=1):
            found += [f"{_at(path, number)} {words}" for words in NEVER_NAMED if words in line]
    assert found == []


def test_files_are_text_in_utf_8_with_unix_line_ends() -> None:
    found: list[str] = []
    for path in _files():
        if path.suffix in (".py", ".toml", ".md", ".txt", ".yaml", ".json", ".csv", "") and path.stat().st_size:
            octets = path.read_bytes()
            octets.decode("utf-8")
            if b"\r\n" in octets or not octets.endswith(b"\n"):
                found.append(str(path.relative_to(ROOT)))
    assert found == []


def test_every_dependency_is_pinned_exactly_and_by_name_only() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9A-Za-z.+!-]+", line) for line in lines)
    pinned = {_normal(line.split("==")[0]) for line in lines}
    project = _pyproject()["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    assert {_normal(re.split(r"[<>=!~;\[ ]", line)[0]) for line in needed} <= pinned
    assert "prepaid-gateway" not in pinned


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_continuous_integration_runs_what_developers_run() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()


def test_hooks_before_a_commit_fetch_nothing() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"- repo: (.*)", text) == ["local"]
