"""Conversion between decoded pictures and RGB with the video's own matrix and range, so that known pixels do not
change.

FFmpeg's converter only converts to 4:4:4 and back here: its colour matrices darken by a level at each round trip with
default settings, are half a level off in full range, and in some releases ignore the range.
"""
from dataclasses import dataclass

import av
import cv2
import numpy as np

# SWS_BICUBIC, SWS_FULL_CHR_H_INT, SWS_FULL_CHR_H_INP and SWS_ACCURATE_RND of libswscale.
_CAREFULLY = 0x4 | 0x2000 | 0x4000 | 0x40000
_ROWS = 64  # converted to floats at once: a whole frame would take 24 bytes a pixel
_LIMITED, _FULL = 1, 2  # AVColorRange
_BT709, _BT601 = 1, 5  # AVColorSpace
# The weights of red and blue in luma (ITU-R BT.709, FCC, BT.601 twice, SMPTE 240M, BT.2020 twice).
_WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087),
            9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}


@dataclass(frozen=True)
class Colour:
    """matrix: an AVColorSpace; full: luma uses 0 … 255, not 16 … 235. The rest are the stream's tags and its bits."""

    matrix: int
    full: bool
    tag: int
    primaries: int
    transfer: int
    bits: int = 8

    @property
    def hdr(self) -> bool:
        """Whether values are coded for PQ or HLG, which need more than 8 bits."""
        return self.transfer in (16, 18)

    def to_rgb(self, picture: av.VideoFrame) -> np.ndarray:
        """uint8 (H, W, 3); 10 and more bits are rounded to 8, an alpha channel is dropped."""
        if _is_image(picture):
            return picture.reformat(format="rgb24").to_ndarray()
        bits = picture.format.components[0].bits
        if picture.format.name.startswith("yuvj"):
            picture = _without_tags(picture)
        if picture.format.chroma_width(2) == picture.format.chroma_height(2) == 1:
            picture = _without_tags(_reformat(picture, "yuv420p"))
        planes = _reformat(picture, "yuv444p").to_ndarray()
        scale, offset = self._from_rgb()
        inverse = np.linalg.inv(scale)
        if self.full:  # bits were shifted: the largest value of 10, 1023, is 255.75 here
            inverse *= 255 * 2 ** (bits - 8) / (2**bits - 1)
        return _transform(cv2.merge(list(planes)), inverse, -inverse @ offset)

    def from_rgb(self, pixels: np.ndarray, form: str) -> av.VideoFrame:
        """A picture of the planar YUV format `form`, of 8 or 10 bits, from uint8 (H, W, 3)."""
        scale, offset = self._from_rgb()
        if form.endswith("10le"):
            full = np.array([1023 / 255, 4, 4]) if self.full else np.array([4, 4, 4])
            values = _transform(pixels, full[:, None] * scale, full * offset, bits=10)
            picture = av.VideoFrame(pixels.shape[1], pixels.shape[0], "yuv444p10le")
            for number, plane in enumerate(planes_of(picture)):
                plane[:] = values[..., number]
        else:
            planes = np.moveaxis(_transform(pixels, scale, offset), 2, 0)
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(planes), format="yuv444p")
        return self.convert(picture, form)

    def convert(self, picture: av.VideoFrame, form: str) -> av.VideoFrame:
        """A YUV picture of these colours in another planar YUV format."""
        picture = _reformat(picture, form)
        picture.colorspace, picture.color_range = self.tag, _FULL if self.full else _LIMITED
        return picture

    def label(self, encoder: av.VideoCodecContext) -> None:
        """Writes the tags into the stream that `encoder` makes."""
        encoder.color_range = _FULL if self.full else _LIMITED
        encoder.colorspace, encoder.color_primaries, encoder.color_trc = self.tag, self.primaries, self.transfer

    def _from_rgb(self) -> tuple[np.ndarray, np.ndarray]:
        red, blue = _WEIGHTS[self.matrix]
        luma = np.array([red, 1 - red - blue, blue])
        scale = np.stack([luma, (np.eye(3)[2] - luma) / (2 * (1 - blue)), (np.eye(3)[0] - luma) / (2 * (1 - red))])
        if self.full:
            return scale, np.array([0.0, 128, 128])
        return scale * np.array([[219], [224], [224]]) / 255, np.array([16.0, 128, 128])


