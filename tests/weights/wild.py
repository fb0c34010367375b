"""Files of weights as their sources write them, made from the source's own list of names for a network of
torchvision's.
"""

import re
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

State = Mapping[str, Tensor]


def prefixed(prefix: str, state: State) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def without_head(state: State) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}


def other(state: State) -> dict[str, Tensor]:
    """Return weights of the same names that are not the ones to be taken."""
    return {name: tensor + 1 for name, tensor in state.items()}


def layers(prefix: str, *names: str, size: int = 8) -> dict[str, Tensor]:
    """Return tensors of a part that a network has no place for."""
    return {f"{prefix}{name}": torch.randn(size, size) for name in names}


# --- With a classifier ------------------------------------------------------------------------------------------------


def torchvision_references(state: State) -> dict[str, Any]:
    """torchvision, references/classification/train.py and utils.py: ExponentialMovingAverage, an AveragedModel."""
    average = OrderedDict(n_averaged=torch.tensor(9), **prefixed("module.", state))
    return {
        "model": OrderedDict(other(state)),
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
        "lr_scheduler": {"last_epoch": 3},
        "epoch": 3,
        "args": Namespace(model="resnet18", model_ema=True),
        "model_ema": average,
    }


def timm_training(state: State) -> dict[str, Any]:
    """timm, utils/checkpoint_saver.py: CheckpointSaver."""
    return {
        "epoch": 3,
        "arch": "resnet18",
        "state_dict": OrderedDict(other(state)),
        "optimizer": {"state": {}, "param_groups": []},
        "version": 2,
        "args": Namespace(model="resnet18"),
        "amp_scaler": {"scale": 65536.0},
        "state_dict_ema": OrderedDict(state),
        "metric": np.float64(71.2),
    }


def imagenet_example(state: State) -> dict[str, Any]:
    """pytorch/examples, imagenet/main.py, under DataParallel."""
    return {"epoch": 1, "arch": "resnet18", "state_dict": prefixed("module.", state), "best_acc1": torch.tensor(70.0)}


def compiled(state: State) -> dict[str, Any]:
    """torch.compile of a DistributedDataParallel of a torch.compile."""
    return {"net": prefixed("_orig_mod.module._orig_mod.", state)}


def lightning(state: State) -> dict[str, Any]:
    """pytorch_lightning, trainer/connectors/checkpoint_connector.py; a LightningModule with `self.model`."""
    return {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": OrderedDict(**prefixed("model.", state), **{"criterion.weight": torch.ones(10)}),
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {},
        "optimizer_states": [{"state": {}, "param_groups": []}],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1, "config": Namespace(depth=18)},
    }


def lightning_average(state: State) -> dict[str, Any]:
    """pytorch_lightning, callbacks/weight_averaging.py: the average takes the usual place."""
    return {
        **lightning(state),
        "current_model_state": prefixed("model.", other(state)),
        "averaging_state": {"n_averaged": torch.tensor(5)},
    }


def mmpretrain(state: State) -> dict[str, Any]:
    """mmpretrain, models/classifiers/image.py: `backbone`, and `head.fc` of heads/linear_head.py."""
    names = {name: name.replace("fc.", "head.fc.") if name.startswith("fc.") else f"backbone.{name}" for name in state}
    return {
        "meta": {"epoch": 100, "dataset_meta": {"classes": ["a", "b"]}},
        "state_dict": OrderedDict((names[name], tensor) for name, tensor in state.items()),
    }


def mmengine_average(state: State) -> dict[str, Any]:
    """mmengine, hooks/ema_hook.py: the average takes the usual place, and counts its steps in the other."""
    raw = mmpretrain(other(state))["state_dict"]
    return {**mmpretrain(state), "ema_state_dict": {"steps": torch.tensor(7), **prefixed("module.", raw)}}


def hugging_face(state: State) -> dict[str, Tensor]:
    """transformers, models/resnet/modeling_resnet.py: ResNetForImageClassification."""

    def name(own: str) -> str:
        if own.startswith("fc."):
            return own.replace("fc.", "classifier.1.")
        stem = {"conv1": "convolution", "bn1": "normalization"}
        if own.partition(".")[0] in stem:
            layer, _, rest = own.partition(".")
            return f"resnet.embedder.embedder.{stem[layer]}.{rest}"
        stage, block, part, rest = re.fullmatch(r"layer(\d)\.(\d+)\.(.+?)\.(\w+)", own).groups()  # type: ignore[union-attr]
        place = f"resnet.encoder.stages.{int(stage) - 1}.layers.{block}"
        if part.startswith("downsample"):
            return f"{place}.shortcut.{'convolution' if part.endswith('0') else 'normalization'}.{rest}"
        kind = "convolution" if part.startswith("conv") else "normalization"
        return f"{place}.layer.{int(part[-1]) - 1}.{kind}.{rest}"

    return {name(own): tensor for own, tensor in state.items()}


