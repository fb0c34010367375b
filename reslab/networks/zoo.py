"""The zoo: networks by name. Model files under `paper/` and `successors/` declare `MODELS` and `REFERENCE`, and are
found automatically.
"""

import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib import import_module
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from reslab.errors import MismatchError, UnknownNameError, UserError, WrongValueError, suggested, worded
from reslab.networks.catalogue import Description, Reference, model_files
from reslab.networks.catalogue import family as family
from reslab.networks.counting import count_macs, count_params
from reslab.networks.meta import shapes_only
from reslab.networks.sources import HUGGING_FACE, Own, factory, hugging_faces, timms, torchvisions_own
from reslab.state import all_draws_apart
from reslab.weights.files import WeightFile, read_weights
from reslab.weights.fitting import Fit, Head
from reslab.weights.shipped import locate
from reslab.weights.untold import Asked, ZeroPadSide, fitted, load

Builder = Callable[..., nn.Module]


@cache
def _catalogue() -> tuple[dict[str, Builder], dict[str, Builder], dict[str, Reference]]:
    """Return the named models, the open families and the references of every model file."""
    models: dict[str, Builder] = {}
    families: dict[str, Builder] = {}
    references: dict[str, Reference] = {}
    for file in model_files():
        module = import_module(".".join(("reslab", *Path(file).with_suffix("").parts)))
        add_models(models, module.MODELS, file)
        add_models(families, getattr(module, "FAMILIES", {}), file)
        references |= {name: Reference(*reference) for name, reference in module.REFERENCE.items()}
    return models, families, references


def add_models(known: dict[str, Builder], new: dict[str, Builder], where: str) -> None:
    """Add a model file's table to the catalogue.

    Raises:
        ValueError: if a name is already taken.
    """
    if taken := known.keys() & new.keys():
        raise ValueError(f"{where} declares {sorted(taken)}, which another model file has already declared")
    known.update(new)


def names() -> list[str]:
    """Return the names of all named networks, family by family, smallest first."""
    return list(_catalogue()[0])


def families() -> list[str]:
    """Return the names of the open families, each of any size: `build("cifar_resnet", depth=26)`."""
    return list(_catalogue()[1])


def named(model: str, options: Mapping[str, Any]) -> str | None:
    """Return the name of a network in the catalogue, or None: `named("cifar_resnet", {"depth": 56})` is "resnet56"."""
    models, open_families, _ = _catalogue()
    if model in models:
        return None if options else model
    for name, builder in models.items():
        if isinstance(builder, partial) and builder.func is open_families.get(model):
            fixed = inspect.signature(builder.func).bind_partial(*builder.args, **builder.keywords).arguments
            if fixed == options:
                return name
    return None


def required_options(name: str) -> list[str]:
    """Return the options that a network or a family cannot be built without."""
    models, open_families, _ = _catalogue()
    parameters = inspect.signature({**models, **open_families}[name]).parameters.values()
    return [parameter.name for parameter in parameters if parameter.default is parameter.empty]


