"""Pages for people: one HTML file each, which needs nothing but a browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raymlops.cluster.files import replace_text

if TYPE_CHECKING:
    from jinja2 import Template


def template(path: Path, **filters: Callable[[Any], Any]) -> Template:
    """The template at `path`, whose texts are escaped; a name that nobody gave is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(path.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(path.name)


def write_page(page: str, path: Path) -> Path:
    """Writes it, with the folders above; returns `path`. Where there is no room, the old stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, page)
    return path
