"""Keras 3: `.keras` archives, and weights with the architecture apart.

`safe_mode` stays on, and Keras is handed only architectures whose every object is a layer,
operation on numbers, initializer, regularizer, constraint or dtype policy of Keras itself:
`safe_mode` alone has let code through before (CVE-2025-1550, -8747, -9906). Nor is it handed
weights that lie in other files, which it read before 3.13, or let make more weights than the file
could fill.
"""

from __future__ import annotations

import io
import json
import math
import re
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from raymlops.errors import ModelError
from raymlops.models.artifact import Artifact
from raymlops.models.formats.archive import open_archive, refuse_bomb, require_members
from raymlops.models.formats.base import Facts, Format, Tensor
from raymlops.models.predictors import Matrix

# float32 sums in another order differ by about 1e-6 for outputs of a few units.
_TOLERANCE = 1e-5
# Layers may keep a little less than they make, such as those that were quantised.
_MAX_EXPANSION = 2
_ALWAYS_ALLOWED_VALUES = 16 * 1024 * 1024

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"

# What an architecture may name: modules with all their classes, of keras itself only these.
_MODULES = frozenset(
    {"keras.layers", "keras.models", "keras.initializers", "keras.regularizers",
     "keras.constraints", "keras.dtype_policies"}
)  # fmt: skip
_ROOT_CLASSES = frozenset({"Sequential", "Functional", "Model", "DTypePolicy"})
# Of keras.ops, such as the sum that x + y is: modules of operations on numbers alone. Of those that
# take functions (`core`) these.
_OPERATIONS = frozenset(
    f"keras.src.ops.{name}" for name in ("numpy", "nn", "math", "linalg", "image")
)
_CORE_OPERATIONS = frozenset({"Cast", "StopGradient"})
_OPERATION = re.compile(r"(?!Operation$|KerasTensor$)[A-Z][A-Za-z0-9]*")
_VALUES = frozenset(
    {"__keras_tensor__", "__numpy__", "__tensor__", "__bytes__", "__ellipsis__", "__slice__",
     "__tuple__"}
)  # fmt: skip
"""Plain values, which Keras writes as objects without a module."""

# Layers that call Python, read files or wrap other libraries' objects.
_REFUSED = frozenset(
    {"Lambda", "__lambda__", "function", "TorchModuleWrapper", "JaxLayer", "FlaxLayer",
     "TFSMLayer", "StringLookup", "IntegerLookup", "TextVectorization", "Pipeline"}
)  # fmt: skip


class Keras(Format):
    """Keras models as one `.keras` archive."""

    name = "keras"
    suffixes = (".keras",)
    kinds = frozenset({"keras"})
    runs_code = False
    tolerance = _TOLERANCE
    packages = ("keras",)
    extra = "tensorflow"

    def facts(self, artifact: Artifact) -> Facts:
        archive = open_archive(artifact.data, self.name)
        require_members(archive, self.name, "config.json", "metadata.json", "model.weights.h5")
        metadata = json.loads(archive.read("metadata.json"))
        config = json.loads(archive.read("config.json"))
        _refuse_code(config)
        return Facts(
            producer=f"keras {metadata.get('keras_version')}",
            inputs=_inputs(config),
            num_parameters=_count(archive.read("model.weights.h5")),
            imports=tuple(sorted(set(_classes(config)))),
        )

    def _save(self, model: Any, sample: Matrix) -> Artifact:
        _architecture(model)
        with tempfile.TemporaryDirectory(prefix="raymlops-keras-") as folder:
            path = Path(folder) / "model.keras"
            with _quiet():
                model.save(path)
            return Artifact(format=self.name, data=path.read_bytes())

    def _restore(self, artifact: Artifact) -> Any:
        import keras

        held = self.facts(artifact).num_parameters
        with tempfile.TemporaryDirectory(prefix="raymlops-keras-") as folder:  # mode 0700
            path = Path(folder) / "model.keras"
            path.write_bytes(artifact.data)
            with _quiet(), _making_no_more_than(held or 0):
                return keras.saving.load_model(path, compile=False, safe_mode=True)


class KerasWeights(Format):
    """Keras models as HDF5 weights, the architecture beside them as JSON."""

    name = "keras_weights"
    suffixes = (".weights.h5",)
    kinds = frozenset({"keras"})
    runs_code = False
    tolerance = _TOLERANCE
    packages = ("keras", "h5py")
    extra = "tensorflow"
    architecture_apart = True

    def facts(self, artifact: Artifact) -> Facts:
        if not artifact.data.startswith(_HDF5_MAGIC):
            raise ModelError("not keras weights that can be loaded: no HDF5 file")
        if artifact.architecture is None:
            raise ModelError("keras_weights: the architecture is missing; it lies beside them")
        config = json.loads(artifact.architecture)
        _refuse_code(config)
        return Facts(
            producer=f"keras {config.get('keras_version', '')}".strip(),
            inputs=_inputs(config),
            num_parameters=_count(artifact.data),
            imports=tuple(sorted(set(_classes(config)))),
        )

    def _save(self, model: Any, sample: Matrix) -> Artifact:
        architecture = _architecture(model)
        with tempfile.TemporaryDirectory(prefix="raymlops-keras-") as folder:
            path = Path(folder) / "model.weights.h5"
            with _quiet():
                model.save_weights(path)
            data = path.read_bytes()
        return Artifact(format=self.name, data=data, architecture=architecture.encode())

    def _restore(self, artifact: Artifact) -> Any:
        import keras

        held = self.facts(artifact).num_parameters
        assert artifact.architecture is not None, "facts() refuses weights alone"
        with _making_no_more_than(held or 0):
            model = keras.models.model_from_json(artifact.architecture.decode())
        with tempfile.TemporaryDirectory(prefix="raymlops-keras-") as folder:  # mode 0700
            path = Path(folder) / "model.weights.h5"
            path.write_bytes(artifact.data)
            with _quiet():
                model.load_weights(path)
        return model


