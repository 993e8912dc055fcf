"""What TensorFlow and Keras put into a message: frames of what was traced, names, colours."""

from __future__ import annotations

import re

FRAME = re.compile(r'^ *File "(?P<file>.+)", line (?P<line>\d+), in (?P<function>\S+)', re.M)

_RAISED = ": in user code:\n"
"""While a function was traced; below its frames stands what was raised in the innermost."""
_FAILED = ": Graph execution error:\n"
"""While the graph ran; below the frames that made the operation stands why it failed."""

_ARGUMENTS = "Arguments received by"
_COLOUR = re.compile(r"\x1b\[\d*m")
_KIND = re.compile(r"^tensorflow\.[\w.]+\.(?=\w+: )")
_NODE = re.compile(r"\[\[\{\{node (\S+)\}\}\]\]")
# Names of functions that it made, and all labels of a batch.
_UNSAID = re.compile(
    r"\{\{function_node \S+\}\}|\[\[\S+\]\]|\[Op:\w+\](?: name: *)?|Label values:[-\d\s]+"
)


def untangle(message: str) -> tuple[str, str]:
    """What was said, and the text of the frames in it; of what is not TensorFlow's all was said."""
    _, raised, told = message.partition(_RAISED)
    if raised:
        return _below_traced(told), told
    kind, failed, told = message.partition(_FAILED)
    if failed:
        message = f"{kind}: {_below_frames(told)}"
    if of_tensorflow := _KIND.match(message):
        said = _NODE.sub(r"(node \1)", message[of_tensorflow.end() :])
        message = " ".join(_UNSAID.sub("", said).split())
    return message, told


def _below_traced(told: str) -> str:
    """The exception in one line, without the arguments that Keras adds."""
    _, _, said = told.strip().partition("\n\n")
    return " ".join(_COLOUR.sub("", said.partition(_ARGUMENTS)[0]).split())


def _below_frames(told: str) -> str:
    ends = [frame.end() for frame in FRAME.finditer(told)]
    return told[ends[-1] :].strip() if ends else told
