"""Where layers come from: files, environment variables, overrides."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from raymlops.config.configured import nearest
from raymlops.config.layers import Key, Layer, merge
from raymlops.config.problems import Problems
from raymlops.config.reader import read
from raymlops.config.variables import Variables
from raymlops.errors import ConfigError

ENVIRONMENT_PREFIX = "RAYMLOPS__"


def file_layer(path: Path) -> Layer:
    """The settings of a YAML file.

    Raises:
        ConfigError: the file is missing, malformed, no mapping, names a key twice or holds a
            malformed reference; lists what is wrong line by line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        beside = sorted(each.name for each in path.parent.glob("*.y*ml"))
        near = nearest(path.name, beside, likeness=0.8)  # their endings are alike already
        raise ConfigError(f"there is no configuration file {path}{near}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    return read(text, (), folder=path.parent, place=lambda line: f"{path}:{line}")


def environment_layer(variables: Variables) -> Layer:
    """Settings written as RAYMLOPS__SECTION__KEY=value, the value read as YAML.

    Raises:
        ConfigError: a value is no YAML, or two variables name the same setting.
    """
    named: dict[Key, str] = {}
    layers, problems = [], Problems()
    for name in sorted(name for name in variables if name.startswith(ENVIRONMENT_PREFIX)):
        key = tuple(part.lower() for part in name.removeprefix(ENVIRONMENT_PREFIX).split("__"))
        if key in named:
            problems.add(f"variables {named[key]} and {name} set the same; keep one")
        named[key] = name
        with problems.gathered():
            layers.append(read(variables[name].text, key, place=_always(variables[name].origin)))
    problems.raise_any()
    return merge(layers)


def override_layer(assignments: Iterable[str]) -> Layer:
    """Settings written as section.key=value on the command line, the last of equal ones counting.

    Raises:
        ConfigError: an assignment has no `=` or no key, or its value is no YAML.
    """
    layers, problems = [], Problems()
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name:
            problems.add(f"--set {name} is not KEY=VALUE, e.g. --set serve.port=9000")
            continue
        with problems.gathered():
            layers.append(read(text, tuple(name.split(".")), place=_always(f"option --set {name}")))
    problems.raise_any()
    return merge(layers)


def _always(origin: str) -> Callable[[int], str]:
    return lambda _: origin