def build(
    name: str,
    /,
    *,
    weights: str | Path | None = None,
    zero_pad: ZeroPadSide | None = None,
    head: Head | None = None,
    raw: bool = False,
    **options: Any,
) -> nn.Module:
    """Return a network by its name, freshly initialised unless `weights` are given.

    Args:
        name: one of `list_models`; an open family, as "cifar_resnet" with `depth=26`; or others' networks,
            "torchvision/NAME", "timm/NAME[.TAG]", "hf:ORG/NAME", "my_package.module:factory" or "my_file.py:factory".
        weights: trained ones. "digits" are bundled; "torchvision" or "torchvision:IMAGENET1K_V2" are torchvision's, and
            imply torchvision's departures from the paper (strides, widths); "pretrained" are those of timm/NAME.TAG or
            hf:ORG/NAME; otherwise this is a file or the directory of a run. Reslab's files contain the network's
            options, including those from its data set. Other files need `stride_in=` (ResNet's bottlenecks) or
            `zero_pad=` (option A), which tensors cannot state.
        zero_pad: on which side the file's option A pads its zeros, "end" or "centred".
        head: the classifier in place of the file's, "fresh" or "none", as for networks trained without labels.
        raw: use the weights of a file that also holds their average.
        options: of the network, such as `num_classes=10, in_channels=1`.

    Examples:
        >>> import reslab
        >>> import torch
        >>> network = reslab.build("resnet56", num_classes=10, in_channels=1)
        >>> network(torch.zeros(2, 1, 32, 32)).shape
        torch.Size([2, 10])
        >>> trained = reslab.build("resnet20", weights="digits")

    Raises:
        UserError: if there is no such name (the message suggests the nearest), the builder does not take the options,
            or the weights do not fit.
    """
    if not isinstance(name, str):
        raise WrongValueError(*worded("name-of-a-network", kind=type(name).__name__))
    if weights is None:
        return fresh(name, options)
    from reslab.networks.pretrained import is_word, pretrained  # which builds through this module

    asked = Asked(zero_pad, head, raw)
    if is_word(weights):
        return pretrained(name, str(weights), options, asked).network
    file = locate(weights, name)
    return loaded(name, read_weights(file), options, asked)[0].network


def loaded(
    name: str,
    weights: WeightFile,
    options: Mapping[str, Any],
    asked: Asked,
    otherwise: Mapping[str, Any] | None = None,
) -> tuple["Own", Fit, dict[str, Any]]:
    """Return a network with a file's weights, their fit, and the options from the file and `options`; `otherwise` are
    defaults.

    The claims of reslab's own files are first compared with their tensors, so that a false claim allocates no memory.

    Raises:
        UserError: if there is no such network, or the weights do not fit it.
    """
    told = {**told_by(weights, name), **options}
    every = {**(otherwise or {}), **told}
    if weights.network == name:
        fitted(outline(name, every).network, weights, asked)
    made = own(name, every)
    return made, load(made.network, weights, name, told, asked), told


def told_by(weights: WeightFile, name: str) -> dict[str, Any]:
    """Return the options that a file states for its network; another library's network takes none of them, which causes
    a warning.

    Raises:
        UserError: if one of the lab's networks has not what the file is for.
    """
    told, known = weights.options(name), options(name)
    if "model" in weights.metadata:
        return told
    if untaken := {key: value for key, value in told.items() if known is None or key not in known}:
        facts = ", ".join(f"{key} {value}" for key, value in untaken.items())
        if known is not None:
            raise MismatchError(*worded("weights-of-other-options", path=weights.path, facts=facts, name=name))
        warnings.warn(f"{weights.path} is for {facts}; whether {name} is too is unknown", stacklevel=2)
    return {key: value for key, value in told.items() if key not in untaken}


def own(name: str, options: Mapping[str, Any]) -> "Own":
    """Return a freshly initialised network, and the extras of its factory, if any.

    Raises:
        UserError: as `fresh`.
    """
    return factory(name, dict(options)) if is_factory(name) else Own(fresh(name, options))


def is_factory(name: str) -> bool:
    """Return whether a name is that of a user's own factory, `package.module:factory` or `file.py:factory`."""
    return ":" in name and not name.startswith(HUGGING_FACE)


