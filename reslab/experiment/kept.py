"""A cache of measurements, keyed by the digest of the measuring code, so that rerunning a study measures only what is
missing.
"""

import hashlib
import inspect
import json
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from reslab.data import load_data
from reslab.digests import ROOMS, measure_digest
from reslab.files import TEXT_BYTES, opened, write_atomically

Found = TypeVar("Found")


def kept(directory: Path | None, function: Callable[..., Found], *arguments: Any, given: tuple[Any, ...] = ()) -> Found:
    """Return `function(*given, *arguments)`, from its file in the directory, or computed and stored there.

    The file's name is a hash of the function, its arguments (numbers, texts, and lists of such), the images of the data
    set that it takes as `data`, the code, and the releases of torch and torchvision. `given` is implied by the
    directory, such as its trial, and not hashed. The function's return annotation is the type of the file's content:
    numbers in lists, dictionaries and named tuples. An unreadable or invalid file is measured again.
    """
    module = function.__module__
    if directory is None or module.rpartition(".")[0] not in ROOMS:  # other packages are in no digest
        return function(*given, *arguments)
    adapter: TypeAdapter[Found] = TypeAdapter(
        get_type_hints(function)["return"], config=ConfigDict(ser_json_inf_nan="strings")
    )
    made_by = [measure_digest(module), *map(version, ("torch", "torchvision"))]
    data = inspect.signature(function).bind(*given, *arguments).arguments.get("data")
    if isinstance(data, str) and (images := load_data(data).fingerprint):
        made_by.append(images)
    asked = json.dumps([module, function.__qualname__, arguments, made_by], default=str)
    path = directory / f"measured-{function.__name__.strip('_')}-{hashlib.sha256(asked.encode()).hexdigest()[:16]}.json"
    with suppress(OSError, ValueError, ValidationError), opened(path, TEXT_BYTES) as file:
        return adapter.validate_json(file.read())
    found = function(*given, *arguments)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, adapter.dump_json(found))
    return found