def _architecture(model: Any) -> str:
    """As JSON.

    Raises:
        ModelError: it names what could not be loaded again, or a layer of one's own does not say
            what it was made with.
    """
    try:
        architecture: str = model.to_json()
        _refuse_code(json.loads(architecture))
    except (ModelError, NotImplementedError) as error:
        raise ModelError(f"{error}; as onnx it is kept by what its layers compute") from error
    return architecture


def _refuse_code(config: dict[str, Any]) -> None:
    """Raises ModelError when the architecture names anything that is not a part of Keras.

    Objects without a module are refused too: Keras reads those as of an older format, with other
    rules.
    """
    for node in _objects({**config, "compile_config": None}):
        name, module = node["class_name"], node.get("module")
        if name in _REFUSED:
            raise ModelError(f"keras: {name} can run code or read files when loaded; refused")
        if not _is_known(name, module):
            full = name if module is None else f"{module}.{name}"
            raise ModelError(f"keras: {full} is no part of Keras that is known; refused")
        registered = node.get("registered_name")
        if registered is not None and registered != name:
            raise ModelError(f"keras: {registered} is registered outside of Keras; refused")


def _is_known(name: str, module: str | None) -> bool:
    match module:
        case None:
            return name in _VALUES
        case "keras":
            return name in _ROOT_CLASSES
        case "keras.src.ops.core":
            return name in _CORE_OPERATIONS
        case _ if module in _OPERATIONS:
            return _OPERATION.fullmatch(name) is not None
    # Models say where they are defined, e.g. keras.src.models.functional.
    return module in _MODULES or (module.startswith("keras.src.models.") and name in _ROOT_CLASSES)


@contextmanager
def _quiet() -> Iterator[None]:
    """TensorFlow's variables do not know numpy 2's `copy` yet, of which numpy warns."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        yield


_making = threading.RLock()


@contextmanager
def _making_no_more_than(held: int) -> Iterator[None]:
    """Has Keras refuse to make many more weights than the `held` values of a file.

    It allocates and fills what an architecture declares before it looks at the file, so two
    kilobytes could take all memory there is. One load at a time: all layers share the method.

    Raises:
        ModelError: the architecture declares more.
    """
    from keras.layers import Layer

    allowed = max(_ALWAYS_ALLOWED_VALUES, _MAX_EXPANSION * held)
    num_made = 0

    def add_within(layer: Any, shape: Any = None, *rest: Any, **named: Any) -> Any:
        nonlocal num_made
        num_made += math.prod(shape or ())
        if num_made > allowed:
            raise ModelError(
                f"keras: the architecture declares more than {allowed:,} weights, and the file "
                f"holds {held:,}; refused"
            )
        return add_weight(layer, shape, *rest, **named)

    with _making:
        add_weight = Layer.add_weight
        Layer.add_weight = add_within
        try:
            yield
        finally:
            Layer.add_weight = add_weight


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    """Every serialised object below `node`: a mapping that names its class."""
    if isinstance(node, dict):
        if "class_name" in node:
            yield node
        for value in node.values():
            yield from _objects(value)
    elif isinstance(node, list):
        for value in node:
            yield from _objects(value)


def _classes(config: dict[str, Any]) -> Iterator[str]:
    for node in _objects({**config, "compile_config": None}):
        yield f"{node.get('module')}.{node['class_name']}"


def _inputs(config: dict[str, Any]) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(
            name=layer["config"]["name"],
            datatype={"float32": "FP32", "float64": "FP64"}.get(
                str(layer["config"].get("dtype")), str(layer["config"].get("dtype"))
            ),
            shape=tuple(layer["config"].get("batch_shape") or ()),
        )
        for layer in _input_layers(config)
    )


def _input_layers(model: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of the model itself: models within it have their own, which nobody hands anything. A
    chain that begins with a model takes what that one does."""
    config = model.get("config")
    found = config.get("layers") if isinstance(config, dict) else None
    layers = [node for node in found or () if isinstance(node, dict) and "class_name" in node]
    own = [layer for layer in layers if layer["class_name"] == "InputLayer"]
    return own or (_input_layers(layers[0]) if layers else [])


def _count(weights: bytes) -> int:
    """Values in all layers; what an optimizer remembers is no part of the model."""
    import h5py

    with h5py.File(io.BytesIO(weights)) as file:
        datasets = _datasets(file)
    refuse_bomb("keras", len(weights), sum(each.num_bytes for each in datasets))
    return sum(each.size for each in datasets if not each.name.startswith("optimizer"))


def _datasets(file: Any) -> list[_Dataset]:
    """Everything that holds values.

    Raises:
        ModelError: values lie in another file, which would be read as weights.
    """
    import h5py

    found: list[_Dataset] = []

    # A visit ends with the first name that is returned.
    def linked(name: str, link: object) -> str | None:
        return name if isinstance(link, h5py.ExternalLink) else None

    def elsewhere(name: str, node: object) -> str | None:
        if not isinstance(node, h5py.Dataset):
            return None
        found.append(_Dataset(name, node.size, node.nbytes))
        return name if node.external or node.is_virtual else None

    if (name := file.visititems_links(linked) or file.visititems(elsewhere)) is not None:
        raise ModelError(f"keras: the weights '{name}' lie in another file; refused")
    return found


class _Dataset(NamedTuple):
    name: str
    size: int
    num_bytes: int
