from __future__ import annotations

from emulators.machines.ring import RingConsole


def test_everything_is_kept_while_it_fits() -> None:
    ring = RingConsole(keep=4)
    ring.write(b"abc")
    ring.write(b"defg")
    assert ring.total == 7
    assert ring.read(0, 10) + ring.read(4, 10) == b"abcdefg"
    assert ring.read(5, 1) == b"f"
    assert ring.read(7, 1) == b""


def test_the_middle_goes() -> None:
    ring = RingConsole(keep=4)
    for number in range(100):
        ring.write(b"%02d" % number)
    assert ring.total == 200
    assert ring.read(0, 100) == b"0001"
    assert ring.read(4, 100) == b"9899"
    assert ring.read(198, 100) == b"99"
