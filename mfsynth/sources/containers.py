"""From a file's bytes to the array in it, by its format."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mfsynth.config.limits import Limit
from mfsynth.config.suggestions import did_you_mean
from mfsynth.errors import MfsynthError
from mfsynth.sources.encoding import Encoding
from mfsynth.sources.guards import decoding, require_few, require_sane
from mfsynth.sources.library_formats import read_exr, read_hdf5, read_mat
from mfsynth.sources.plain_formats import (
    COLMAP_HEADER,
    highest_of_pgm,
    read_colmap,
    read_dpt,
    read_pfm,
    read_pgm,
    read_raw,
)

# What pictures of data sets are in. Of other formats some are programs: Pillow hands EPS to a
# PostScript interpreter.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF")
_SIGNATURES: Final = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"\x93NUMPY": "npy",
    b"PK\x03\x04": "npz",
    b"P5": "pgm",
    b"\x76\x2f\x31\x01": "exr",
    b"\x89HDF": "hdf5",
    b"MATLAB 5": "mat",
    b"MATLAB 7.3": "mat",
    b"Pf": "pfm",
    b"PF": "pfm",
    b"PIEH": "dpt",
}
_WITHOUT_READER: Final = {
    b"\xff\xd8": "a JPEG, which keeps no depth",
    b"#ROSBAG": "a ROS bag, which is a source of kind recording",
    b"\x89MCAP": "MCAP, which is a source of kind recording",
}
_KNOWN = "PNG, TIFF, NPY, NPZ, EXR, PFM, PGM, HDF5, MAT, .dpt or map of COLMAP"
_EXIF_ORIENTATION: Final = 0x0112
_EXIF_ORIENTATIONS: Final = range(1, 9)
# Colour types of PNG; of RGB without and with alpha.
_GREYSCALE, _RGB = 0, (2, 6)


def read_codes(data: bytes, name: str, encoding: Encoding, remedy: str) -> NDArray[Any]:
    """The codes of a depth map: (H, W), or (H, W, 3) bytes where they are packed so.

    Args:
        data: The file's content.
        name: The file's name, for the error message.
        encoding: Of the depth.
        remedy: What to do about a file that is broken or of another kind.

    Raises:
        MfsynthError: Corrupt, of a format without reader or of another than the encoding says, not
            an array of one map, of more than the limits, or of a format whose library is not
            installed.
    """
    wanted = encoding.container or "auto"
    container = "raw" if wanted == "raw" else container_of(data)
    if container is None or wanted not in ("auto", container):
        raise MfsynthError(f"{name}: {_unreadable(data, wanted)}; {remedy}")
    with decoding(name, _READERS[container][0], remedy):
        codes = _READERS[container][1](data, name, encoding, remedy)
        if encoding.byte_order is not None and container != "raw":
            codes = _with_byte_order(codes, container, encoding, name)
    if codes.ndim == 3 and encoding.packing not in ("rgb24", "bgr24"):
        # One map, with its single channel first or last.
        codes = codes[..., 0] if codes.shape[2] == 1 else codes
        codes = codes[0] if codes.ndim == 3 and codes.shape[0] == 1 else codes
    if 0 in codes.shape:
        raise MfsynthError(f"{name}: no pixels; {remedy}")
    codes = codes.astype(codes.dtype.newbyteorder("="), copy=False)
    rows = encoding.rows or ("bottom" if container == "pfm" else "top")
    return codes[::-1] if rows == "bottom" else codes


def container_of(data: bytes) -> str | None:
    """The format of a file, by its first bytes; None where it has no reader."""
    found = next((kind for start, kind in _SIGNATURES.items() if data.startswith(start)), None)
    return "colmap" if found is None and COLMAP_HEADER.match(data) else found


def highest_code(data: bytes) -> int | None:
    """The highest code that a file of fewer bits than its numbers have says it may have."""
    return highest_of_pgm(data) if container_of(data) == "pgm" else None


def read_array(data: bytes, name: str, key: str | None, remedy: str) -> NDArray[Any]:
    """An array in a file of NumPy, HDF5 or MATLAB.

    Args:
        data: The file's content.
        name: The file's name, for the error message.
        key: Its name in a file of several; None for the only one.
        remedy: What to do about a file that is broken.

    Raises:
        MfsynthError: Corrupt, without such an array, of more than the limits, or of a format whose
            library is not installed.
    """
    with decoding(name, "an array", remedy):
        return _ARRAYS[container_of(data) or "npy"](data, name, key)


def is_array(data: bytes) -> bool:
    """Whether a file holds arrays, not a picture."""
    return container_of(data) in _ARRAYS


def open_picture(data: bytes, name: str) -> Image.Image:
    """A picture of which the header was read, and no pixel yet.

    Raises:
        MfsynthError: It has more than `Limit.PIXELS`.
        Exception: Whatever Pillow trips over.
    """
    with warnings.catch_warnings():
        # Of Pillow's own limit, which is a process' own; ours says what to do.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    require_few(image.size[::-1], name)
    return image


def exif_orientation(data: bytes, name: str) -> int:
    """How EXIF says that a picture is to be turned, 1 to 8; 1 = not.

    Raises:
        MfsynthError: It is no picture.
    """
    with decoding(name, "an image", "replace it"), open_picture(data, name) as picture:
        found = int(picture.getexif().get(_EXIF_ORIENTATION, 1))
    # Cameras write 0 where they don't know.
    return found if found in _EXIF_ORIENTATIONS else 1


def _png(data: bytes, name: str, encoding: Encoding, remedy: str) -> NDArray[Any]:
    bits, colour = data[24], data[25]
    packed = encoding.packing in ("rgb24", "bgr24")
    if packed:
        fits, must = bits == 8 and colour in _RGB, "of 8 bits in three channels"
    else:
        # Disparities may be few.
        fits = bits == 16 or (bits == 8 and encoding.quantity not in (None, "depth"))
        fits, must = fits and colour == _GREYSCALE, "a 16-bit greyscale PNG"
    if not fits:
        kind = f"{bits}-bit" + ("" if colour == _GREYSCALE else " with colour or palette")
        raise MfsynthError(
            f"{name}: a PNG that is {kind}; depth must be {must}, a colour map of depth can't be "
            f"used (if its bytes are a code, set encoding.packing); {remedy}"
        )
    with open_picture(data, name) as image:
        # Only this looks at the checksums of a PNG; the file is of no use afterwards.
        image.verify()
    with open_picture(data, name) as image:
        if packed:
            return np.asarray(image.convert("RGB"))
        return np.asarray(image, np.uint16 if bits == 16 else np.uint8)


def _tiff(data: bytes, name: str, encoding: Encoding, remedy: str) -> NDArray[Any]:
    try:
        image = open_picture(data, name)
    except UnidentifiedImageError as error:
        raise ValueError(
            "damaged, or of numbers without a reader, as float64 or float16: convert it to float32 "
            "or to NPY"
        ) from error
    with image:
        if getattr(image, "n_frames", 1) != 1:
            raise ValueError("of more than one page")
        return np.asarray(image)


def _npy(data: bytes, name: str) -> NDArray[Any]:
    stream = io.BytesIO(data)
    _require_header(stream, name)
    stream.seek(0)
    return np.load(stream, allow_pickle=False)


def _npz(data: bytes, name: str, key: str | None) -> NDArray[Any]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(m.filename.removesuffix(".npy"), m.file_size) for m in archive.infolist()]
        sizes = dict(members)
        if len(sizes) < len(members):
            raise ValueError("two arrays of one name")
        if key is None and len(sizes) == 1:
            (key,) = sizes
        if key is None or key not in sizes:
            said = f"no array {key!r}" if key is not None else f"{len(sizes)} arrays"
            hint = f"known: {', '.join(sizes)}" if key is None else did_you_mean(key, sizes)
            raise MfsynthError(
                f"{name}: {said}; set encoding.key for depth and encoding.rgb_key for images; "
                f"{hint}"
            )
        if sizes[key] > Limit.BYTES.most:
            raise Limit.BYTES.refusal(name, f"an array of {sizes[key]} bytes")
        return _npy(archive.read(f"{key}.npy"), name)


def _require_header(stream: io.BytesIO, name: str) -> None:
    """Refuse a header that asks for more memory than anybody's map, before it is given."""
    version = np.lib.format.read_magic(stream)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read(stream)
    require_sane(shape, dtype, name)


