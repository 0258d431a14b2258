"""Where settings come from: flags first, then `TUTTI_*` variables, then a TOML file, then the defaults.

The one place that knows about the environment. A wrong value, an unknown name or an unreadable file becomes a
`SettingsError`: one sentence with the setting, the value, what is allowed, and which flag, variable or file it came from.
"""

import difflib
import re
import reprlib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from server.settings import Settings, SettingsError, allowed

ENV_PREFIX: Final = "TUTTI_"
CONFIG_VARIABLE: Final = "TUTTI_CONFIG"

_VARIABLES: Final = {ENV_PREFIX + field.upper(): field for field in Settings.model_fields}

_SERVICE_LINK: Final = re.compile(r"TUTTI_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
"""Variables Kubernetes gives every pod beside a Service that is called `tutti`: not ours, so not ours to refuse."""
_SERVICE_URL: Final = re.compile(r"(tcp|udp|sctp)://")
"""How the `TUTTI_PORT` begins that Kubernetes sets for the same reason. No port number looks so."""


def load(flags: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """The settings out of flags (by field name, and `config`), the environment, and the file that one of them names.

    An empty variable counts as not set: compose files pass those on for what they were not given. Raises SettingsError.
    """
    variables = {name: value for name, value in environ.items() if name.startswith(ENV_PREFIX) and value}
    config = variables.pop(CONFIG_VARIABLE, None)
    config = flags.get("config", config)
    file = _read_file(Path(config)) if config is not None else {}
    by_variable = _read_variables(variables)
    by_flag = {field: value for field, value in flags.items() if field != "config"}

    origins = dict.fromkeys(file, f"from file {config}")
    origins |= {field: f"from variable {ENV_PREFIX}{field.upper()}" for field in by_variable}
    origins |= {field: f"from flag {flag(field)}" for field in by_flag}
    try:
        return Settings(**{**file, **by_variable, **by_flag})
    except ValidationError as error:
        raise SettingsError(_sentence(error, origins)) from None


def flag(field: str) -> str:
    """How a field is called on the command line: `--tick-interval-ms`."""
    return f"--{field.replace('_', '-')}"


def closest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: ` (did you mean …?)` for a near miss, else nothing."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.75)
    return f" (did you mean {near[0]}?)" if near else ""


def _read_variables(variables: Mapping[str, str]) -> dict[str, str]:
    values = {}
    for name, value in sorted(variables.items()):
        if _SERVICE_LINK.fullmatch(name) or (name == "TUTTI_PORT" and _SERVICE_URL.match(value)):
            continue
        if name not in _VARIABLES:
            raise SettingsError(
                f"variable {name} is not a setting{closest(name.upper(), (*_VARIABLES, CONFIG_VARIABLE))}"
            )
        values[_VARIABLES[name]] = value
    return values


def _read_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"settings file {path} can't be read: {(error.strerror or str(error)).lower()}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings file {path} is not TOML: {error}") from None
    for name in table:
        if name not in Settings.model_fields:
            raise SettingsError(
                f"{name} in settings file {path} is not a setting{closest(name, Settings.model_fields)}"
            )
    return table


def _sentence(error: ValidationError, origins: Mapping[str, str]) -> str:
    """The first thing that is wrong, told to somebody who never heard of pydantic."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "relation":
        context = first["ctx"]
        low, high = (
            f"{field} ({context[value]:g}, {origins.get(field, 'its default')})"
            for field, value in ((context["low"], "low_value"), (context["high"], "high_value"))
        )
        return f"{low} must be at most {high}: {context['why']}"
    field = str(first["loc"][0])
    must_be = first["ctx"]["allowed"] if first["type"] == "allowed" else allowed(field)
    return f"{field} is {reprlib.repr(first['input'])} {origins[field]}, it must be {must_be}"
