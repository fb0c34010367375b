"""Reading one image file: opened safely, and decoded upright, opaque, with eight bits per channel."""

import errno
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image
from torch import Tensor

from reslab.errors import UnusableError, first_few, worded

GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Suffixes of image files, in lower case, as in torchvision's folders."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "PPM", "TIFF")
"""The formats that are read, whatever the file's name. Pillow knows more, among them PostScript, for which it starts
another program.
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
"""The operation that turns an image upright, by its camera's orientation (EXIF 2.3, section 4.6.4 A)."""
BACKGROUND = "white"
"""The background behind transparent parts: white."""
MOST_PIXELS = 89_478_485
"""Pixels of one image, above which Pillow warns of a decompression bomb. At twice that, half a gigabyte of memory, it
raises an error.
"""
BITS, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0
"""A TIFF's tags BitsPerSample and PhotometricInterpretation, and the latter's value if 0 is white (TIFF 6.0)."""
OF_DAMAGE = (None, errno.EINVAL)
"""The numbers of errors due to damaged bytes: Pillow's own have none, and one is that of a seek to a place before the
file. All others are the system's, and the file may be sound.
"""
LEVELS = {"L;2": 3, "L;4": 15}
"""The highest level of a PNG's grey of so many bits, by Pillow's name."""


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an image that can be decoded to eight bits per channel.

    Raises:
        ValueError: if it is not one.
        Exception: anything that Pillow raises on damaged bytes.
    """
    if (path.is_symlink() and not path.exists()) or not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("not a regular file")
    with Image.open(path, formats=FORMATS) as image:
        if image.mode[0] in "IF" and not _of_sixteen_bits(image):
            raise ValueError("32 bits per value, with no stated range of brightness")
        if image.width * image.height > MOST_PIXELS:
            raise ValueError("too large")
        _scale_transparency(image)
        yield image


def header(path: Path) -> tuple[bool, int]:
    """Return whether an image is grey, and its number of pixels; neutral values if it cannot be decoded."""
    try:
        with opened(path) as image:
            return image.mode in GREY, image.width * image.height
    except Exception:  # reported when it is decoded
        return True, 0


def decode(path: Path, mode: str) -> Tensor | None:
    """Return an image as `[C, H, W]` uint8, as a viewer shows it, or None if it cannot be decoded.

    Raises:
        UserError: if the system does not let it be read.
    """
    # imported here, as torchvision takes a second and a cache does not need it
    from torchvision.transforms.v2.functional import pil_to_tensor

    try:
        with opened(path) as image:
            image.load()  # the orientation may come after the pixels
            turn, seen = _turn(image), _opaque(_of_eight_bits(image)).convert(mode)
            return pil_to_tensor(seen if turn is None else seen.transpose(turn))
    except OSError as error:
        if error.errno not in OF_DAMAGE:
            raise UnusableError(*worded("image-unreadable", path=path, reason=error.strerror)) from error
        return None
    except MemoryError as error:
        raise UnusableError(*worded("image-unreadable", path=path, reason="out of memory")) from error
    except Exception:  # damaged bytes make Pillow raise any exception
        return None


def _of_sixteen_bits(image: Image.Image) -> bool:
    """Return whether an image is 16-bit grey: Pillow reads some of these formats into 32 bits."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def _of_eight_bits(image: Image.Image) -> Image.Image:
    """Return a 16-bit grey image in 8 bits, where 65,535 is white, or 4,095 in a TIFF of 12 bits; Pillow's own
    conversion clips everything above 255.

    A transparent grey level stays transparent.
    """
    if not _of_sixteen_bits(image):
        return image
    levels = np.asarray(image).astype(np.int32)
    tags: Any = getattr(image, "tag_v2", {})  # a TIFF's
    white = 2 ** tags.get(BITS, (16,))[0] - 1
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        levels = white - levels
    eight = Image.fromarray(((255 * levels + white // 2) // white).astype(np.uint8))
    if "transparency" in image.info:
        eight.putalpha(Image.fromarray(np.where(levels == image.info["transparency"], 0, 255).astype(np.uint8)))
    return eight


def _scale_transparency(image: Image.Image) -> None:
    """Scale the transparent level of a grey PNG of two or four bits as Pillow scales its levels, and not this one."""
    level = image.info.get("transparency")
    tiles: Any = getattr(image, "tile", [])  # how a file's pixels are read
    if image.format == "PNG" and image.mode == "L" and isinstance(level, int) and tiles:
        image.info["transparency"] = level * 255 // LEVELS.get(str(tiles[0][3]), 255)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return the operation that turns an image upright."""
    try:
        return TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # a sound image with damaged metadata
        return None


def _opaque(image: Image.Image) -> Image.Image:
    """Composite a transparent image over the background, as images that look alike may differ in hidden pixels."""
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
