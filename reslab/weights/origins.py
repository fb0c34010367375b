"""What the kind of a file reveals about its network beyond the tensors, and the conversion to PyTorch.

Two kinds contain the weights that the authors of ResNet trained: Keras' (`ResNet50`, `ResNet101`, `ResNet152`; not the
later `V2`) and Detectron's pickles of MSRA's. Both are of the paper's own networks, with the stride in the first 1×1,
and take images in Caffe's way: blue first, 0 to 255, less a mean per channel.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from reslab.errors import DamagedError, worded
from reslab.weights.tensorfiles import State

CAFFE_MEANS = (123.68, 116.779, 103.939)
"""Red, green, blue, of 255: ImageNet's, as Caffe's networks subtract them (keras, src/applications/imagenet_utils.py).
"""
LARGEST_CONFIG = 2**20
LARGEST = 2**24
"""Values; more than any tensor of these networks has."""


class Facts(NamedTuple):
    """Facts about a file's network: options, the preparation of images, and BatchNorm's eps."""

    options: Mapping[str, Any] = MappingProxyType({})
    preprocessing: Mapping[str, Any] = MappingProxyType({})
    eps: float | None = None
    notes: tuple[str, ...] = ()


CAFFE_IMAGES = {"mean": [mean / 255 for mean in CAFFE_MEANS], "std": [1 / 255] * 3}
"""The same for images that are red first and from 0 to 1."""
TURNED = "the first convolution's blue, green, red turned to red, green, blue"
FLIPPED = f"{TURNED}; images are prepared with Caffe's means"


def understood(state: State, path: Path) -> tuple[State, Facts]:
    """Return a file's tensors in PyTorch's format, under the file's own names, and the facts that follow from its kind.

    Raises:
        UserError: if a configuration beside the file is damaged.
    """
    if "conv1_conv.kernel" in state:
        return _keras(_held(state, path))
    if "conv1_w" in state and any("_branch2a_" in name for name in state):
        return _msra(_held(state, path))
    if any(name.endswith("embedder.embedder.convolution.weight") for name in state):
        return state, _hugging_face(path.parent / "config.json")
    return state, Facts()


def _held(state: State, path: Path) -> State:
    """Return a state that a conversion may write out.

    Raises:
        UserError: if one of its tensors repeats the values that the file holds, perhaps without end.
    """
    repeating = (tensor for tensor in state.values() if tensor.nbytes > tensor.untyped_storage().nbytes())
    if any(tensor.numel() > LARGEST for tensor in repeating):
        raise DamagedError(*worded("tensor-too-large", path=path))
    return state


def _keras(state: State) -> tuple[State, Facts]:
    """Turn kernels from height, width, in, out; put the convolutions' biases into the means that BatchNorm subtracts.

    keras, src/applications/resnet.py: convolutions with biases, BatchNorm with an eps of 1.001e-5.
    """
    found = dict(state)
    for name, tensor in state.items():
        layer, _, variable = name.rpartition(".")
        if variable == "kernel":
            found[name] = tensor.permute(3, 2, 0, 1) if tensor.dim() == 4 else tensor.T
        elif variable == "bias" and f"{layer.removesuffix('_conv')}_bn.moving_mean" in state:
            mean = f"{layer.removesuffix('_conv')}_bn.moving_mean"
            found[mean] = state[mean] - found.pop(name)
    found["conv1_conv.kernel"] = found["conv1_conv.kernel"].flip(1)
    notes = ("the convolutions' biases are in the means of their BatchNorms", FLIPPED)
    return found, Facts({"stride_in": "1x1"}, CAFFE_IMAGES, 1.001e-5, notes)


def _msra(state: State) -> tuple[State, Facts]:
    """Give BatchNorms, of which the file has a scale and a shift only, a mean of 0 and, eps included, a variance of 1.

    detectron2, layers/batch_norm.py: FrozenBatchNorm2d. The momenta of training are left out. The max-pool is that of
    the release, from which these weights are converted. Of a network that is not the release's, as ResNeXts are not,
    no more is known than that its images are blue, green, red.
    """
    frozen = not any(name.endswith("_bn_riv") for name in state)
    grouped = any(
        "_branch2b_w" in name and tensor.dim() == 4 and tensor.shape[0] != tensor.shape[1]
        for name, tensor in state.items()
    )
    found = {name: tensor for name, tensor in state.items() if not name.endswith("_momentum")}
    for name in [name for name in found if name.endswith("_bn_s")]:
        norm = name.removesuffix("_s")
        if f"{norm}_rm" in found:
            continue
        bias = f"{norm.removesuffix('_bn').removeprefix('res_')}_b"
        scale = found[name]
        found[f"{norm}_rm"] = -found.pop(bias) if bias in found else torch.zeros_like(scale)
        found[f"{norm}_riv"] = torch.ones_like(scale)
    if "fc1000_w" in found:
        found["fc1000_w"] = found["fc1000_w"].flatten(1)
    found["conv1_w"] = found["conv1_w"].flip(1)
    notes = ("its BatchNorms are scales and shifts; they get a mean of 0 and a variance of 1",) if frozen else ()
    eps = 0.0 if frozen else None
    if grouped:
        return found, Facts(eps=eps, notes=(*notes, TURNED))
    return found, Facts({"stride_in": "1x1", "pool": "caffe"}, CAFFE_IMAGES, eps, (*notes, FLIPPED))


def _hugging_face(config: Path) -> Facts:
    """Return the facts in the configuration beside a file of Hugging Face, if any.

    Raises:
        UserError: if it is not such a configuration.
    """
    if not config.is_file():
        return Facts()
    try:
        with config.open("rb") as file:
            return configured(json.loads(file.read(LARGEST_CONFIG)), config.name)
    except (ValueError, AttributeError, RecursionError, OSError):
        raise DamagedError(*worded("no-configuration", path=config)) from None


USUAL = {"hidden_act": "relu", "downsample_in_first_stage": False}
"""Settings of Hugging Face's ResNets that change no tensor, with the values that the networks here have."""


def configured(told: Mapping[str, Any], source: str) -> Facts:
    """Return the facts about a ResNet in a configuration of Hugging Face: where its bottlenecks stride, its classes,
    and what the networks here have otherwise.

    transformers, models/resnet/configuration_resnet.py: `downsample_in_bottleneck` is the stride in the first 1×1.

    Raises:
        ValueError: if it is no such configuration.
    """
    kind, first = told.get("layer_type", "bottleneck"), told.get("downsample_in_bottleneck", False)
    if not isinstance(first, bool) or not isinstance(kind, str):
        raise ValueError(f"{source} is of another kind")
    of_resnet = told.get("model_type", "resnet") == "resnet"
    others = {key: told[key] for key, usual in USUAL.items() if of_resnet and told.get(key, usual) != usual}
    labels = {str(place): label for place, label in (told.get("id2label") or {}).items()}
    classes = [labels.get(str(place), "") for place in range(len(labels))]
    named = (
        classes
        and all(label and isinstance(label, str) for label in classes)
        and classes != [f"LABEL_{place}" for place in range(len(classes))]
    )
    prepared = {"classes": classes} if named else {}
    if kind != "bottleneck":
        return Facts(others, prepared)
    said = f"{source} says downsample_in_bottleneck {str(first).lower()}"
    return Facts({"stride_in": "1x1" if first else "3x3", **others}, prepared, notes=(said,))
