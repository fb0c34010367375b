"""Task 2.11: photographs."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor, nn

import reslab
from reslab.exercises.grading import Part, Task
from reslab.exercises.inputs import Cases, listed, normal, whole
from reslab.exercises.likeness import OfAnotherKind
from reslab.exercises.tasks.task_2_5 import networks
from reslab.residual import preserve

# the solution
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def prepare(photograph: Image.Image, size: int) -> Tensor:
    """Return a colour photograph as ImageNet's networks take it, `[3, size, size]`: its shorter side made size · 8/7,
    its middle cut out, and each channel normalised.
    """
    scale = size * 8 / 7 / min(photograph.size)
    width, height = (round(side * scale) for side in photograph.size)
    photograph = photograph.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    photograph = photograph.crop((left, top, left + size, top + size))
    x = torch.from_numpy(np.array(photograph)).permute(2, 0, 1).float() / 255
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def changed_answers(network: nn.Module, images: Tensor) -> list[float]:
    """Return the share of images whose answer is another without each block in turn, in evaluation mode."""
    with preserve(network), torch.no_grad():
        gated = reslab.view(network.eval(), images)
        answers = gated(images).argmax(1)
        gates = 1 - torch.eye(len(gated))
        return [float((gated(images, each).argmax(1) != answers).double().mean()) for each in gates]


# how it is judged


def _photographs(generator: Generator) -> Cases:
    for turned in (False, True):
        size = 14 * whole(generator, 1, 2)
        sides = (2 * size, 2 * size + 14 * whole(generator, 1, 3))  # of which nothing has to be rounded
        width, height = sides[::-1] if turned else sides
        noise = torch.randint(256, (height // 4 + 1, width // 4 + 1, 3), generator=generator, dtype=torch.uint8)
        photograph = Image.fromarray(noise.numpy()).resize((width, height), Image.Resampling.BICUBIC)
        yield photograph, size


def _prepared(
    photograph: Image.Image,
    size: int,
    *,
    crop: bool = True,
    corner: bool = False,
    divided: bool = True,
    normalised: bool = True,
    last: bool = False,
    swapped: bool = False,
    bgr: bool = False,
) -> Tensor:
    """The picture with a way to go wrong for every option."""
    scale = size * 8 / 7 / min(photograph.size)
    width, height = (round(side * scale) for side in photograph.size)
    if crop:
        photograph = photograph.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (0, 0) if corner else ((width - size) // 2, (height - size) // 2)
        photograph = photograph.crop((left, top, left + size, top + size))
    else:
        photograph = photograph.resize((size, size), Image.Resampling.BILINEAR)
    x = torch.from_numpy(np.array(photograph)).float()
    x = x.flip(2) if bgr else x
    x = x.permute(2, 1, 0) if swapped else x.permute(2, 0, 1)
    x = x / 255 if divided else x
    x = (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None] if normalised else x
    return x.permute(1, 2, 0) if last else x


def _unlabelled(generator: Generator) -> Cases:
    for network, images, _ in networks(generator):
        yield network, images + 0.1 * normal(generator, *images.shape)


def _answers(answer: Callable[..., Any], network: nn.Module, images: Tensor) -> dict[str, Any] | OfAnotherKind:
    training = network.training
    shares = listed(answer(network, images), "float")
    return (
        shares if isinstance(shares, OfAnotherKind) else {"values": shares, "mode kept": network.training == training}
    )


def _mode_left(network: nn.Module, images: Tensor) -> list[float]:
    return changed_answers(network.eval(), images)


def _changed(
    gates: Callable[[int], Tensor] = lambda n: 1 - torch.eye(n), *, evaluate: bool = True, kept: bool = False
) -> Callable[..., list[float]]:
    def changed(network: nn.Module, images: Tensor) -> list[float]:
        with preserve(network), torch.no_grad():
            gated = reslab.view(network.eval(), images)
            network.train(not evaluate)
            answers = gated(images).argmax(1)
            shares = [float((gated(images, each).argmax(1) != answers).double().mean()) for each in gates(len(gated))]
        return [1 - share if kept else share for share in shares]

    return changed


TASK = Task(
    "2.11",
    [
        Part(
            prepare,
            points=4,
            cases=_photographs,
            mistakes={
                "squeezed": partial(_prepared, crop=False),
                "corner": partial(_prepared, corner=True),
                "not-divided": partial(_prepared, divided=False),
                "not-normalised": partial(_prepared, normalised=False),
                "channels-last": partial(_prepared, last=True),
                "rows-and-columns": partial(_prepared, swapped=True),
                "blue-first": partial(_prepared, bgr=True),
            },
            tolerance=1e-4,
        ),
        Part(
            changed_answers,
            points=2,
            cases=_unlabelled,
            mistakes={
                "share-that-stays": _changed(kept=True),
                "only-that-block": _changed(torch.eye),
                "cumulative": _changed(lambda n: torch.ones(n, n).triu(1)),
                "training-mode": _changed(evaluate=False),
                "mode-left-changed": _mode_left,
            },
            observe=_answers,
        ),
    ],
)
