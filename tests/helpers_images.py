"""Small image folders."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

Size = tuple[int, int]


def write_image(path: Path, size: Size, mode: str = "RGB", seed: int = 0) -> None:
    """Write an image of random pixels, `size` being (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    pixels = np.random.default_rng([seed, *path.name.encode()]).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


def image_folder(
    root: Path,
    sizes: Sequence[Size] = ((8, 8),),
    *,
    classes: Sequence[str] = ("가", "b c"),
    train: int = 4,
    test: int = 2,
    mode: str = "RGB",
) -> Path:
    """Write `train` and `test` images a class, their sizes taken in turn, and return the root."""
    for part, count in (("train", train), ("test", test)):
        for number, name in enumerate(classes):
            for i in range(count):
                write_image(
                    root / part / name / f"{i:02}.png", sizes[i % len(sizes)], mode, seed=10 * number + (part == "test")
                )
    return root
