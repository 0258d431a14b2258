"""House rules that no linter knows. Each message names the fix."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYTHON_FOLDERS = ("crdt", "presence", "server", "loadtest", "tests", "scripts")
LINES_MAX = 520
"""Past 400 lines a module has a second idea; a parser or a machine may need the rest."""
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}
LEFT_OVERS = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:ro" + r"ot|wo" + r"rk|home|Users)/\w")
RULE = re.compile(r"^- \*\*([A-Z]\d+)\*\*", re.MULTILINE)


def tracked() -> list[Path]:
    """Files of the project: what git has, or, outside of a checkout, what is there."""
    answer = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        pytest.skip("not a git checkout")
    return [path for line in answer.stdout.splitlines() if (path := ROOT / line).is_file()]


def python_files() -> Iterator[Path]:
    for path in tracked():
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in PYTHON_FOLDERS:
            yield path


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_every_module_says_what_it_is_for() -> None:
    silent = [name(path) for path in python_files() if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not silent, f"start these with a docstring that says what they own: {silent}"


def test_modules_stay_readable() -> None:
    long = {
        name(path): lines
        for path in python_files()
        if path.parts[len(ROOT.parts)] != "tests" and (lines := path.read_text().count("\n")) > LINES_MAX
    }
    assert not long, f"find the second idea in these and give it a module: {long}"


def test_names_say_something() -> None:
    vague = [name(path) for path in tracked() if path.stem.lower() in VAGUE_NAMES]
    assert not vague, f"name these after what they hold: {vague}"


def test_nothing_is_left_for_later() -> None:
    found = [
        name(path)
        for path in tracked()
        if path.suffix in {".py", ".ts", ".mjs", ".css"} and LEFT_OVERS.search(path.read_text())
    ]
    assert not found, f"do it or say why not, without a marker: {found}"


def test_no_path_of_a_machine() -> None:
    texts = {".py", ".ts", ".mjs", ".md", ".toml", ".json", ".txt", ".in", ".html", ".css", ".yml"}
    found = [name(path) for path in tracked() if path.suffix in texts and MACHINE_PATH.search(path.read_text())]
    assert not found, f"make these paths relative: {found}"


def test_lock_files_name_no_registry() -> None:
    for path in tracked():
        if path.name == "package-lock.json":
            assert '"resolved"' not in path.read_text(), (
                f"{name(path)}: npm install with omit-lockfile-registry-resolved"
            )
        if path.parent.name == "requirements":
            assert "://" not in path.read_text(), f"{name(path)}: make requirements leaves addresses out"
    assert not (ROOT / "uv.lock").exists(), "uv.lock records an address: requirements/*.txt are the lock files"


def test_tests_have_no_packages() -> None:
    found = [name(path) for path in (ROOT / "tests").rglob("__init__.py") if "node_modules" not in path.parts]
    assert not found, f"pytest runs with importlib mode, remove {found}"


def text_of_tests() -> str:
    return "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))


def test_every_rule_of_the_protocol_has_a_test() -> None:
    rules = RULE.findall((ROOT / "docs/PROTOCOL.md").read_text())
    assert len(rules) == len(set(rules)) > 20
    text = text_of_tests()
    missing = [rule for rule in rules if f"def test_{rule}_" not in text]
    assert not missing, f"name a test for each of these rules of docs/PROTOCOL.md (test_W1_…): {missing}"


def test_every_cited_rule_exists() -> None:
    known = set(re.findall(r"^- \*\*(R\d+) ", (ROOT / "docs/RULES.md").read_text(), re.MULTILINE))
    assert len(known) == 18
    for path in python_files():
        cited = set(re.findall(r"\bR\d{1,2}\b", path.read_text()))
        assert cited <= known, f"{name(path)} cites {sorted(cited - known)}, which docs/RULES.md does not have"


def test_links_in_documents_lead_somewhere() -> None:
    for path in tracked():
        if path.suffix != ".md":
            continue
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
            assert (path.parent / target).exists(), f"{name(path)} links to {target}, which is not there"


def test_the_package_says_what_the_lock_file_pins() -> None:
    declared = set(re.findall(r'^  "([\w.-]+)[><=]', (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    asked = set(re.findall(r"^([\w.-]+)[><=]", (ROOT / "requirements/base.in").read_text(), re.MULTILINE))
    assert asked <= declared, f"add to pyproject.toml: {asked - declared}"
