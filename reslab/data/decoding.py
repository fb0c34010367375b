"""One image file: opened safely, its header read, decoded upright, opaque and to eight bits a channel."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image
from torch import Tensor

from reslab.errors import first_few

GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""How the names of image files end, in lower case: those that torchvision's folders take."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "PPM", "TIFF")
"""What an image may be, whatever its name says. Pillow knows more, among them PostScript, which it has another program
run.
"""
TURNS: dict[Any, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What sets an image upright, by the orientation that its camera noted (EXIF 2.3, section 4.6.4 A)."""
BACKGROUND = "white"
"""What is seen through the transparent parts of an image, as on paper."""
MOST_PIXELS = 89_478_485
"""Of one image: where Pillow warns of a decompression bomb. At twice that, half a gigabyte in memory, it refuses by
itself.
"""
WHITE_IS_ZERO = 0
"""What a TIFF's tag 262 says where its numbers grow towards black (TIFF 6.0, PhotometricInterpretation)."""


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an image that can be decoded to eight bits a channel.

    Raises:
        ValueError: if it is none.
        Exception: whatever Pillow comes to on damaged bytes.
    """
    if not path.is_file():
        raise ValueError("not a regular file")
    with Image.open(path, formats=FORMATS) as image:
        if image.mode[0] in "IF" and not _of_sixteen_bits(image):
            raise ValueError("32 bits per value, with no stated range of brightness")
        if image.width * image.height > MOST_PIXELS:
            raise ValueError("too large")
        yield image


def header(path: Path) -> tuple[bool, int]:
    """Return whether an image is grey, and how many pixels it has; of one that cannot be decoded, nothing that decides
    anything.
    """
    try:
        with opened(path) as image:
            return image.mode in GREY, image.width * image.height
    except Exception:  # named when it is decoded
        return True, 0


def decode(path: Path, mode: str) -> Tensor | None:
    """Return an image as `[C, H, W]` uint8, as a viewer shows it, or None if it cannot be decoded."""
    # here, as torchvision takes a second to import and a cache needs none of it
    from torchvision.transforms.v2.functional import pil_to_tensor

    try:
        with opened(path) as image:
            image.load()  # what says how it is turned may come after the pixels
            turn, seen = _turn(image), _opaque(_of_eight_bits(image)).convert(mode)
            return pil_to_tensor(seen if turn is None else seen.transpose(turn))
    except Exception:  # on damaged bytes Pillow raises whatever it comes to
        return None


def _of_sixteen_bits(image: Image.Image) -> bool:
    """Return whether an image is grey in 16 bits: Pillow reads some of them into 32, from formats that have no more."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def _of_eight_bits(image: Image.Image) -> Image.Image:
    """Return a grey image of 16 bits in 8, where 65,535 is white; Pillow's own conversion cuts off all above 255.

    The one level that is transparent, if one is, stays so.
    """
    if not _of_sixteen_bits(image):
        return image
    levels = np.asarray(image).astype(np.int32)
    if image.format == "TIFF" and image.tag_v2.get(262) == WHITE_IS_ZERO:  # type: ignore[attr-defined]  # a TIFF's
        levels = 65_535 - levels
    eight = Image.fromarray(((levels + 128) // 257).astype(np.uint8))
    if "transparency" in image.info:
        eight.putalpha(Image.fromarray(np.where(levels == image.info["transparency"], 0, 255).astype(np.uint8)))
    return eight


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return how an image has to be turned and mirrored to be seen as its camera says."""
    try:
        return TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # damaged notes on a sound image
        return None


def _opaque(image: Image.Image) -> Image.Image:
    """Composite a transparent image over the background: hidden pixels differ between images that look the same."""
    if image.mode[-1] not in "Aa" and "transparency" not in image.info:
        return image
    seen = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, BACKGROUND), seen).convert("RGB")


def undecodable(paths: Sequence[str]) -> str:
    """Return the message about files that cannot be decoded."""
    wanted = f"images that Pillow reads, of 8 bits or grey of 16, and of {MOST_PIXELS:,} pixels at most, were expected"
    return f"cannot decode {first_few(paths)} ({wanted}); mend them, or leave them out: folder:PATH?broken=skip"


def left_out(paths: Sequence[str], total: int) -> str:
    """Return the message about files that are skipped because they cannot be decoded, out of `total`."""
    return f"left out {len(paths):,} of {total:,} images, which cannot be decoded: {first_few(paths)}"
