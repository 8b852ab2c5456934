"""Options of `farm record` for the page's server."""

import click
import pytest

from recording_farm.farm.cli.record_options import access_of


def test_options_should_give_access() -> None:
    access = access_of("recorder:pa:55", ["X-Key: a:b", "Accept: text/html"], ["session=a=b"])
    assert access.headers == {"x-key": "a:b", "accept": "text/html"}
    assert [(each.username, each.password, each.origin) for each in access.credentials] == [
        ("recorder", "pa:55", None)
    ]
    assert [(cookie.name, cookie.value, cookie.domain) for cookie in access.cookies] == [
        ("session", "a=b", None)
    ]
    assert not any(secret in repr(access) for secret in ("pa:55", "a:b", "a=b"))


@pytest.mark.parametrize(
    ("credentials", "headers", "cookies", "option"),
    [
        ("s3cret", [], [], "--http-credentials"),
        (None, ["s3cret"], [], "--header"),
        (None, ["Host: s3cret"], [], "--header"),
        (None, ["A: s3cret", "a: s3cret"], [], "--header"),
        (None, [], ["s3cret"], "--cookie"),
        (None, [], ["=s3cret"], "--cookie"),
        (None, [], ["a=s3cret;"], "--cookie"),
    ],
)
def test_what_is_wrong_should_be_reported_without_secrets(
    credentials: str | None, headers: list[str], cookies: list[str], option: str
) -> None:
    with pytest.raises(click.BadParameter) as caught:
        access_of(credentials, headers, cookies)
    assert caught.value.param_hint == option
    assert "s3cret" not in caught.value.format_message()
