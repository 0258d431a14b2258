"""The command line: what it prints, its exit codes, and what it hands over."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from server import cli
from server.settings import Settings, SettingsError


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("TUTTI_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """What `server.app.run` was called with; it returns 7 so that the exit code can be followed."""
    calls: list[Settings] = []

    def run(settings: Settings) -> int:
        calls.append(settings)
        return 7

    monkeypatch.setitem(sys.modules, "server.app", SimpleNamespace(run=run))
    return calls


def serving(monkeypatch: pytest.MonkeyPatch, run: Callable[[Settings], int]) -> None:
    monkeypatch.setitem(sys.modules, "server.app", SimpleNamespace(run=run))


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("tutti: ")
    assert printed.err.count("\n") == 1, "one sentence on one line"
    return printed.err.removeprefix("tutti: ").rstrip("\n")


def test_serve_builds_settings_and_returns_the_exit_code(
    served: list[Settings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TUTTI_LOG_FORMAT", "json")
    assert cli.main(["serve", "--port", "0", "--data-dir", "deep/data", "--no-web", "--record-dir", "rec"]) == 7
    assert served == [
        Settings(port=0, data_dir=Path("deep/data"), web=False, record_dir=Path("rec"), log_format="json")
    ]
    assert (tmp_path / "deep/data").is_dir()
    assert (tmp_path / "rec").is_dir()


def test_a_flag_that_was_not_typed_hides_nothing(served: list[Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTTI_WEB", "false")
    assert cli.main(["serve"]) == 7
    assert cli.main(["serve", "--web"]) == 7
    assert [settings.web for settings in served] == [False, True]


def test_serve_takes_a_file(served: list[Settings], tmp_path: Path) -> None:
    (tmp_path / "tutti.toml").write_text("port = 9000\n")
    assert cli.main(["serve", "--config", "tutti.toml"]) == 7
    assert served[0].port == 9000


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["serv"], "unknown command serv (did you mean serve?), see `tutti --help`"),
        (["--versoin"], "unknown option --versoin (did you mean --version?), see `tutti --help`"),
        (["serve", "--prot", "1"], "unknown option --prot (did you mean --port?), see `tutti serve --help`"),
        (["serve", "--prot=1"], "unknown option --prot (did you mean --port?), see `tutti serve --help`"),
        (["serve", "--tick"], "unknown option --tick, see `tutti serve --help`"),
        (["serve", "now"], "unknown argument now, see `tutti serve --help`"),
        (["serve", "--port"], "argument --port: expected one argument, see `tutti serve --help`"),
        (["serve", "--port", "x"], "port is 'x' from flag --port, it must be a whole number from 0 up to 65535"),
        (["serve", "--config", "none"], "settings file none can't be read: no such file or directory"),
        (["serve", "--data-dir", "/dev/null/x"], "data_dir /dev/null/x can't be written to: not a directory"),
        (["serve", "--record-dir", "/dev/null"], "record_dir /dev/null can't be written to: file exists"),
        (["version", "x"], "unknown argument x, see `tutti version --help`"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_2(
    capsys: pytest.CaptureFixture[str], served: list[Settings], arguments: list[str], sentence: str
) -> None:
    assert complaint(capsys, *arguments) == sentence
    assert served == []


def test_an_unknown_variable_is_one_sentence(
    capsys: pytest.CaptureFixture[str], served: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUTTI_PROT", "1")
    assert complaint(capsys, "serve") == "variable TUTTI_PROT is not a setting (did you mean TUTTI_PORT?)"
    assert served == []


def test_a_setting_that_turns_out_not_to_work_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_: Settings) -> int:
        raise SettingsError("can't listen on 127.0.0.1 port 80: permission denied")

    serving(monkeypatch, run)
    assert complaint(capsys, "serve") == "can't listen on 127.0.0.1 port 80: permission denied"


def test_ctrl_c_is_quiet(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: Settings) -> int:
        raise KeyboardInterrupt

    serving(monkeypatch, run)
    assert cli.main(["serve"]) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_help_names_every_command_with_examples(capsys: pytest.CaptureFixture[str], word: str) -> None:
    assert cli.main([word]) == 0
    text = capsys.readouterr().out
    for command in ("serve", "import", "export", "version"):
        assert f"\n  {command} " in text
    assert "tutti serve --port" in text


def test_no_command_prints_the_help_as_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("usage: tutti COMMAND")


def test_serve_help_has_every_setting_with_default_and_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for field, info in Settings.model_fields.items():
        assert f" --{field.replace('_', '-')}" in text
        assert info.description is not None
        # argparse breaks lines at hyphens too, as in step-by-step
        assert info.description.replace("- ", "-") in text.replace("- ", "-"), field
    for title in Settings.sections.values():
        assert f"{title}:" in text
    assert "--port PORT TCP port" in text
    assert "(default 16; a number from 1 up to 1000)" in text
    assert "--held-bytes-per-session-max BYTES" in text
    assert "--web, --no-web Serve the web app at /. (on)" in text
    assert "(default none)" in text
    assert "TUTTI_TICK_INTERVAL_MS=33" in text


@pytest.mark.parametrize("word", ["version", "--version"])
def test_version(capsys: pytest.CaptureFixture[str], word: str) -> None:
    assert cli.main([word]) == 0
    text = capsys.readouterr().out
    assert text.startswith("tutti 0.")
    for part in ("Python 3.", "pycrdt 0.", "SQLite 3."):
        assert part in text


@pytest.mark.parametrize("name", ["import", "export"])
def test_transfer_gets_what_was_typed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--data-dir", default="data")
        parser.add_argument("path", nargs="+")

    def run(namespace: argparse.Namespace) -> int:
        assert namespace == argparse.Namespace(data_dir="d", path=["a", "b"])
        return 1

    transfer = {f"add_{name}_arguments": add_arguments, f"run_{name}": run}
    monkeypatch.setitem(sys.modules, "server.transfer", SimpleNamespace(**transfer))
    assert cli.main([name, "--data-dir", "d", "a", "b"]) == 1
    assert complaint(capsys, name, "--data-dri", "d", "a") == (
        f"unknown option --data-dri (did you mean --data-dir?), see `tutti {name} --help`"
    )
    assert complaint(capsys, name) == f"the following arguments are required: path, see `tutti {name} --help`"
    assert cli.main([name, "--help"]) == 0
    assert f"usage: tutti {name}" in capsys.readouterr().out


def test_arguments_come_from_the_process(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["tutti", "version"])
    assert cli.main() == 0
    assert capsys.readouterr().out.startswith("tutti ")
