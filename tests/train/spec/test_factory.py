from __future__ import annotations

from pathlib import Path

import pytest

from raymlops.errors import TrainingError
from raymlops.train.spec.factory import Factory


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("tests.train.models:mpl", r"there is no tests\.train\.models:mpl: module .* has no"),
        ("tests.train.modles:mlp", "No module named 'tests.train.modles'"),
        ("tests.train.models:LENGTH", "LENGTH is a int, not a function"),
    ],
)
def test_what_a_factory_cannot_find_is_said(call: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Factory(call=call).make()


def test_a_relative_file_that_is_not_there_is_told_with_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lay beside the spec, and the worker's folder is Ray's."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        TrainingError, match=rf"pathlib:Path.read_text .*called in {tmp_path}, .*abs"
    ):
        Factory(call="pathlib:Path.read_text").make(Path("wine.csv"))
    with pytest.raises(FileNotFoundError, match="/nowhere/wine"):
        Factory(call="pathlib:Path.read_text").make(Path("/nowhere/wine.csv"))


def test_a_factory_is_written_module_colon_function() -> None:
    with pytest.raises(ValueError, match=r"call is 'models\.mlp'; write it package\.module:funct"):
        Factory(call="models.mlp")
