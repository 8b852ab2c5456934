from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.recording.model import Watermark
from recording_farm.farm.recording.sealed_urls import open_urls, seal_urls, show_urls
from testkit.recordings import new_recording

SEALER = Sealer(b"secret")
RECORDING = new_recording(
    url="http://a.example/?token=of-the-page",
    webhooks=("https://b.example/?token=of-the-webhook",),
    watermark=Watermark(url="https://c.example/?token=of-the-watermark", width=10),
)


def test_sealed_record_should_have_no_url_and_open_to_the_same() -> None:
    sealed = seal_urls(RECORDING, SEALER)
    assert "example" not in sealed.model_dump_json()
    assert "token" not in sealed.model_dump_json()
    assert open_urls(sealed, SEALER) == RECORDING
    assert seal_urls(sealed, SEALER) == sealed


def test_record_of_the_last_version_should_be_read_as_it_is() -> None:
    assert open_urls(RECORDING, SEALER) == RECORDING


def test_record_of_another_key_should_still_be_shown() -> None:
    shown = show_urls(seal_urls(RECORDING, Sealer(b"another")), SEALER)
    assert (shown.url, shown.webhooks, shown.watermark and shown.watermark.url) == ("", (), "")
    assert shown.id == RECORDING.id
