"""One image file: opened safely, its header read, decoded upright and opaque."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image
from torch import Tensor

from reslab.errors import first_few

GREY = ("1", "L", "LA", "La")
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""How the names of image files end, in small letters: those that torchvision's folders take."""
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


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an image that can be decoded to eight bits a channel.

    Raises:
        ValueError: if it is none.
        Exception: whatever Pillow comes to on damaged bytes.
    """
    if not path.is_file():
        raise ValueError("no regular file, such as a FIFO, which would have us wait for ever")
    with Image.open(path, formats=FORMATS) as image:
        if image.mode[0] in "IF":
            raise ValueError("16 or 32 bits, which Pillow would clip")
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
    """Return an image as `[C, H, W]` uint8, as a viewer shows it, or None if it cannot be decoded to eight bits a
    channel.
    """
    # here, as torchvision takes a second to import and a cache needs none of it
    from torchvision.transforms.v2.functional import pil_to_tensor

    try:
        with opened(path) as image:
            image.load()  # what says how it is turned may come after the pixels
            return pil_to_tensor(_opaque(_upright(image)).convert(mode))
    except Exception:  # on damaged bytes Pillow raises whatever it comes to
        return None


def _upright(image: Image.Image) -> Image.Image:
    """Return an image turned and mirrored as its camera says that it is to be seen."""
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # damaged notes on a sound image
        turn = None
    return image if turn is None else image.transpose(turn)


def _opaque(image: Image.Image) -> Image.Image:
    """Return an image over the background, where it is transparent: what is hidden there differs between images that
    look alike.
    """
    if image.mode[-1] not in "Aa" and "transparency" not in image.info:
        return image
    seen = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, BACKGROUND), seen).convert("RGB")


def undecodable(paths: Sequence[str]) -> str:
    """Return what is said of files that cannot be decoded."""
    wanted = f"8-bit images that Pillow reads, of {MOST_PIXELS:,} pixels at most, were expected"
    return f"cannot decode {first_few(paths)} ({wanted}); mend them, or leave them out: folder:PATH?broken=skip"
