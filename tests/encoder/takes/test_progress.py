import asyncio

from recording_farm.encoder.takes.progress import Progress, parse_progress, read_progress

BLOCK = (
    "frame=60\nfps=30.0\nout_time_us=1980000\ndrop_frames=1\ndup_frames=0\nspeed=1.02x\nprogress=continue\n"
)


def test_block_should_become_figures() -> None:
    assert parse_progress(BLOCK.splitlines()) == Progress(60, 1_980_000)


def test_unknown_figures_should_count_as_none() -> None:
    assert parse_progress(["frame=N/A", "out_time_us=N/A", "speed=N/A", "nonsense"]) == Progress()


async def test_stream_should_give_one_value_a_block() -> None:
    stream = asyncio.StreamReader()
    stream.feed_data((BLOCK + BLOCK.replace("60", "75") + "frame=80\n").encode())
    stream.feed_eof()
    assert [progress.frames async for progress in read_progress(stream)] == [60, 75]
