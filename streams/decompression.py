"""The four compressions of Kafka's batches, unpacked into bounded memory."""

import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import cramjam

DECOMPRESSED_LIMIT = 32 << 20  # bytes of one batch; a broker accepts 1 MB by default, and JSON shrinks to a twentieth
_GZIP, _SNAPPY, _LZ4, _ZSTD = 1, 2, 3, 4
_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_HEADER = 16
_SHOWN = 200
_BUFFER_FULL = "failed to write whole buffer"  # cramjam's message, which a test checks


class FaultError(Exception):
    """The reason why bytes cannot be read."""


class TooLargeError(FaultError):
    """A batch takes more than DECOMPRESSED_LIMIT."""


def decompress(codec: int, packed: bytes) -> bytes | memoryview:
    """Unpack the records of a batch. Raises FaultError."""
    decompressor = _DECOMPRESSORS.get(codec)
    if decompressor is None:
        raise FaultError(f"unknown compression codec {codec}")
    try:
        return decompressor(packed)
    except (cramjam.DecompressionError, zlib.error, struct.error, ValueError, OSError) as error:
        raise FaultError(f"bad compression: {str(error)[:_SHOWN]}") from error


def _too_large() -> TooLargeError:
    return TooLargeError(f"a batch takes more than {DECOMPRESSED_LIMIT >> 20} MiB without its compression")


def _gunzip(packed: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    plain = unpacker.decompress(packed, DECOMPRESSED_LIMIT + 1)
    if len(plain) > DECOMPRESSED_LIMIT:
        raise _too_large()
    if not unpacker.eof:
        raise ValueError("the stream is cut short")
    return plain


def _unlz4(packed: bytes) -> memoryview:
    return _unpack(cramjam.lz4.decompress_into, packed)


def _unzstd(packed: bytes) -> memoryview:
    return _unpack(cramjam.zstd.decompress_into, packed)


def _unpack(decompress_into: Any, packed: bytes) -> memoryview:
    """Decompress into buffers that grow to the limit: frames may omit their size, or state a wrong one."""
    size = min(DECOMPRESSED_LIMIT, max(1 << 16, len(packed) * 8))
    while True:
        buffer = bytearray(size)
        try:
            return memoryview(buffer)[: decompress_into(packed, buffer)]
        except cramjam.DecompressionError as error:
            if _BUFFER_FULL not in str(error):
                raise
            if size == DECOMPRESSED_LIMIT:
                raise _too_large() from None
        size = min(DECOMPRESSED_LIMIT, size * 8)


def _unsnappy(packed: bytes) -> bytes:
    """Decompress raw snappy, or the blocks of the xerial library, which Java's clients write."""
    if not packed.startswith(_XERIAL):
        return _unsnappy_block(packed, DECOMPRESSED_LIMIT)
    blocks, left, at = [], DECOMPRESSED_LIMIT, _XERIAL_HEADER
    while at < len(packed):
        (length,) = struct.unpack_from(">i", packed, at)
        at += 4
        if length < 0 or at + length > len(packed):
            raise ValueError("a block has a wrong length")
        blocks.append(_unsnappy_block(packed[at : at + length], left))
        left -= len(blocks[-1])
        at += length
    return b"".join(blocks)


def _unsnappy_block(packed: bytes, limit: int) -> bytes:
    if cramjam.snappy.decompress_raw_len(packed) > limit:
        raise _too_large()
    return bytes(cramjam.snappy.decompress_raw(packed))


_DECOMPRESSORS: Mapping[int, Callable[[bytes], bytes | memoryview]] = {
    _GZIP: _gunzip,
    _SNAPPY: _unsnappy,
    _LZ4: _unlz4,
    _ZSTD: _unzstd,
}
