"""Task 2.8: ResNet-50 from memory."""

from collections.abc import Sequence
from functools import partial

from torch import Generator

from reslab.exercises.grading import Part, Task
from reslab.exercises.inputs import Cases, whole

Row = tuple[str, int, int, int, int]


# the solution
def stages(image_size: int) -> list[tuple[str, int, int, int, int]]:
    """Return ResNet-50's rows (name, channels, height, blocks, parameters) for square colour images."""

    def with_bn(in_channels: int, out_channels: int, kernel: int) -> int:
        return in_channels * out_channels * kernel**2 + 2 * out_channels

    height = (image_size + 1) // 2
    rows = [("conv1", 64, height, 0, with_bn(3, 64, 7))]
    height = (height + 1) // 2
    rows.append(("pool", 64, height, 0, 0))
    width = 64
    for number, blocks in enumerate((3, 4, 6, 3), start=1):
        inner, outer = 32 * 2**number, 128 * 2**number
        height = height if number == 1 else (height + 1) // 2
        parameters = with_bn(width, outer, 1)  # the projection
        for _ in range(blocks):
            parameters += with_bn(width, inner, 1) + with_bn(inner, inner, 3) + with_bn(inner, outer, 1)
            width = outer
        rows.append((f"layer{number}", outer, height, blocks, parameters))
    return [*rows, ("avgpool", width, 1, 0, 0), ("fc", 1000, 1, 0, width * 1000 + 1000)]


def depth(kind: str, blocks: Sequence[int]) -> int:
    """Return the number in a ResNet's name: layers with weights on the longest path, from its blocks per stage."""
    return 2 + sum(blocks) * (3 if kind == "bottleneck" else 2)


# how it is judged


def _image_sizes(generator: Generator) -> Cases:
    yield (224,)
    for _ in range(3):
        yield (2 * whole(generator, 20, 150) + 1,)


def _stages(
    size: int,
    *,
    down: bool = False,
    first_strided: bool = False,
    pool: bool = True,
    inner_out: bool = False,
    projections: bool = True,
    bn: int = 2,
    bias: bool = True,
    counts: Sequence[int] = (3, 4, 6, 3),
    spared_first: bool = False,
) -> list[Row]:
    """The table with a way to go wrong for every option."""

    def half(height: int) -> int:
        return height // 2 if down else (height + 1) // 2

    def weights(i: int, o: int, k: int) -> int:
        return i * o * k**2 + bn * o

    height = half(size)
    rows: list[Row] = [("conv1", 64, height, 0, weights(3, 64, 7))]
    height = half(height) if pool else height
    rows.append(("pool", 64, height, 0, 0))
    width = 64
    for number, blocks in enumerate(counts, start=1):
        inner, outer = 32 * 2**number, 128 * 2**number
        height = half(height) if number > 1 or first_strided else height
        changes = projections and (number > 1 or not spared_first)
        parameters = weights(width, outer, 1) if changes else 0
        for _ in range(blocks):
            parameters += weights(width, inner, 1) + weights(inner, inner, 3) + weights(inner, outer, 1)
            width = outer
        rows.append((f"layer{number}", inner if inner_out else outer, height, blocks, parameters))
    return [*rows, ("avgpool", width, 1, 0, 0), ("fc", 1000, 1, 0, 1000 * (width + bias))]


def _designs(generator: Generator) -> Cases:
    for kind in ("basic", "bottleneck", "basic", "bottleneck"):
        yield kind, [whole(generator, 2, 9) for _ in range(4)]


TASK = Task(
    "2.8",
    [
        Part(
            stages,
            points=9,
            cases=_image_sizes,
            mistakes={
                "inner-width-as-output": partial(_stages, inner_out=True),
                "layer1-strided": partial(_stages, first_strided=True),
                "pool-not-strided": partial(_stages, pool=False),
                "projections-forgotten": partial(_stages, projections=False),
                "first-projection-forgotten": partial(_stages, spared_first=True),
                "batchnorm-forgotten": partial(_stages, bn=0),
                "running-statistics-counted": partial(_stages, bn=4),
                "bias-forgotten": partial(_stages, bias=False),
                "rounded-down": partial(_stages, down=True),
                "blocks-of-another": partial(_stages, counts=(3, 4, 23, 3)),
            },
        ),
        Part(
            depth,
            points=3,
            cases=_designs,
            mistakes={
                "classifier-forgotten": lambda kind, blocks: depth(kind, blocks) - 1,
                "stem-and-classifier-forgotten": lambda kind, blocks: depth(kind, blocks) - 2,
                "projections-counted": lambda kind, blocks: depth(kind, blocks) + (4 if kind == "bottleneck" else 3),
                "always-three": lambda kind, blocks: depth("bottleneck", blocks),
                "always-two": lambda kind, blocks: depth("basic", blocks),
                "blocks-counted": lambda kind, blocks: 2 + sum(blocks),
            },
        ),
    ],
)
