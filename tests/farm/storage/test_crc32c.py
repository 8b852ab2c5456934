from random import randbytes

import pytest

from recording_farm.farm.storage.crc32c import combined, crc32c


@pytest.mark.parametrize("sizes", [(0, 0), (0, 5), (5, 0), (1, 1), (4096, 70_001), (3, 1 << 20)])
def test_crcs_of_parts_should_make_that_of_the_whole(sizes: tuple[int, int]) -> None:
    first, second = (randbytes(size) for size in sizes)
    assert combined(crc32c(first), crc32c(memoryview(second)), len(second)) == crc32c(first + second)


def test_crc_should_be_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283