def detectron2(state: State) -> dict[str, Any]:
    """detectron2, modeling/backbone/resnet.py, in a classifier; its FrozenBatchNorm2d counts no batches."""

    def name(own: str) -> str:
        own = re.sub(r"^layer(\d)", lambda found: f"res{int(found[1]) + 1}", own)
        own = re.sub(r"^(conv1|bn1)\.", lambda found: "stem.conv1." + ("norm." if found[1] == "bn1" else ""), own)
        own = own.replace(".downsample.0.", ".shortcut.").replace(".downsample.1.", ".shortcut.norm.")
        return re.sub(r"\.bn(\d)\.", r".conv\1.norm.", own).replace("fc.", "linear.")

    return {"model": {name(own): tensor for own, tensor in state.items() if "num_batches" not in own}}


def list_of_layers(state: State) -> dict[str, Tensor]:
    """nn.Sequential(*list(torchvision's network.children())), of a network in a LightningModule's `backbone`."""
    places = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    body = without_head(state).items()
    return {f"backbone.{places[name.partition('.')[0]]}.{name.partition('.')[2]}": tensor for name, tensor in body}


def wrapped_parts(state: State) -> dict[str, Tensor]:
    """A network whose stages are compiled one by one."""
    return {re.sub(r"^(layer\d)\.", r"\1._orig_mod.", name): tensor for name, tensor in state.items()}


def nested_deep(state: State) -> dict[str, Any]:
    return {"checkpoint": {"weights": prefixed("module.model.network.encoder.", state)}}


