"""torch programs: TorchScript and torch.export. Both are programs, and are trusted as such.

A TorchScript file is code for an interpreter that may touch files. A .pt2 file may declare any
of its weights to be a pickle, and its symbolic sizes are evaluated as Python: neither can be
loaded safely from somebody unknown. safetensors can.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from raymlops.errors import ModelError
from raymlops.models.artifact import Artifact
from raymlops.models.formats.archive import open_archive, require_members
from raymlops.models.formats.base import Facts, Format, Tensor
from raymlops.models.formats.imports import imported_names
from raymlops.models.predictors import Matrix

# float32 sums in another order differ by about 1e-6 for outputs of a few units.
_TOLERANCE = 1e-5


class TorchScript(Format):
    """torch modules, traced. torch calls this format deprecated; torch_export succeeds it."""

    name = "torchscript"
    suffixes = (".pt", ".torchscript")
    kinds = frozenset({"torch"})
    runs_code = True
    tolerance = _TOLERANCE
    packages = ("torch",)

    def facts(self, artifact: Artifact) -> Facts:
        archive = open_archive(artifact.data, self.name)
        require_members(archive, self.name, "data.pkl", "constants.pkl", ".py")
        (data,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        return Facts(producer="torch.jit", imports=imported_names(archive.read(data)))

    def _save(self, model: Any, sample: Matrix) -> Artifact:
        import torch

        # A row more than `save` compares: a number of rows that stayed in the graph shows there.
        rows = torch.from_numpy(np.concatenate([sample, sample[:1]]))
        buffer = io.BytesIO()
        with _refusing_constants(), warnings.catch_warnings():
            _allow_deprecated()
            traced = torch.jit.trace(model.eval(), rows)  # type: ignore[no-untyped-call]
            torch.jit.save(traced, buffer)
        return Artifact(format=self.name, data=buffer.getvalue())

    def _restore(self, artifact: Artifact) -> Any:
        import torch

        self.facts(artifact)
        with warnings.catch_warnings():
            _allow_deprecated()
            return torch.jit.load(  # type: ignore[no-untyped-call]
                io.BytesIO(artifact.data), map_location="cpu"
            )


class TorchExport(Format):
    """torch modules as the graph of torch.export, with a free number of rows."""

    name = "torch_export"
    suffixes = (".pt2",)
    kinds = frozenset({"torch"})
    runs_code = True
    tolerance = _TOLERANCE
    packages = ("torch",)

    def facts(self, artifact: Artifact) -> Facts:
        archive = open_archive(artifact.data, self.name)
        require_members(archive, self.name, "/archive_format", "models/model.json")
        members = {name.partition("/")[2]: name for name in archive.namelist()}
        program = json.loads(archive.read(members["models/model.json"]))
        weights = json.loads(archive.read(members["data/weights/model_weights_config.json"]))
        graph, signature = program["graph_module"]["graph"], program["graph_module"]["signature"]
        given = [
            spec["user_input"]["arg"] for spec in signature["input_specs"] if "user_input" in spec
        ]
        return Facts(
            producer=f"torch {program.get('torch_version')}",
            inputs=_tensors(graph, [arg["as_tensor"]["name"] for arg in given]),
            outputs=_tensors(graph, [arg["as_tensor"]["name"] for arg in graph["outputs"]]),
            opset=program.get("opset_version", {}).get("aten"),
            num_parameters=sum(
                int(np.prod([size["as_int"] for size in weight["tensor_meta"]["sizes"]]))
                for weight in weights["config"].values()
                if weight["is_param"] and weight.get("tensor_meta")
            ),
        )

    def _save(self, model: Any, sample: Matrix) -> Artifact:
        import torch

        buffer = io.BytesIO()
        program = torch.export.export(
            model.eval(),
            (torch.tensor(sample),),
            dynamic_shapes=({0: torch.export.Dim("rows")},),
        )
        torch.export.save(program, buffer)
        return Artifact(format=self.name, data=buffer.getvalue())

    def _restore(self, artifact: Artifact) -> Any:
        import torch

        self.facts(artifact)
        return torch.export.load(io.BytesIO(artifact.data)).module()


_DATATYPES = {6: "FP16", 7: "FP32", 8: "FP64", 5: "INT64", 4: "INT32", 12: "BOOL"}
"""torch's serialised dtypes, as the Open Inference Protocol calls them."""


def _tensors(graph: dict[str, Any], names: list[str]) -> tuple[Tensor, ...]:
    values = graph["tensor_values"]
    return tuple(
        Tensor(
            name=name,
            datatype=_DATATYPES.get(values[name]["dtype"], f"torch dtype {values[name]['dtype']}"),
            shape=tuple(size.get("as_int") for size in values[name]["sizes"]),
        )
        for name in names
    )


def _allow_deprecated() -> None:
    """torch 2.13 warns that tracing, saving and loading TorchScript is deprecated: it is."""
    warnings.filterwarnings("ignore", r"`torch\.jit\.", DeprecationWarning)


@contextmanager
def _refusing_constants() -> Iterator[None]:
    """Raises a ModelError for torch's warnings that a value of these rows became a constant.

    They are recorded, since torch's C++ does not survive a warning that raises.
    """
    from torch.jit import TracerWarning  # type: ignore[attr-defined]  # public, but unlisted

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TracerWarning)
        # What torch's own layers make constant, they make so on purpose.
        TracerWarning.ignore_lib_warnings()  # type: ignore[no-untyped-call]
        yield
    for each in caught:
        if issubclass(each.category, TracerWarning):
            raise ModelError(
                "torchscript: a trace keeps for every request what Python decided for these rows, "
                "a branch or their number; write it with tensors (torch.where, x.shape[0]), and "
                f"constants as buffers. {each.filename}:{each.lineno}: {each.message}"
            )
        warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
