"""Names in other sources' files: one table per source of weights, and the prefixes that tools add."""

import re
from collections.abc import Callable, Mapping
from itertools import takewhile

Rule = Callable[[list[str]], list[str]]
"""A renaming rule. It is applied to a file's names and to the network's; names that become equal match."""

# --- What stands around a network's names -----------------------------------------------------------------------------

PLACES = ("", "state_dict", "model_state_dict", "model", "net", "network")
"""Keys of a network's weights, the likeliest first, for files with several sets that fit."""
AVERAGES = frozenset(
    {"ema", "model_ema", "state_dict_ema", "ema_state_dict", "ema_model", "ema_model_state_dict", "net_ema"}
)
"""Keys and prefixes of an average of the weights over training steps, which the authors of such files evaluate."""
WRAPPERS = (
    "module",  # DataParallel, DistributedDataParallel, averages of weights
    "_orig_mod",  # torch.compile
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "model",
    "net",
    "network",
    "backbone",
    "encoder_q",  # MoCo's query encoder; encoder_k, its slow copy, is not what its authors evaluate
    "base_encoder",
    "online_encoder",
    "encoder",
    "student",
    "teacher",  # beside a student, its average (DINO); else a network of its own
    *sorted(AVERAGES),
)
"""Attributes in which wrappers hold a network: prefixes of its names, in any order and number."""
LEFT_BY_TOOLS = ("n_averaged", "total_ops", "total_params")
"""Endings of names that are not weights: the counter of averaged weights, and leftovers of profilers."""
HEADS = (
    "fc",
    "linear",
    "classifier",
    "head",
    "predictions",  # Keras
    "probs",  # likewise
    "projector",  # Barlow Twins
    "projection_head",  # SwAV
    "prototypes",  # likewise
    "predictor",  # BYOL, SimSiam
    "fc1000_w",  # Caffe2
    "fc1000_b",
    "pred_w",
    "pred_b",
)
"""The first part of the names of a classifier, or of its replacement in self-supervised training."""


# --- Spellings that occur in files of any source ----------------------------------------------------------------------


def _without_common_prefix(names: list[str]) -> list[str]:
    """Remove the common prefix of all names, which an enclosing module adds."""
    levels = zip(*(name.split(".")[:-1] for name in names), strict=False)
    depth = len(list(takewhile(lambda level: len(set(level)) == 1, levels)))
    return [name.split(".", depth)[-1] for name in names]


def _rewritten(pattern: str, replacement: str) -> Rule:
    return lambda names: [re.sub(pattern, replacement, name) for name in names]


