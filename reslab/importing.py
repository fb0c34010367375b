"""Users' own Python as modules, with nothing left on `sys.path`.

What a file imports from beside it, at its top, is found while it is imported. An import inside of a function runs
later, and finds what Python finds by itself.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

from reslab.errors import ExistsError, MissingError, told, worded

_read: dict[Path, bytes] = {}
"""What the files that are modules now held when they were imported."""


@contextmanager
def _beside(directory: Path) -> Iterator[None]:
    """Have what is imported meanwhile found in a directory first, as by a script that is there."""
    place = str(directory)
    sys.path.insert(0, place)
    try:
        yield
    finally:
        with suppress(ValueError):  # which the module may have taken out itself
            sys.path.remove(place)


def of_name(name: str) -> ModuleType:
    """Return the module of a dotted name, in the working directory or installed.

    Raises:
        ImportError: if there is none; and whatever the module raises.
    """
    with _beside(Path.cwd()):
        return importlib.import_module(name)


def of_file(file: Path) -> ModuleType:
    """Return the module of a file, under the file's own name, with `_` for dots; imported anew where the file has
    changed.

    Raises:
        UserError: if there is no such file, another module has its name, or it cannot be imported.
    """
    path, name = file.resolve(), file.stem.replace(".", "_")  # what is before a dot would be a package
    if not path.is_file():
        raise MissingError(*worded("no-python-file", file=file))
    known = sys.modules.get(name)
    if known is not None and Path(known.__file__ or "").resolve() != path:
        raise ExistsError(*worded("module-of-that-name", name=name, file=file))
    if known is not None and _read.get(path) == path.read_bytes():
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where pickles, and a study's words, are looked for
    try:
        with told(f"{file} cannot be imported"), _beside(path.parent):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    _read[path] = path.read_bytes()
    return module