def fresh(name: str, options: Mapping[str, Any]) -> nn.Module:
    """Return a freshly initialised network of any source; `options` are only the network's, so that none can name a
    file.

    Raises:
        UserError: if there is no such name, or no such network can be built with these options.
    """
    if is_factory(name):
        return factory(name, dict(options)).network
    kinds = {"torchvision/": torchvisions_own, "timm/": timms, HUGGING_FACE: hugging_faces}
    make = next((kind for prefix, kind in kinds.items() if name.startswith(prefix)), _build)
    modules = 0

    def count(parent: nn.Module, child: str, module: nn.Module | None) -> None:
        nonlocal modules
        modules += 1
        if modules > MOST_MODULES:
            raise ValueError(f"these options ask for more than {MOST_MODULES:,} modules")

    handle = register_module_module_registration_hook(count)
    try:
        return make(name, dict(options))
    except UserError:
        raise
    # errors of builders and torch for options that do not fit
    except (TypeError, ValueError, ArithmeticError, LookupError, RuntimeError) as error:
        raise WrongValueError(*worded("cannot-be-built", name=name, reason=error)) from error
    finally:
        handle.remove()


MOST_MODULES = 20_000
"""More modules than this mean a typo in the depth; resnet1202 has a quarter of it."""


def _build(name: str, options: dict[str, Any]) -> nn.Module:
    models, open_families, _ = _catalogue()
    builders = {**models, **open_families}
    if Path(name).suffix in (".safetensors", ".pt", ".pth", ".th", ".ckpt", ".bin"):
        raise WrongValueError(*worded("file-for-a-network", name=name))
    if name not in builders:
        raise UnknownNameError(*worded("no-network", name=name, near=suggested(name, builders)))
    signature = inspect.signature(builders[name])
    for option in options:
        if option not in signature.parameters:
            near = suggested(option, signature.parameters)
            raise UnknownNameError(*worded("no-network-option", name=name, option=option, near=near))
    signature.bind(**options)
    _check_ranges(name, options)
    return builders[name](**options)


COUNTS = ("num_classes", "in_channels", "depth", "width", "growth_rate", "cardinality", "base_width")
SHARES = ("drop", "dropout", "survival")


def _check_ranges(name: str, options: Mapping[str, Any]) -> None:
    """Check the options that are counts, and those that are shares.

    Raises:
        UserError: if one is none.
    """
    for option, value in options.items():
        number = isinstance(value, Real) and not isinstance(value, bool)
        if option in COUNTS and not (number and value >= 1 and value == int(value)):
            raise WrongValueError(*worded("no-count", name=name, option=option, value=repr(value)))
        least = 0 if option != "survival" else math.ulp(0)
        if option in SHARES and not (number and least <= value <= 1):
            raise WrongValueError(*worded("no-share", name=name, option=option, value=repr(value)))


def options(name: str) -> list[str] | None:
    """Return the options of a network of the catalogue; None for others, whose options are unknown."""
    models, open_families, _ = _catalogue()
    builder = models.get(name) or open_families.get(name)
    return None if builder is None else list(inspect.signature(builder).parameters)


def input_shape(network: nn.Module) -> tuple[int, int, int]:
    """Return the input (channels, height, width) of a network's paper; 3×224×224 by default."""
    return getattr(network, "input_shape", (3, 224, 224))


def check(name: str, /, **options: Any) -> None:
    """Build a network's outline, to check its name and options.

    Raises:
        UserError: as `fresh` does.
    """
    outline(name, options)


def outline(name: str, options: Mapping[str, Any]) -> "Own":
    """Return a network with no memory behind it, and the extras of its factory, if any; with memory if the factory
    needs numbers, of which shapes have none. No random generator moves.

    Raises:
        UserError: as `fresh` does.
    """
    with all_draws_apart():
        try:
            with shapes_only():
                return own(name, options)
        except UserError:
            if not is_factory(name):
                raise
        return own(name, options)


def describe(name: str) -> Description:
    """Measure a named network on the meta device: parameters, and multiply-adds for one image of the paper's size."""
    with shapes_only():
        network = build(name)
        shape = input_shape(network)
        macs = count_macs(network, torch.empty(1, *shape))
    params = count_params(network)
    return Description(name, family(name), params, macs, shape, reference(name))


def reference(name: str) -> Reference:
    """Return the reference figures of a named network, without building it."""
    return _catalogue()[2][name]
