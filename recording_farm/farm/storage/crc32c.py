"""CRC-32C of a content that comes in parts: those of the parts are combined, without the content."""

import base64
from functools import cache
from typing import Final

import google_crc32c

_POLYNOMIAL: Final = 0x82F63B78
_BITS: Final = 32


def crc32c(data: bytes | bytearray | memoryview, before: int = 0) -> int:
    """The CRC-32C of `data`, behind a content whose CRC-32C is `before`."""
    return int(google_crc32c.extend(before, bytes(data)))


def crc32c_text(value: int) -> str:
    """A CRC-32C as S3 and Google write it: four bytes in base64."""
    return base64.b64encode(value.to_bytes(4)).decode()


def combined(first: int, second: int, second_size: int) -> int:
    """The CRC-32C of two contents after each other, of their CRCs and the size of the second in bytes."""
    power = 0
    while second_size:
        if second_size & 1:
            first = _times(_zero_bytes(power), first)
        second_size >>= 1
        power += 1
    return first ^ second


@cache
def _zero_bytes(power: int) -> tuple[int, ...]:
    """The matrix over GF(2) that appends 2 ** `power` zero bytes to a content."""
    if power == 0:
        matrix = (_POLYNOMIAL, *(1 << bit for bit in range(_BITS - 1)))  # appends one bit
        for _ in range(3):
            matrix = _squared(matrix)
        return matrix
    return _squared(_zero_bytes(power - 1))


def _squared(matrix: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(_times(matrix, column) for column in matrix)


def _times(matrix: tuple[int, ...], vector: int) -> int:
    product = 0
    for column in matrix:
        if vector & 1:
            product ^= column
        vector >>= 1
    return product