def _with_byte_order(
    codes: NDArray[Any], container: str, encoding: Encoding, name: str
) -> NDArray[Any]:
    if container not in ("png", "pgm") or codes.dtype != np.uint16:
        raise MfsynthError(
            f"{name}: a {container.upper()} says its byte order itself; leave encoding.byte_order "
            "out"
        )
    return codes.byteswap() if encoding.byte_order == "little" else codes


def _unreadable(data: bytes, wanted: str) -> str:
    known = next((what for start, what in _WITHOUT_READER.items() if data.startswith(start)), None)
    if known is None and wanted != "auto":
        return f"not a {wanted.upper()} file, which it must be"
    return f"not a {_KNOWN}" + ("" if known is None else f", but {known}")


_Reader = Callable[[bytes, str, Encoding, str], NDArray[Any]]
_READERS: Final[Mapping[str, tuple[str, _Reader]]] = {
    "png": ("a PNG", _png),
    "tiff": ("a TIFF", _tiff),
    "npy": ("an array", lambda data, name, encoding, remedy: _npy(data, name)),
    "npz": ("arrays", lambda data, name, encoding, remedy: _npz(data, name, encoding.key)),
    "exr": ("an EXR", lambda data, name, encoding, remedy: read_exr(data, name, encoding.key)),
    "hdf5": ("HDF5", lambda data, name, encoding, remedy: read_hdf5(data, name, encoding.key)),
    "mat": ("MATLAB's", lambda data, name, encoding, remedy: read_mat(data, name, encoding.key)),
    "pgm": ("a PGM", lambda data, name, encoding, remedy: read_pgm(data, name)),
    "pfm": ("a PFM", lambda data, name, encoding, remedy: read_pfm(data, name)),
    "dpt": ("a .dpt", lambda data, name, encoding, remedy: read_dpt(data, name)),
    "colmap": ("COLMAP's", lambda data, name, encoding, remedy: read_colmap(data, name)),
    "raw": ("raw numbers", lambda data, name, encoding, remedy: read_raw(data, name, encoding)),
}
_ARRAYS: Final[Mapping[str, Callable[[bytes, str, str | None], NDArray[Any]]]] = {
    "npy": lambda data, name, key: _npy(data, name),
    "npz": _npz,
    "hdf5": read_hdf5,
    "mat": read_mat,
}
