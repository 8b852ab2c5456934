"""Outputs that are kept going, with real programs."""

import asyncio
from ipaddress import ip_network
from pathlib import Path
from typing import NoReturn

from recording_farm.browser_bot.network.addresses import AddressRule
from recording_farm.farm.live.outputs import LiveOutputs, OutputDependencies, Takes
from recording_farm.farm.recording.outputs import Output, StreamUrl, read_stream_url, stream_output
from testkit.encoder.takes import start_take
from testkit.network.ports import free_port


class Book:
    """One output to a URL."""

    def __init__(self, url: str) -> None:
        self.where = read_stream_url(url)
        self.output = stream_output(url)

    def wanted(self) -> list[Output]:
        return [self.output]

    def save(self, output: Output) -> None:
        assert output.id == self.output.id

    def url(self, output: Output) -> StreamUrl:
        assert output.id == self.output.id
        return self.where


def no_hls(directory: Path) -> NoReturn:
    raise NotImplementedError(directory)


async def test_each_address_of_a_receiver_should_have_its_turn(tmp_path: Path) -> None:
    port, called = free_port(), asyncio.Event()

    def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.set()
        writer.close()

    # Of the two addresses of `localhost`, the first one is dead.
    rule = AddressRule((ip_network("127.0.0.0/8"), ip_network("::1/128")))
    takes = Takes(tmp_path, 30, audio_only=False)
    book = Book(f"rtmp://localhost:{port}/live/key")
    outputs = LiveOutputs(OutputDependencies(takes, book, rule, no_hls), tmp_path / "out")
    take = start_take(tmp_path, seconds=300)
    async with await asyncio.start_server(accept, "::1", port):
        running = asyncio.create_task(outputs.run())
        try:
            await asyncio.wait_for(called.wait(), 60)
        finally:
            take.kill()
            take.wait()
            outputs.end()
            await asyncio.wait_for(running, 60)
