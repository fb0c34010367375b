"""Networks from other sources, by name: torchvision, timm, Hugging Face, and a user's own factory."""

import contextlib
import inspect
import io
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from reslab.errors import (
    FailedError,
    MismatchError,
    MissingError,
    UnknownNameError,
    UserError,
    Wording,
    WrongValueError,
    suggested,
    told,
    worded,
)
from reslab.importing import of_file, of_name


def torchvisions_own(name: str, options: dict[str, Any]) -> nn.Module:
    """Return torchvision's own network, untrained."""
    from torchvision.models import get_model, get_model_builder, list_models

    short = name.removeprefix("torchvision/")
    if short not in list_models():
        raise UnknownNameError(*worded("no-network-in-torchvision", name=short, near=suggested(short, list_models())))
    if options.pop("in_channels", 3) != 3:
        raise MismatchError(*worded("colour-network", name=name))
    # a backbone's, too
    untrained = {
        key: None for key in inspect.signature(get_model_builder(short)).parameters if key.startswith("weights")
    }
    if trained := options.keys() & untrained:
        how = Wording("--weights FILE or --weights torchvision", "--weights FILE, --weights torchvision")
        raise UnknownNameError(*worded("built-untrained", name=name, option=min(trained), how=how))
    with _CountsOnCpu() if short.startswith("regnet") else contextlib.nullcontext():
        network: nn.Module = get_model(short, **untrained, **options)
    return network


class _CountsOnCpu(TorchFunctionMode):
    """While it is entered, numbers in a row and given ones are on the CPU: torchvision's RegNets read their widths from
    such tensors, which have no values on the meta device.
    """

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        where = {"device": "cpu"} if func in (torch.arange, torch.tensor) else {}
        return func(*args, **{**where, **(kwargs or {})})


def timms(name: str, options: dict[str, Any]) -> nn.Module:
    """Return timm's own network, untrained."""
    timm = needed("timm", name, "zoo")
    short = name.removeprefix("timm/")
    if short not in timm.list_models() and short not in timm.list_models(pretrained=True):
        near = suggested(short, timm.list_models(f"{short[:4]}*") or ["resnet50"])
        raise UnknownNameError(*worded("no-network-in-timm", name=short, near=near))
    if trained := [key for key in options if key.startswith(("pretrained", "checkpoint"))]:
        raise UnknownNameError(*worded("built-untrained", name=name, option=trained[0], how="--weights FILE"))
    if "in_channels" in options:
        options["in_chans"] = options.pop("in_channels")
    network: nn.Module = timm.create_model(short, pretrained=False, **options)
    return network


HUGGING_FACE = "hf:"


def hugging_faces(name: str, options: dict[str, Any]) -> nn.Module:
    """Return an untrained classifier of Hugging Face with the configuration of `hf:ORG/NAME`, which is downloaded if
    not cached.

    Raises:
        UserError: if there is none, it does not take the options, or the network cannot be built.
    """
    transformers = needed("transformers", name, "hf")
    if "num_classes" in options:
        options["num_labels"] = options.pop("num_classes")
    if "in_channels" in options:
        options["num_channels"] = options.pop("in_channels")
    try:
        config, unknown = from_hub(lambda: configuration(name.removeprefix(HUGGING_FACE), options))
        if unknown.pop("num_channels", 3) != 3:
            raise MismatchError(*worded("colour-network", name=name))
        if unknown:
            near = suggested(min(unknown), ["num_classes", "in_channels", *config.to_dict()])
            raise UnknownNameError(*worded("no-network-option", name=name, option=min(unknown), near=near))
        network: nn.Module = transformers.AutoModelForImageClassification.from_config(config, trust_remote_code=False)
    except UserError:
        raise
    except Exception as error:  # of whatever library fetches
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FailedError(*worded("not-built", name=name, reason=reason[:200])) from error
    return network


OF_LOADER = {
    *("trust_remote_code", "code_revision", "revision", "cache_dir", "subfolder", "proxies", "token", "use_auth_token"),
    *("local_files_only", "force_download", "resume_download", "gguf_file", "return_unused_kwargs", "user_agent"),
}
"""Options of transformers' own loading, which are none of a network's: some have a repository's code run."""