def half(state: State) -> dict[str, Tensor]:
    return {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


WITH_CLASSIFIER: dict[str, Callable[[State], dict[str, Any]]] = {
    "torchvision": dict,
    "torchvision-references": torchvision_references,
    "timm-training": timm_training,
    "imagenet-example": imagenet_example,
    "torch.compile": compiled,
    "lightning": lightning,
    "lightning-average": lightning_average,
    "mmpretrain": mmpretrain,
    "mmengine-average": mmengine_average,
    "hugging-face": hugging_face,
    "detectron2": detectron2,
    "wrapped-parts": wrapped_parts,
    "nested-deep": nested_deep,
}
"""Sources of networks with a classifier, and what each writes for a network of torchvision's."""
AVERAGED = ("torchvision-references", "timm-training", "lightning-average", "mmengine-average")
"""Those that write an average of the weights beside the weights, which are `other`."""

# --- Without, as self-supervised training leaves them -----------------------------------------------------------------


def moco(state: State) -> dict[str, Any]:
    """facebookresearch/moco, moco/builder.py and main_moco.py; version 2 has a hidden layer in `fc`."""
    head = {**layers("fc.0.", "weight"), **layers("fc.2.", "weight"), "fc.2.bias": torch.zeros(8)}
    query, key = ({**without_head(one), **head} for one in (state, other(state)))
    return {
        "epoch": 200,
        "arch": "resnet50",
        "state_dict": {
            **prefixed("module.encoder_q.", query),
            **prefixed("module.encoder_k.", key),
            "module.queue": torch.zeros(8, 16),
            "module.queue_ptr": torch.zeros(1, dtype=torch.int64),
        },
        "optimizer": {"state": {}},
    }


def dino_training(state: State) -> dict[str, Any]:
    """facebookresearch/dino, main_dino.py and utils.py: MultiCropWrapper, both networks distributed."""
    head = layers("module.head.", "mlp.0.weight", "last_layer.weight_g", "last_layer.weight_v")
    return {
        "student": {**prefixed("module.backbone.", other(without_head(state))), **head},
        "teacher": {**prefixed("module.backbone.", without_head(state)), **head},
        "optimizer": {"state": {}},
        "epoch": 100,
        "args": Namespace(arch="resnet50"),
        "dino_loss": {"center": torch.zeros(1, 8)},
    }


def dino(state: State) -> dict[str, Tensor]:
    """facebookresearch/dino, hubconf.py: the file of the backbone alone."""
    return without_head(state)


def swav(state: State) -> dict[str, Any]:
    """facebookresearch/swav, src/resnet50.py: `projection_head` and `prototypes` within the network."""
    head = {
        **layers("projection_head.0.", "weight"),
        "projection_head.1.running_mean": torch.zeros(8),
        **layers("projection_head.3.", "weight"),
        **layers("prototypes.", "weight"),
    }
    return prefixed("module.", {**without_head(state), **head})


def barlow_twins(state: State) -> dict[str, Any]:
    """facebookresearch/barlowtwins, main.py: `backbone` with an identity for `fc`, `projector`, `bn`."""
    head = {**layers("projector.0.", "weight"), "bn.running_mean": torch.zeros(8), "bn.running_var": torch.ones(8)}
    return {"epoch": 9, "model": prefixed("module.", {**prefixed("backbone.", without_head(state)), **head})}


WITHOUT_CLASSIFIER: dict[str, Callable[[State], dict[str, Any]]] = {
    "moco": moco,
    "dino-training": dino_training,
    "dino": dino,
    "swav": swav,
    "barlow-twins": barlow_twins,
    "list-of-layers": list_of_layers,
}
"""Sources of networks without one, likewise."""

# --- The authors' own -------------------------------------------------------------------------------------------------


def keras(state: State) -> dict[str, np.ndarray]:
    """keras, src/applications/resnet.py: ResNet50; the arrays by layer and variable, kernels blue first and last in
    out-channels, convolutions with biases.
    """
    variables = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    found: dict[str, np.ndarray] = {}
    for own, tensor in state.items():
        place, _, variable = own.rpartition(".")
        if variable == "num_batches_tracked":
            continue
        if place == "fc":
            kernel = variable == "weight"
            found["predictions/predictions/" + ("kernel:0" if kernel else "bias:0")] = (
                tensor.T if kernel else tensor
            ).numpy()
            continue
        layer = place
        if match := re.fullmatch(r"layer(\d)\.(\d+)\.(?:downsample\.(\d)|(conv|bn)(\d))", place):
            stage, block, shortcut, kind, number = match.groups()
            kind = kind or ("conv" if shortcut == "0" else "bn")
            layer = f"conv{int(stage) + 1}_block{int(block) + 1}_{number or 0}_{kind}"
        else:
            layer = "conv1_conv" if place == "conv1" else "conv1_bn"
        if layer.endswith("_conv"):
            kernel = tensor.flip(1) if place == "conv1" else tensor
            found[f"{layer}/{layer}/kernel:0"] = kernel.permute(2, 3, 1, 0).contiguous().numpy()
            found[f"{layer}/{layer}/bias:0"] = 0.1 * np.random.default_rng(len(found)).standard_normal(
                len(tensor), dtype=np.float32
            )
        else:
            found[f"{layer}/{layer}/{variables[variable]}:0"] = tensor.numpy()
    return found


def msra(state: State) -> dict[str, np.ndarray]:
    """detectron2's ImageNetPretrained/MSRA/R-50.pkl, in Detectron's names: checkpoint/c2_model_loading.py."""
    found: dict[str, np.ndarray] = {}
    for own, tensor in state.items():
        place, _, variable = own.rpartition(".")
        if variable in ("num_batches_tracked", "running_mean", "running_var"):
            continue
        kind = "b" if variable == "bias" else "w"
        if place in ("fc", "conv1"):
            tensor = tensor.flip(1) if place == "conv1" else tensor
            found[{"fc": "fc1000", "conv1": "conv1"}[place] + f"_{kind}"] = tensor.contiguous().numpy()
            continue
        if place == "bn1":
            name, batchnorm = "res_conv1", True
        else:
            stage, block, part = re.fullmatch(r"layer(\d)\.(\d+)\.(.+)", place).groups()  # type: ignore[union-attr]
            batchnorm = part.startswith("bn") or part == "downsample.1"
            branch = "branch1" if part.startswith("down") else f"branch2{'abc'[int(part[-1]) - 1]}"
            name = f"res{int(stage) + 1}_{block}_{branch}"
        found[f"{name}_bn_{'s' if variable == 'weight' else 'b'}" if batchnorm else f"{name}_{kind}"] = tensor.numpy()
    found["conv1_b"] = 1e-3 * np.arange(64, dtype=np.float32)
    return found
