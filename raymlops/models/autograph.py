"""What TensorFlow's autograph makes of functions, kept in memory.

It writes a module for each into the folder of temporary files, and removes it as the process exits.
Ray kills its workers, which never come to that; and Python leaves the module's bytecode there
however a process ends.
"""

from __future__ import annotations

import itertools
import linecache
import logging
import sys
from types import ModuleType

_numbers = itertools.count()
_logger = logging.getLogger(__name__)


def keep_autograph_in_memory() -> None:
    """Has TensorFlow, where this process has imported it, write no files of what it traces.

    By what TensorFlow 2.21 keeps to itself: where another has it no more, all works with files.
    """
    if "tensorflow" not in sys.modules:  # Keras may run on something else
        return
    try:
        from tensorflow.python.autograph.pyct import loader

        loader.load_source  # noqa: B018 - whether it is there
    except (AttributeError, ImportError) as error:
        _logger.warning("this TensorFlow leaves files of what it traces behind: %r", error)
        return
    loader.load_source = _load_source


def _load_source(source: str, delete_on_exit: bool) -> tuple[ModuleType, str]:
    """The module that `source` makes, and what stands for its file in tracebacks."""
    name = f"__autograph_generated_file{next(_numbers)}"
    module = ModuleType(name)
    file = module.__file__ = f"<{name}>"
    # Without a time it is not held against a file, and stays.
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    exec(compile(source, file, "exec", dont_inherit=True), module.__dict__)
    sys.modules[name] = module
    return module, file