HABITS: tuple[Rule, ...] = (
    _without_common_prefix,
    # parts that DataParallel, torch.compile, FSDP or checkpointing wraps
    _rewritten(r"(^|\.)(?:(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.)+", r"\1"),
    _rewritten(r"^linear\.", "fc."),  # a habit of CIFAR implementations
    _rewritten(r"\.shortcut\.", ".downsample."),  # likewise
    _rewritten(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2."),  # torchvision's own DenseNet files
)

# --- One table per source: its names to torchvision's -----------------------------------------------------------------

KINDS = {
    "kernel": "weight",  # Keras
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "w": "weight",  # Caffe2
    "s": "weight",
    "b": "bias",
    "rm": "running_mean",
    "riv": "running_var",
}
"""Names of a layer's tensors in other libraries, and in PyTorch."""
_PARTS = {"stage": r"\d", "block": r"\d+", "which": r"\w", "kind": "|".join(KINDS), "rest": ".+"}


def _table(rows: Mapping[str, str], stage: int = 1, block: int = 0, which: str = "123") -> Rule:
    """Return the rule of a table of names: in both columns `{stage}`, `{block}` and `{which}` (convolution of a block)
    stand for numbers, `{kind}` for a word of `KINDS`, `{rest}` for the rest; what is in brackets may be missing.

    `stage` and `block` are the numbers of the source's first; `which` are its signs for the convolutions 1, 2 and 3.
    """

    def pattern(row: str) -> "re.Pattern[str]":
        text = re.escape(row).replace(r"\[", "(?:").replace(r"\]", ")?")
        for name, part in _PARTS.items():
            text = text.replace(rf"\{{{name}\}}", f"(?P<{name}>{part})")
        return re.compile(text)

    patterns = {pattern(row): form for row, form in rows.items()}

    def torchvisions(name: str) -> str:
        for each, form in patterns.items():
            if found := each.fullmatch(name):
                values: dict[str, str | int] = dict(found.groupdict())
                if "stage" in values:
                    values["stage"] = int(found["stage"]) - stage + 1
                if "block" in values:
                    values["block"] = int(found["block"]) - block
                if "which" in values:
                    values["which"] = which.find(found["which"]) + 1
                if "kind" in values:
                    values["kind"] = KINDS[found["kind"]]
                return form.format(**values)
        return name

    return lambda names: [torchvisions(name) for name in names]


SOURCES: dict[str, Rule] = {
    # transformers, models/resnet/modeling_resnet.py: ResNetForImageClassification; without "resnet." ResNetModel
    "Hugging Face": _table(
        {
            "[resnet.]embedder.embedder.convolution.{rest}": "conv1.{rest}",
            "[resnet.]embedder.embedder.normalization.{rest}": "bn1.{rest}",
            "[resnet.]encoder.stages.{stage}.layers.{block}.shortcut.convolution.{rest}": (
                "layer{stage}.{block}.downsample.0.{rest}"
            ),
            "[resnet.]encoder.stages.{stage}.layers.{block}.shortcut.normalization.{rest}": (
                "layer{stage}.{block}.downsample.1.{rest}"
            ),
            "[resnet.]encoder.stages.{stage}.layers.{block}.layer.{which}.convolution.{rest}": (
                "layer{stage}.{block}.conv{which}.{rest}"
            ),
            "[resnet.]encoder.stages.{stage}.layers.{block}.layer.{which}.normalization.{rest}": (
                "layer{stage}.{block}.bn{which}.{rest}"
            ),
            "classifier.1.{rest}": "fc.{rest}",
        },
        stage=0,
        which="012",
    ),
    # mmpretrain, models/classifiers/image.py: backbone (backbones/resnet.py), neck, head (heads/linear_head.py)
    "MMPretrain": _table({"backbone.{rest}": "{rest}", "head.fc.{rest}": "fc.{rest}"}),
    # detectron2, modeling/backbone/resnet.py: BasicStem, BasicBlock, BottleneckBlock
    "Detectron2": _table(
        {
            "[bottom_up.]stem.conv1.norm.{rest}": "bn1.{rest}",
            "[bottom_up.]stem.conv1.weight": "conv1.weight",
            "[bottom_up.]res{stage}.{block}.shortcut.norm.{rest}": "layer{stage}.{block}.downsample.1.{rest}",
            "[bottom_up.]res{stage}.{block}.shortcut.weight": "layer{stage}.{block}.downsample.0.weight",
            "[bottom_up.]res{stage}.{block}.conv{which}.norm.{rest}": "layer{stage}.{block}.bn{which}.{rest}",
            "[bottom_up.]res{stage}.{block}.conv{which}.weight": "layer{stage}.{block}.conv{which}.weight",
            "linear.{rest}": "fc.{rest}",
        },
        stage=2,
    ),
    # torchvision's ResNet as nn.Sequential(*network.children()), as self-supervised training often keeps it
    "a list of layers": _table(
        {"0.{rest}": "conv1.{rest}", "1.{rest}": "bn1.{rest}", "{stage}.{block}.{rest}": "layer{stage}.{block}.{rest}"},
        stage=4,
    ),
    # keras, src/applications/resnet.py: ResNet50, ResNet101 and ResNet152, of residual_block_v1
    "Keras": _table(
        {
            "conv1_conv.{kind}": "conv1.{kind}",
            "conv1_bn.{kind}": "bn1.{kind}",
            "conv{stage}_block{block}_0_conv.{kind}": "layer{stage}.{block}.downsample.0.{kind}",
            "conv{stage}_block{block}_0_bn.{kind}": "layer{stage}.{block}.downsample.1.{kind}",
            "conv{stage}_block{block}_{which}_conv.{kind}": "layer{stage}.{block}.conv{which}.{kind}",
            "conv{stage}_block{block}_{which}_bn.{kind}": "layer{stage}.{block}.bn{which}.{kind}",
            "predictions.{kind}": "fc.{kind}",
            "predictions.bias": "fc.bias",
            "probs.{kind}": "fc.{kind}",
            "probs.bias": "fc.bias",
        },
        stage=2,
        block=1,
    ),
    # detectron2, checkpoint/c2_model_loading.py: the names in its MSRA/R-50.pkl and R-101.pkl, Caffe2's of Caffe's
    "MSRA": _table(
        {
            "conv1_{kind}": "conv1.{kind}",
            "res_conv1_bn_{kind}": "bn1.{kind}",
            "res{stage}_{block}_branch1_{kind}": "layer{stage}.{block}.downsample.0.{kind}",
            "res{stage}_{block}_branch1_bn_{kind}": "layer{stage}.{block}.downsample.1.{kind}",
            "res{stage}_{block}_branch2{which}_{kind}": "layer{stage}.{block}.conv{which}.{kind}",
            "res{stage}_{block}_branch2{which}_bn_{kind}": "layer{stage}.{block}.bn{which}.{kind}",
            "fc1000_{kind}": "fc.{kind}",
            "pred_{kind}": "fc.{kind}",
        },
        stage=2,
        which="abc",
    ),
}
