"""Models as files: found by suffix, held against a digest, written whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from raymlops.errors import IntegrityError, ModelError
from raymlops.models import (
    FORMATS,
    format_named,
    format_of,
    load_model,
    read_model,
    write_model,
)
from tests.disks import output_on_small_disk
from tests.models.saved import FIRST, NAMES, everything, saved


def test_formats_are_found_by_suffix() -> None:
    suffixes = [suffix for each in FORMATS for suffix in each.suffixes]
    assert len(set(suffixes)) == len(suffixes)
    for each in FORMATS:
        assert format_named(each.name) is each
        for suffix in each.suffixes:
            assert format_of(Path(f"a.b{suffix}")) is each
    with pytest.raises(ModelError, match=r"has no suffix of a model; name the format or use \.pkl"):
        format_of(Path("model.bin"))
    with pytest.raises(ModelError, match="there is no format 'onx'; there are pickle, joblib"):
        format_named("onx")


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_byte_is_refused(name: str, tmp_path: Path) -> None:
    artifact = saved(name, FIRST[name])
    path = tmp_path / f"model{format_named(name).suffixes[0]}"
    write_model(artifact, path)
    assert read_model(path, digest=artifact.digest) == artifact
    for part in tmp_path.iterdir():
        whole = part.read_bytes()
        middle = len(whole) // 2
        part.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        with pytest.raises(IntegrityError, match=f"not {artifact.digest}; refused"):
            load_model(path, digest=artifact.digest, recorded=everything)
        part.write_bytes(whole)


def test_a_missing_file_or_architecture_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"onnx model .*none\.onnx cannot be read"):
        read_model(tmp_path / "none.onnx")
    write_model(saved("safetensors", "torch classifier"), tmp_path / "net.safetensors")
    (tmp_path / "net.architecture.json").unlink()
    with pytest.raises(ModelError, match=r"net\.architecture\.json"):
        read_model(tmp_path / "net.safetensors")


def test_a_full_disk_is_named_and_nothing_half_written_stays(tmp_path: Path) -> None:
    script = """
import sys, os
from pathlib import Path
from raymlops.errors import StorageError
from raymlops.models import Artifact, write_model
try:
    write_model(Artifact(format="onnx", data=bytes(8 << 20)), Path(sys.argv[1], "model.onnx"))
except StorageError as error:
    print(error)
print(os.listdir(sys.argv[1]))
"""
    error, left = output_on_small_disk(script, tmp_path)
    assert "model.onnx cannot be written: [Errno 28] No space left" in error
    assert left == "[]"
