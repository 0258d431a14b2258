"""Where settings come from: which source wins, and the sentence when one of them is wrong."""

import re
from pathlib import Path
from typing import Any

import pytest

from server.configuration import closest, flag, load
from server.settings import Settings, SettingsError


def complaint(flags: dict[str, Any] | None = None, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load(flags or {}, environ or {})
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tutti.toml"


def test_nothing_set_is_the_defaults() -> None:
    assert load({}, {}) == Settings()
    assert load({}, {"PATH": "/bin", "PORT": "1", "tutti_port": "1"}) == Settings()


def test_flag_over_variable_over_file_over_default(file: Path) -> None:
    file.write_text("port = 1\nhost = '0.0.0.1'\nlog_level = 'error'\ncors_origins = ['https://a.example']\n")
    settings = load({"config": str(file), "port": "3"}, {"TUTTI_PORT": "2", "TUTTI_HOST": "0.0.0.2"})
    assert (settings.port, settings.host, settings.log_level) == (3, "0.0.0.2", "error")
    assert settings.cors_origins == ("https://a.example",)
    assert settings.tick_interval_ms == 16


def test_the_file_is_named_by_flag_or_variable(file: Path, tmp_path: Path) -> None:
    file.write_text("port = 1\n")
    other = tmp_path / "other.toml"
    other.write_text("port = 2\n")
    assert load({}, {"TUTTI_CONFIG": str(file)}).port == 1
    assert load({"config": str(other)}, {"TUTTI_CONFIG": str(file)}).port == 2


def test_every_field_can_come_from_each_source(file: Path) -> None:
    values: dict[str, Any] = {
        field: str(default) for field, default in Settings().model_dump().items() if default not in {None, ()}
    }
    values |= {"record_dir": "rec", "cors_origins": "https://a.example"}
    assert values.keys() == Settings.model_fields.keys()
    expected = Settings(**values)
    file.write_text("".join(f"{field} = '{value}'\n" for field, value in values.items()))
    assert load(values, {}) == expected
    assert load({}, {f"TUTTI_{field.upper()}": value for field, value in values.items()}) == expected
    assert load({"config": str(file)}, {}) == expected


def test_an_empty_variable_is_not_set(file: Path) -> None:
    file.write_text("port = 1\n")
    assert (
        load(
            {"config": str(file)}, {"TUTTI_PORT": "", "TUTTI_RECORD_DIR": "", "TUTTI_CONFIG": "", "TUTTI_OLD": ""}
        ).port
        == 1
    )


def test_a_wrong_value_names_setting_value_source_and_what_is_allowed(file: Path) -> None:
    file.write_text("port = true")
    allowed = "it must be a whole number from 0 up to 65535"
    assert complaint({"port": "abc"}) == f"port is 'abc' from flag --port, {allowed}"
    assert complaint({}, {"TUTTI_PORT": "-1"}) == f"port is '-1' from variable TUTTI_PORT, {allowed}"
    assert complaint({"config": str(file)}) == f"port is True from file {file}, {allowed}"
    assert complaint({"web": "maybe"}) == "web is 'maybe' from flag --web, it must be true or false"
    assert (
        complaint({"log_format": "xml"}) == "log_format is 'xml' from flag --log-format, it must be one of text, json"
    )
    assert complaint({"host": "a:1"}).endswith("it must be an IP address or a host name, without a port")
    assert complaint({"data_dir": ""}) == "data_dir is '' from flag --data-dir, it must be a path, not empty"


def test_a_wrong_value_is_shown_short() -> None:
    assert len(complaint({"port": "9" * 100_000})) < 150


def test_a_wrong_relation_names_both_sources() -> None:
    assert complaint({"tick_interval_ms": "300"}, {"TUTTI_TICK_INTERVAL_MAX_MS": "250.5"}) == (
        "tick_interval_ms (300, from flag --tick-interval-ms) must be at most "
        "tick_interval_max_ms (250.5, from variable TUTTI_TICK_INTERVAL_MAX_MS): "
        "the interval stretches under load, it never shrinks"
    )
    assert "tick_interval_max_ms (200, its default)" in complaint({"tick_interval_ms": "300"})


def test_an_unknown_variable_is_refused_with_the_nearest_name() -> None:
    assert complaint({}, {"TUTTI_PROT": "1"}) == "variable TUTTI_PROT is not a setting (did you mean TUTTI_PORT?)"
    assert complaint({}, {"TUTTI_port": "1"}) == "variable TUTTI_port is not a setting (did you mean TUTTI_PORT?)"
    assert complaint({}, {"TUTTI_CONFIGURE": "1"}).endswith("(did you mean TUTTI_CONFIG?)")
    assert complaint({}, {"TUTTI_ZZZZZZZZZ": "1"}) == "variable TUTTI_ZZZZZZZZZ is not a setting"


def test_an_unknown_key_is_refused_with_the_nearest_name(file: Path) -> None:
    file.write_text("tick_intervall_ms = 16")
    assert complaint({"config": str(file)}) == (
        f"tick_intervall_ms in settings file {file} is not a setting (did you mean tick_interval_ms?)"
    )
    file.write_text("[tick]\ninterval_ms = 16")
    assert complaint({"config": str(file)}) == f"tick in settings file {file} is not a setting"


def test_variables_of_a_kubernetes_service_called_tutti_are_not_ours() -> None:
    assert load({}, {
        "TUTTI_PORT": "tcp://10.0.0.7:80", "TUTTI_SERVICE_HOST": "10.0.0.7", "TUTTI_SERVICE_PORT": "80",
        "TUTTI_SERVICE_PORT_HTTP": "80", "TUTTI_PORT_80_TCP": "tcp://10.0.0.7:80", "TUTTI_PORT_80_TCP_ADDR": "10.0.0.7",
    }) == Settings()  # fmt: skip


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"port = ", "is not TOML: Invalid value"),
        (b"port = 1\nport = 2", "is not TOML: Cannot overwrite a value"),
        (b"\xff\xfe", "is not TOML: 'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_a_broken_file(file: Path, content: bytes, words: str) -> None:
    file.write_bytes(content)
    assert complaint({"config": str(file)}).startswith(f"settings file {file} {words}")
    assert "\n" not in complaint({"config": str(file)})


def test_an_unreadable_file(tmp_path: Path) -> None:
    assert complaint({"config": str(tmp_path / "none")}).endswith("none can't be read: no such file or directory")
    assert complaint({}, {"TUTTI_CONFIG": str(tmp_path)}).endswith("can't be read: is a directory")


def test_names() -> None:
    assert flag("tick_interval_ms") == "--tick-interval-ms"
    assert closest("serv", ["serve", "import"]) == " (did you mean serve?)"
    assert closest("xyz", ["serve", "import"]) == ""


def test_nobody_picks_a_variable_out_of_the_environment() -> None:
    """A command hands it over whole to `load`, and only `load` looks into it."""
    root = Path(__file__).parents[2]
    readers = {
        str(path.relative_to(root))
        for folder in ("crdt", "presence", "server")
        for path in (root / folder).rglob("*.py")
        if re.search(
            r"\bos\.environ|\bgetenv\b|import environ", re.sub(r"\bload\(.+, os\.environ\)", "", path.read_text())
        )
    }
    assert readers == set(), f"{readers}: take the value from Settings"
