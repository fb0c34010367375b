"""The bundled trained networks, `DATA/MODEL.safetensors` in this package, each with its card beside it."""

from pathlib import Path

from reslab.errors import UnknownNameError, WrongValueError, suggested, worded
from reslab.naming import without_path

SHIPPED = Path(__file__).parent
TRAINED_ON = {"digits": "digits", "cifar10-jpeg75": "cifar10-jpeg", "folder:cifar10-jpeg": "cifar10-jpeg"}
"""Data sets, and the folder of `weights/` with networks trained on them. A folder of images is identified by its
name.
"""


def shipped() -> dict[tuple[str, str], Path]:
    """Return the bundled files, by data and network."""
    return {(path.parent.name, path.stem): path for path in sorted(SHIPPED.glob("*/*.safetensors"))}


def trained_on(data: str) -> str | None:
    """Return the folder of `weights/` for a data set, `digits` or `folder:PATH/cifar10-jpeg`; None if there is none."""
    return TRAINED_ON.get(without_path(data))


OF_OTHERS = ("torchvision", "pretrained")
"""Names of published weights."""


def locate(weights: str | Path, model: str) -> Path:
    """Return the file of weights: a bundled one for a name such as "digits", else `weights` itself.

    Raises:
        UserError: if there are bundled networks for that data, but not this one; or if it is neither a name nor a file.
    """
    if not isinstance(weights, str | Path):
        raise WrongValueError(*worded("no-name-of-weights", kind=type(weights).__name__))
    path, words = Path(weights), {data for data, _ in shipped()}
    if weights not in words:
        if path.name == str(weights) and not path.suffix and not path.exists():
            near = suggested(str(weights), sorted({*words, *OF_OTHERS}))
            raise UnknownNameError(*worded("no-weights", name=weights, near=near))
        return path
    if (str(weights), model) not in shipped():
        models = [name for data, name in shipped() if data == weights]
        bundled = ", ".join(models)
        raise UnknownNameError(*worded("no-bundled-weights", model=model, data=weights, bundled=bundled))
    return shipped()[str(weights), model]
