from recording_farm.farm.queues.fair_share import Backlog, position_of


def test_position_should_count_only_those_whose_turn_comes_before() -> None:
    own = Backlog("acme", waiting=3)
    busy = Backlog("umbra", waiting=1000, running=2)
    assert [position_of(own, index, [busy]) for index in range(3)] == [1, 2, 4]
    idle = Backlog("umbra", waiting=1000)
    assert [position_of(own, index, [idle]) for index in range(3)] == [1, 3, 5]


def test_heavier_organization_should_stand_further_ahead() -> None:
    own, heavy = Backlog("acme", waiting=2), Backlog("umbra", waiting=9, weight=3)
    assert [position_of(own, index, [heavy]) for index in range(2)] == [1, 5]


def test_organization_at_its_limit_should_not_stand_before_others() -> None:
    own, limited = Backlog("umbra", waiting=1, running=9), Backlog("acme", waiting=5, running=2, limit=3)
    assert position_of(own, 0, [limited]) == 2
    assert [position_of(limited, index, [own]) for index in range(3)] == [1, 3, 4]


def test_higher_priorities_should_stand_before_all() -> None:
    own, higher = Backlog("acme", waiting=1), Backlog("umbra", waiting=4, running=2, limit=3)
    assert position_of(own, 0, [], [higher]) == 2
    assert position_of(Backlog("acme", waiting=1, running=1, limit=1), 0, [], [higher]) == 5
