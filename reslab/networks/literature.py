"""Published errors: whose, how measured, and where printed. Nothing here was measured by reslab."""

from typing import NamedTuple


class Printed(NamedTuple):
    """Top-1 errors in % of named networks, as one source prints them, and how they were taken.

    Different sources trained and tested differently: what one source prints can be compared, and figures of two sources
    with caution.
    """

    who: str
    source: str
    how: str
    errors: dict[str, float]


def errors(accuracies: dict[str, float]) -> dict[str, float]:
    """Return errors in % for accuracies in %, to the digit that is printed."""
    return {name: round(100 - accuracy, 3) for name, accuracy in accuracies.items()}


IMAGENET = (
    Printed(
        "He et al. 2015",
        "arXiv:1512.03385, Tables 2 and 3",
        "mean of ten 224×224 crops",
        {
            "plain18": 27.94,
            "plain34": 28.54,
            "resnet34": 24.52,
            "resnet50": 22.85,
            "resnet101": 21.75,
            "resnet152": 21.43,
        },
    ),
    Printed(
        "He et al. 2016",
        "arXiv:1603.05027, Table 5, scale augmentation",
        "one 320×320 crop",
        {"preresnet152": 21.1, "preresnet200": 20.7},
    ),
    Printed(
        "Xie et al. 2017",
        "arXiv:1611.05431, Tables 3 and 4; its ResNets have the stride in the 3×3",
        "one 224×224 crop",
        {"resnet50": 23.9, "resnet101": 22.0, "resnext50_32x4d": 22.2, "resnext101_64x4d": 20.4},
    ),
    Printed(
        "Zagoruyko & Komodakis 2016",
        "arXiv:1605.07146, Table 8",
        "one 224×224 crop",
        {"wide_resnet50_2": 21.9},
    ),
    Printed(
        "Huang et al. 2017",
        "arXiv:1608.06993, Table 3",
        "one 224×224 crop",
        {"densenet121": 25.02, "densenet169": 23.80, "densenet201": 22.58},
    ),
    Printed(
        "Tan & Le 2019",
        "arXiv:1905.11946v1, Table 2",
        "one crop of the network's size; more augmentation and longer training than the others",
        errors(
            {
                "efficientnet_b0": 76.3,
                "efficientnet_b1": 78.8,
                "efficientnet_b2": 79.8,
                "efficientnet_b3": 81.1,
                "efficientnet_b4": 82.6,
                "efficientnet_b5": 83.3,
                "efficientnet_b6": 84.0,
                "efficientnet_b7": 84.4,
            }
        ),
    ),
    Printed(
        "Radosavovic et al. 2020",
        "arXiv:2003.13678, Fig. 15 and 16, Tables 3 and 4: all trained alike, 100 epochs without enhancements",
        "one crop, mean of five runs",
        {
            "resnet50": 23.2,
            "resnet101": 21.4,
            "resnet152": 20.9,
            "resnext50_32x4d": 21.9,
            "efficientnet_b0": 24.9,
            "efficientnet_b1": 24.1,
            "efficientnet_b2": 23.4,
            "efficientnet_b3": 22.5,
            "efficientnet_b4": 21.2,
            "efficientnet_b5": 21.5,
            "regnet_x_200mf": 31.1,
            "regnet_x_400mf": 27.3,
            "regnet_x_600mf": 25.9,
            "regnet_x_800mf": 24.8,
            "regnet_x_1_6gf": 23.0,
            "regnet_x_3_2gf": 21.7,
            "regnet_x_4gf": 21.4,
            "regnet_x_6_4gf": 20.8,
            "regnet_x_8gf": 20.7,
            "regnet_x_12gf": 20.3,
            "regnet_x_16gf": 20.0,
            "regnet_x_32gf": 19.5,
            "regnet_y_200mf": 29.6,
            "regnet_y_400mf": 25.9,
            "regnet_y_600mf": 24.5,
            "regnet_y_800mf": 23.7,
            "regnet_y_1_6gf": 22.0,
            "regnet_y_3_2gf": 21.0,
            "regnet_y_4gf": 20.6,
            "regnet_y_6_4gf": 20.1,
            "regnet_y_8gf": 20.1,
            "regnet_y_12gf": 19.7,
            "regnet_y_16gf": 19.6,
            "regnet_y_32gf": 19.0,
        },
    ),
)
"""ImageNet, validation images."""

CIFAR10 = (
    Printed(
        "He et al. 2015",
        "arXiv:1512.03385, Table 6 (110 layers: the mean of five runs)",
        "test images, one view",
        {"resnet20": 8.75, "resnet32": 7.51, "resnet44": 7.17, "resnet56": 6.97, "resnet110": 6.61, "resnet1202": 7.93},
    ),
    Printed(
        "He et al. 2016",
        "arXiv:1603.05027, Tables 2 and 4, medians of five runs",
        "test images, one view",
        {"preresnet110": 6.37, "preresnet164": 5.46, "preresnet1001": 4.92},
    ),
    Printed(
        "Zagoruyko & Komodakis 2016",
        "arXiv:1605.07146, Table 5, median of five runs, no dropout",
        "test images, one view",
        {"wrn28_10": 4.00},
    ),
    Printed(
        "Xie et al. 2017",
        "arXiv:1611.05431, Table 7, means of ten runs, with pre-activated blocks",
        "test images, one view",
        {"resnext29_8x64d": 3.65, "resnext29_16x64d": 3.58},
    ),
    Printed(
        "Huang et al. 2017",
        "arXiv:1608.06993, Table 2 (C10+)",
        "test images, one view",
        {"densenet40_12": 5.24, "densenet100_12": 4.10, "densenet_bc100_12": 4.51, "densenet_bc190_40": 3.46},
    ),
)
"""CIFAR-10, test images, trained with shifts and mirror images."""


def torchvision() -> Printed:
    """Return the errors of torchvision's first weights of each network, from its metadata.

    Its own training, in several ways (`resnext101_64x4d` and EfficientNetV2 with more augmentation than the rest), and
    its own widths of three RegNets; the weights of EfficientNet B0 to B7 and V2-L are ported from others' training.
    """
    from torchvision import models
    from torchvision.models import get_model_weights, list_models

    accuracies = {}
    for name in list_models(module=models):
        weights = next(iter(get_model_weights(name)))
        accuracies[name] = weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    return Printed(
        "torchvision",
        "torchvision.models, metadata of the first weights of each network",
        "one crop of the weights' own size",
        errors(accuracies),
    )
