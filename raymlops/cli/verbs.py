"""Verbs that are found under their names, and what is said of one that is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from typer import Context
from typer.core import TyperGroup


class Verbs(TyperGroup):
    """A group that answers an unknown verb with those that may be meant: its own that are written
    alike or else all of them, and those of this name elsewhere."""

    def resolve_command(self, ctx: Context, args: list[str]) -> Any:  # type: ignore[override]  # Typer's own copy of click is private
        name = args[0]
        if name in self.commands or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        ctx.fail(_unknown(name, ctx))


def _unknown(name: str, ctx: Context) -> str:
    verbs, root = _verbs(ctx.command), ctx.find_root()
    group = "" if ctx is root else f"{ctx.info_name} "  # groups hold verbs, no other groups
    alike = [f"{group}{verb}" for verb in get_close_matches(name, verbs)]
    same = [path for path in _paths(_verbs(root.command)) if path.split()[-1] == name]
    told = f"No such command '{group}{name}'."
    if not alike and (group or not same):
        told += f" '{ctx.info_name}' has {', '.join(sorted(verbs))}."
    if meant := [*alike, *same]:
        told += f" Did you mean {', '.join(map(repr, meant))}?"
    return told


def _paths(verbs: Mapping[str, Any]) -> Iterator[str]:
    for name, verb in verbs.items():
        yield name
        yield from (f"{name} {path}" for path in _paths(_verbs(verb)))


def _verbs(command: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = getattr(command, "commands", {})
    return found
