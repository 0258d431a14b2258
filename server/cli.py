"""The command `tutti`: reads what was typed, builds the settings, and hands over to the part that does the work.

What it prints when something is wrong is one sentence on stderr. Exit codes: 0 done, 1 the work failed in part (import,
export) or was not clean (serve), 2 wrong use or a setting that can't be met, 130 stopped by Ctrl-C. The parts are
imported when they are asked for, so that `tutti --help` doesn't load a server.
"""

import argparse
import os
import platform
import sqlite3
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Final, NoReturn

from server.configuration import CONFIG_VARIABLE, ENV_PREFIX, closest, flag, load
from server.settings import Settings, SettingsError, allowed
from server.startup import prepare_folder

WRONG_USE: Final = 2
INTERRUPTED: Final = 130
"""128 + SIGINT, the way shells report it."""

_HELP: Final = """\
usage: tutti COMMAND [OPTION...]

A server for editing documents together: Yjs clients connect by WebSocket, and what it has
confirmed as saved is on disk.

commands:
  serve      run a node
  import     bring documents into a data folder
  export     write documents out as files
  replay     do again what `serve --record-dir` wrote down, and compare
  version    tell what is installed

examples:
  tutti serve                                 a node on http://127.0.0.1:8000, its data in ./data
  tutti serve --port 9000 --data-dir notes    another port, another folder
  tutti serve --config tutti.toml             many settings in one file
  tutti import --data-dir notes plan.yjs      one document; its room is called "plan"
  tutti export --data-dir notes --all backup  every document as a file in backup/

`tutti COMMAND --help` tells the rest.
"""

_SERVE_NOTES: Final = f"""\
Every option is also a variable and a key of the settings file (TOML): --tick-interval-ms 33 is
{ENV_PREFIX}TICK_INTERVAL_MS=33 and tick_interval_ms = 33. An option wins over a variable, a variable
over the file. Sizes are in bytes.

examples:
  tutti serve --port 9000 --data-dir notes
  tutti serve --config tutti.toml --log-level debug    {CONFIG_VARIABLE}=tutti.toml names it too
  tutti serve --cors-origins https://app.example.org,https://staging.example.org
"""

_SHORT_NAMES: Final = {"record_dir": ("--record",)}
"""Other spellings of an option."""

