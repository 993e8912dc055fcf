"""scikit-learn to PMML."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from raymlops.errors import ModelError
from raymlops.models.pmml.elements import Columns, Target
from raymlops.models.pmml.transformers import Fields, write_transformer
from raymlops.models.pmml.write_networks import write_perceptron
from raymlops.models.pmml.write_regressions import write_linear, write_logistic
from raymlops.models.pmml.write_trees import write_boosting, write_forest, write_tree

_NAMESPACE = "http://www.dmg.org/PMML-4_4"


def to_pmml(model: Any) -> bytes:
    """The document of a fitted estimator, or of a pipeline that ends in one.

    Raises:
        ModelError: names the estimator, transformer or parameter that cannot be written.
    """
    *steps, estimator = [step for _, step in model.steps] if hasattr(model, "steps") else [model]
    kind = type(estimator).__name__
    if kind not in _WRITERS or not type(estimator).__module__.startswith("sklearn."):
        raise ModelError(f"pmml cannot hold {kind}; it can hold {', '.join(_WRITERS)}")
    if not hasattr(model, "n_features_in_"):
        raise ModelError(f"pmml: {type(model).__name__} is not fitted")
    names = _names(model)
    classes = tuple(str(name) for name in getattr(estimator, "classes_", ()))
    target = Target(name=_free("target", names), classes=classes)

    root = Element("PMML", xmlns=_NAMESPACE, version="4.4")
    header = SubElement(root, "Header")
    SubElement(header, "Application", name="raymlops", version=version("raymlops"))
    _dictionary(root, names, target)
    transformations = SubElement(root, "TransformationDictionary")
    fields = Fields(transformations, names)
    columns: Sequence[str] = names
    for step in steps:
        columns = write_transformer(step, columns, fields)
    if hasattr(estimator, "tree_") or hasattr(estimator, "estimators_"):
        columns = fields.as_float32(columns, names)
    written = _WRITERS[kind](estimator, columns, target)
    written.insert(0, _schema(names, target))
    if not len(transformations):
        root.remove(transformations)
    root.append(written)
    indent(root, " ")
    data: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return data


def _names(model: Any) -> list[str]:
    given = getattr(model, "feature_names_in_", None)
    if given is not None:
        return [str(name) for name in given]
    return [f"x{index}" for index in range(model.n_features_in_)]


def _dictionary(root: Element, names: Sequence[str], target: Target) -> None:
    dictionary = SubElement(root, "DataDictionary", numberOfFields=str(len(names) + 1))
    for name in names:
        SubElement(dictionary, "DataField", name=name, optype="continuous", dataType="double")
    kind = (
        {"optype": "categorical", "dataType": "string"}
        if target.classes
        else {"optype": "continuous", "dataType": "double"}
    )
    field = SubElement(dictionary, "DataField", {"name": target.name, **kind})
    for value in target.classes:
        SubElement(field, "Value", value=value)


def _schema(names: Sequence[str], target: Target) -> Element:
    schema = Element("MiningSchema")
    for name in names:
        SubElement(schema, "MiningField", name=name)
    SubElement(schema, "MiningField", name=target.name, usageType="target")
    return schema


def _free(name: str, taken: Sequence[str]) -> str:
    while name in taken:
        name += "_"
    return name


_WRITERS: Mapping[str, Callable[[Any, Columns, Target], Element]] = {
    "LinearRegression": write_linear,
    "Ridge": write_linear,
    "Lasso": write_linear,
    "ElasticNet": write_linear,
    "LogisticRegression": write_logistic,
    "DecisionTreeClassifier": write_tree,
    "DecisionTreeRegressor": write_tree,
    "RandomForestClassifier": write_forest,
    "RandomForestRegressor": write_forest,
    "ExtraTreesClassifier": write_forest,
    "ExtraTreesRegressor": write_forest,
    "GradientBoostingClassifier": write_boosting,
    "GradientBoostingRegressor": write_boosting,
    "MLPClassifier": write_perceptron,
    "MLPRegressor": write_perceptron,
}
