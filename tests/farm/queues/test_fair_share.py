from recording_farm.farm.queues.fair_share import TURN, Backlog, position_of


def positions(own: Backlog, *others: Backlog) -> list[int]:
    """Of all recordings in a backlog."""
    return [position_of(own, index, others) for index in range(own.waiting)]


def test_position_should_count_the_turns_that_come_before() -> None:
    own = Backlog("acme", waiting=3)
    assert positions(own, Backlog("umbra", waiting=1000)) == [1, 3, 5]
    assert positions(own, Backlog("umbra", waiting=1000, running=9)) == [1, 3, 5]
    assert positions(own, Backlog("umbra", waiting=1, virtual_time=TURN + 1)) == [1, 2, 4]


def test_same_virtual_time_should_be_served_in_the_order_in_which_it_was_reached() -> None:
    first, second = Backlog("umbra", waiting=2, reached=1), Backlog("acme", waiting=2, reached=2)
    assert (positions(first, second), positions(second, first)) == ([1, 3], [2, 4])
    # The one that is there already precedes those that will come to it.
    comes = Backlog("initech", waiting=2, virtual_time=TURN, reached=3)
    assert positions(comes, first, second) == [3, 6]


def test_heavier_organization_should_have_more_turns() -> None:
    own, heavy = Backlog("acme", waiting=2), Backlog("umbra", waiting=9, weight=3)
    assert positions(own, heavy) == [1, 5]


def test_organization_at_its_limit_should_not_stand_before_others() -> None:
    own, limited = Backlog("umbra", waiting=1, running=9), Backlog("acme", waiting=5, running=2, limit=3)
    assert positions(own, limited) == [2]
    assert positions(limited, own) == [1, 3, 4, 5, 6]


def test_organization_that_was_held_back_should_be_next_once() -> None:
    own = Backlog("acme", waiting=3, virtual_time=0, present=9 * TURN)
    other = Backlog("umbra", waiting=3, virtual_time=9 * TURN, present=9 * TURN)
    assert (positions(own, other), positions(other, own)) == ([1, 3, 5], [2, 4, 6])


def test_higher_priorities_should_stand_before_all_that_are_not_held_back() -> None:
    own, higher = Backlog("acme", waiting=1, rank=1), Backlog("umbra", waiting=4, running=2, limit=3)
    assert positions(own, higher) == [2]
    assert positions(higher, own) == [1, 3, 4, 5]
    held_back = Backlog("acme", waiting=1, running=1, limit=1, rank=1)
    assert positions(held_back, higher) == [5]