_UNITS: Final = {"ms": "MS", "s": "SECONDS", "bytes": "BYTES", "dir": "FOLDER", "port": "PORT"}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, where argparse prints its whole usage before it."""

    def __init__(self, name: str, description: str, epilog: str | None = None) -> None:
        super().__init__(
            prog=f"tutti {name}",
            description=description,
            epilog=epilog,
            allow_abbrev=False,  # an abbreviation that works today is ambiguous with the next option we add
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=30),
        )

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}, see `{self.prog} --help`")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        namespace, rest = self.parse_known_args(arguments)
        if rest:
            name = rest[0].partition("=")[0]
            kind = "option" if name.startswith("-") else "argument"
            self.error(f"unknown {kind} {name}{closest(name, self._option_string_actions)}")
        return namespace


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    name, *arguments = (sys.argv[1:] if argv is None else argv) or ("",)
    try:
        match name:
            case "serve":
                return _serve(arguments)
            case "import":
                return _import(arguments)
            case "export":
                return _export(arguments)
            case "replay":
                return _replay(arguments)
            case "version" | "--version":
                return _version(arguments)
            case "help" | "--help" | "-h":
                print(_HELP, end="")  # noqa: T201 (what was asked for)
                return 0
            case "":
                print(_HELP, end="", file=sys.stderr)  # noqa: T201 (no command, so nothing was done)
                return WRONG_USE
        kind = "option" if name.startswith("-") else "command"
        near = closest(name, ("serve", "import", "export", "replay", "version", "--version", "--help"))
        raise SettingsError(f"unknown {kind} {name}{near}, see `tutti --help`")
    except SettingsError as error:
        print(f"tutti: {error}", file=sys.stderr)  # noqa: T201 (there is no log yet)
        return WRONG_USE
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as left:  # argparse leaves this way when it has printed its help
        return left.code if isinstance(left.code, int) else 0


def _serve(arguments: Sequence[str]) -> int:
    settings = load(vars(_serve_parser().parse(arguments)), os.environ)
    prepare_folder(settings.data_dir, "data_dir")
    if settings.record_dir is not None:
        prepare_folder(settings.record_dir, "record_dir")
    from server.app import run  # noqa: PLC0415 (a wrong setting is told without loading a server)

    return run(settings)


def _import(arguments: Sequence[str]) -> int:
    from server.transfer import add_import_arguments, run_import  # noqa: PLC0415 (as above)

    parser = _Parser("import", "Bring documents into a data folder. No node may be running on it.")
    add_import_arguments(parser)
    return run_import(parser.parse(arguments))


def _export(arguments: Sequence[str]) -> int:
    from server.transfer import add_export_arguments, run_export  # noqa: PLC0415 (as above)

    parser = _Parser("export", "Write documents out of a data folder as files.")
    add_export_arguments(parser)
    return run_export(parser.parse(arguments))


def _replay(arguments: Sequence[str]) -> int:
    from server.record import BadTrace, replay  # noqa: PLC0415 (as above)

    parser = _Parser("replay", "Give a room what a trace of it holds, and compare what it does with what it did.")
    parser.add_argument(
        "trace", nargs="+", type=Path, metavar="TRACE", help="File written by `tutti serve --record-dir FOLDER`."
    )
    differed = False
    for path in parser.parse(arguments).trace:
        try:
            steps, difference = replay(path)
        except (BadTrace, OSError) as error:
            raise SettingsError(f"{path} can't be replayed: {error}") from None
        if difference is None:
            print(f"{path}: {steps} steps, every frame the same")  # noqa: T201 (what was asked for)
        else:
            differed = True
            print(  # noqa: T201 (as above)
                f"{path} line {difference.line}: effects {difference.recorded} were recorded, {difference.replayed} came"
            )
    return 1 if differed else 0


def _version(arguments: Sequence[str]) -> int:
    _Parser("version", "Tell what is installed, for a bug report.").parse(arguments)
    parts = f"Python {platform.python_version()}, pycrdt {metadata.version('pycrdt')}, SQLite {sqlite3.sqlite_version}"
    print(f"tutti {metadata.version('tutti')} ({parts})")  # noqa: T201 (what was asked for)
    return 0


def _serve_parser() -> _Parser:
    """One option per field of `Settings`. What isn't typed is absent from the result, so that it can't hide a variable.

    Values stay text here: `Settings` is the one place that decides what is allowed.
    """
    parser = _Parser("serve", "Run a node: rooms over WebSocket, the web app, the HTTP API.", _SERVE_NOTES)
    parser.usage = "tutti serve [OPTION...]"
    group = parser.add_argument_group("where settings come from")
    group.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help="Settings file (TOML).")
    for field, info in Settings.model_fields.items():
        if field in Settings.sections:
            group = parser.add_argument_group(Settings.sections[field])
        text = f"{info.description} ({_default(info.default)})".replace("%", "%%")
        if info.annotation is bool:
            group.add_argument(flag(field), action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text)
            continue
        if may_be := allowed(field):
            text = f"{text.removesuffix(')')}; {may_be})"
        names = [flag(field), *_SHORT_NAMES.get(field, ())]
        group.add_argument(*names, metavar=_metavar(field), default=argparse.SUPPRESS, help=text)
    return parser


def _default(value: object) -> str:
    """As it would be typed: numbers without `.0`, an empty list or no folder as `none`."""
    match value:
        case bool():
            return "on" if value else "off"
        case float():
            return f"default {value:g}"
        case None | ():
            return "default none"
    return f"default {value}"


def _metavar(field: str) -> str:
    """What stands for the value in the help: the unit in the field's name, else N for a count, else its last word."""
    parts = field.split("_")
    unit = next((_UNITS[part] for part in parts if part in _UNITS), None)
    return unit or ("N" if Settings.model_fields[field].annotation is int else parts[-1].upper())


if __name__ == "__main__":
    sys.exit(main())
