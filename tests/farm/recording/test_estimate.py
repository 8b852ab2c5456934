from recording_farm.encoder.formats import AudioExport, Codec, Format, Profile
from recording_farm.farm.recording.estimate import estimate


def test_estimate_should_follow_area_and_rate_and_never_exceed_what_a_format_may_take() -> None:
    usual = estimate(Format())
    assert usual.bytes_per_hour == (1_380_000 + 128_000) * 450
    small = estimate(Format(width=640, height=360))
    assert small.bytes_per_hour < usual.bytes_per_hour / 3
    assert small.cores < usual.cores / 2
    for codec in Codec:
        for profile in Profile:
            fmt = Format(codec, 1920, 1080, 60, profile=profile)
            assert estimate(fmt).bytes_per_hour <= (fmt.max_bitrate + 128_000) * 450


def test_sound_alone_should_be_estimated_without_a_picture() -> None:
    sound = estimate(Format(audio_only=AudioExport()))
    assert (sound.bytes_per_hour, sound.cores) == (57_600_000, 0.28)
