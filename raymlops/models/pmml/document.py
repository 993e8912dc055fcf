"""PMML documents: parsed without entities, namespaces taken off."""

from __future__ import annotations

from xml.etree.ElementTree import Element, ParseError

from raymlops.errors import ModelError


def parse(data: bytes) -> Element:
    """The root of a PMML document.

    Raises:
        ModelError: it is no XML, no PMML, or declares entities or a document type, by which XML
            reads files and grows without bound.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        root: Element = fromstring(data, forbid_dtd=True)
    except DefusedXmlException as error:
        raise ModelError(
            f"pmml: it declares a document type or entities; refused: {error}"
        ) from error
    except (ParseError, ValueError) as error:
        raise ModelError(f"not a pmml model that can be loaded: {error}") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    if root.tag != "PMML":
        raise ModelError(f"not a pmml model that can be loaded: its root is <{root.tag}>")
    return root


def child(element: Element, tag: str) -> Element:
    """Raises ModelError when there is none."""
    found = element.find(tag)
    if found is None:
        raise ModelError(f"pmml: <{element.tag}> has no <{tag}>")
    return found


def number(element: Element, attribute: str, default: float | None = None) -> float:
    """Raises ModelError when the attribute is missing or no number."""
    text = element.get(attribute)
    if text is None and default is not None:
        return default
    try:
        return float(text or "")
    except ValueError as error:
        raise ModelError(f"pmml: {attribute} of <{element.tag}> is {text!r}, no number") from error
