import re
from pathlib import Path

from hostile.attacks import ATTACKS, chosen
from hostile.scene import PAGES
from hostile.watch import Felt


def test_no_name_should_choose_all_attacks() -> None:
    assert chosen([]) == ATTACKS
    assert list(chosen(["udp", "disk"])) == ["disk", "udp"]


def test_bounds_should_name_what_broke_them() -> None:
    assert list(ATTACKS["header"].judge(Felt(answer_ms=100, memory=1))) == []
    assert list(ATTACKS["header"].judge(Felt(answer_ms=9000, memory=1))) == ["answer ms 9000 of at most 1500"]


def test_every_page_should_be_in_an_attack() -> None:
    text = Path(chosen.__code__.co_filename).read_text()
    assert set(re.findall(r"\w+\.html", text)) == {path.name for path in PAGES.iterdir()} | {"page.html"}