# The colours of videos that are made from images.
HD = Colour(matrix=1, full=False, tag=_BT709, primaries=1, transfer=1)


def colour_of(picture: av.VideoFrame, decoder: av.VideoCodecContext) -> Colour:
    """The colours of a stream, by its first picture; without tags as players guess, BT.709 from 720 lines on."""
    if _is_image(picture):  # is written with the colours of images
        primaries = decoder.color_primaries if decoder.color_primaries in (1, 9, 11, 12) else HD.primaries
        return Colour(HD.matrix, HD.full, HD.tag, primaries, decoder.color_trc)
    short, long = sorted((picture.width, picture.height))
    guess = _BT709 if long >= 1280 or short >= 720 else _BT601
    full = picture.color_range == _FULL or picture.format.name.startswith("yuvj")
    matrix = picture.colorspace if picture.colorspace in _WEIGHTS else guess
    bits = picture.format.components[0].bits
    return Colour(matrix, full, picture.colorspace, decoder.color_primaries, decoder.color_trc, bits)


def planes_of(picture: av.VideoFrame) -> list[np.ndarray]:
    """The samples of a planar picture, to be read and written: uint8 or uint16 (height, width) each."""
    kind = np.uint8 if picture.format.components[0].bits == 8 else np.uint16
    rows = [np.frombuffer(plane, kind).reshape(plane.height, -1) for plane in picture.planes]
    return [row[:, : plane.width] for row, plane in zip(rows, picture.planes, strict=True)]


def _is_image(picture: av.VideoFrame) -> bool:
    return picture.format.is_rgb or picture.format.name.startswith(("gray", "ya", "mono", "pal"))


def _reformat(picture: av.VideoFrame, form: str) -> av.VideoFrame:
    """Another layout, other chroma samples, fewer bits; the same matrix and range."""
    # Matrix and range are always given, because PyAV's releases guess differently, and never as full, which some
    # misinterpret. Some also refuse pictures with rare primaries and transfer functions, which do not matter here: 2 is
    # unspecified.
    for name in ("color_primaries", "color_trc", "colorspace", "color_range"):
        if hasattr(picture, name):
            setattr(picture, name, 0 if name == "color_range" else 2)
    return picture.reformat(format=form, interpolation=_CAREFULLY, src_colorspace=_BT709, dst_colorspace=_BT709,
                            src_color_range=_LIMITED, dst_color_range=_LIMITED)


def _without_tags(picture: av.VideoFrame) -> av.VideoFrame:
    """A copy (planar, 8 bits) that does not say where its chroma samples lie, nor by its format that it is full range.

    Decoders set these tags, but our encoders do not: in some releases chroma would shift by half a pixel at each round
    trip.
    """
    copy = av.VideoFrame(picture.width, picture.height, picture.format.name.replace("yuvj", "yuv"))
    for new, old in zip(copy.planes, picture.planes, strict=True):
        rows = np.zeros((new.height, new.line_size), np.uint8)
        rows[:, : new.width] = np.frombuffer(old, np.uint8).reshape(old.height, old.line_size)[:, : old.width]
        new.update(rows)  # type: ignore[arg-type]
    return copy


def _transform(pixels: np.ndarray, scale: np.ndarray, offset: np.ndarray, bits: int = 8) -> np.ndarray:
    """`scale @ pixel + offset`, rounded; uint8, or uint16 for more bits, (H, W, 3)."""
    matrix = np.column_stack([scale, offset]).astype(np.float32)
    result = np.empty(pixels.shape, np.uint8 if bits == 8 else np.uint16)
    for top in range(0, len(pixels), _ROWS):
        values = cv2.transform(pixels[top : top + _ROWS].astype(np.float32), matrix)
        result[top : top + _ROWS] = np.clip(np.rint(values, out=values), 0, 2**bits - 1, out=values)
    return result
