"""Who is left to judge an appeal."""

from trine.appeal import SEATS, could_judge
from trine.protocol.committee import Member

NOW = 1_000


def pool(count: int) -> list[Member]:
    return [Member(f"0x{i:040X}", 100, b"class".ljust(32, b"\0")) for i in range(count)]


def test_the_node_and_those_who_judged_before_are_not_left_to_judge():
    members = pool(10)
    judged = [member.address.lower() for member in members[:3]]
    assert could_judge(members, judged, NOW) == SEATS[1]
    assert could_judge(members, [*judged, members[3].address], NOW) == SEATS[1] - 1


def test_whoever_has_no_weight_or_two_positions_counts_once_or_not_at_all():
    members = pool(3)
    gone = Member(members[0].address, 0, b"other".ljust(32, b"\0"))
    moved = Member(members[1].address, 5, b"other".ljust(32, b"\0"))
    assert could_judge([*members, gone, moved], [], NOW) == 3
    assert could_judge([gone], [], NOW) == 0


def test_whose_calibration_has_ended_is_not_left_to_judge():
    ended = Member("0x" + "7" * 40, 100, b"class".ljust(32, b"\0"), 0, NOW - 1)
    assert could_judge([*pool(3), ended], [], NOW) == 3
    assert could_judge([*pool(3), ended], [], NOW - 1) == 4