def configuration(repository: str, options: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return a configuration of Hugging Face with these options, for weights in float32 whatever it says, and the
    options that it does not know.

    Raises:
        UserError: for an option of loading.
    """
    from transformers import AutoConfig

    if of_loader := [key for key in options if key in OF_LOADER or key.startswith("_")]:
        raise UnknownNameError(*worded("no-network-option", name=repository, option=of_loader[0], near=""))
    config, unknown = AutoConfig.from_pretrained(
        repository, return_unused_kwargs=True, trust_remote_code=False, **options
    )
    config.use_cache = False  # of keys and values, for generating: a graph cannot hold it
    setattr(config, "dtype" if hasattr(config, "dtype") else "torch_dtype", torch.float32)  # until transformers 4.55
    return config, {key: value for key, value in unknown.items() if key in options}


def from_hub(make: Callable[[], Any]) -> Any:
    """Return the result of a function that reads the cache of Hugging Face's hub, else the network, without notes of
    retries.
    """
    from huggingface_hub import constants

    logger = logging.getLogger("huggingface_hub")
    level, offline = logger.level, constants.HF_HUB_OFFLINE
    logger.setLevel(logging.CRITICAL)
    try:
        try:
            constants.HF_HUB_OFFLINE = (
                True  # it accesses the network even for cached files, and retries five times offline
            )
            with contextlib.redirect_stderr(io.StringIO()):  # bars
                return make()
        except Exception:  # of whatever library fetches
            constants.HF_HUB_OFFLINE = offline
            return make()
    finally:
        logger.setLevel(level)
        constants.HF_HUB_OFFLINE = offline


def needed(package: str, name: str, extra: str) -> Any:
    """Return a package that a network needs.

    Raises:
        UserError: if it is not installed.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        raise MissingError(*worded("network-needs", name=name, package=package, extra=extra)) from error


class Own(NamedTuple):
    """The result of a user's factory: a network and, optionally, batches of (images, labels) and a loss of logits and
    labels.
    """

    network: nn.Module
    loader: Iterable[tuple[torch.Tensor, torch.Tensor]] | None = None
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None


MOVED = {"reslab.studies.variants": "reslab.networks.variants"}
"""New paths of factories that earlier runs name."""


def function_of(name: str) -> Callable[..., Any]:
    """Return the function of a factory's name.

    Raises:
        Exception: if there is none; whatever its module raises.
    """
    where, _, attribute = name.rpartition(":")
    module = of_file(Path(where)) if where.endswith(".py") else of_name(MOVED.get(where, where))
    return getattr(module, attribute)


def factory(name: str, options: dict[str, Any]) -> Own:
    """Call `package.module:factory` or `path/to/file.py:factory`, which returns a network, or a dict with `network` and
    perhaps `loader` and `loss`. Modules in the current directory are found.

    Raises:
        UserError: if there is no such module or factory, it fails, or it returns something else.
    """
    with told(f"{name} could not be called"):
        made = function_of(name)(**options)
    if isinstance(made, nn.Module):
        return Own(made)
    if (
        not isinstance(made, dict)
        or not set(made) <= set(Own._fields)
        or not isinstance(made.get("network"), nn.Module)
    ):
        kind, keys = type(made).__name__, ", ".join(map(str, made)) if isinstance(made, dict) else ""
        given = worded("a-dict-of", keys=keys or Wording("nothing", "없음")) if isinstance(made, dict) else kind
        raise WrongValueError(*worded("no-network-returned", name=name, given=given))
    loader, loss = made.get("loader"), made.get("loss")
    if (loader is not None and not isinstance(loader, Iterable)) or (loss is not None and not callable(loss)):
        kinds = f"a {type(loader).__name__} as loader and a {type(loss).__name__} as loss"
        raise WrongValueError(*worded("no-loader-or-loss", name=name, kinds=kinds))
    return Own(**made)
