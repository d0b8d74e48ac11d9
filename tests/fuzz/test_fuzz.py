"""A minute of `make fuzz`: inputs that broke something once and the first mutations of every target, always the same ones."""

import pytest
from driver import fuzz, makers

INPUTS = 60  # a target, beside its seeds


@pytest.mark.parametrize("name", sorted(makers()))
def test_every_input_is_read_or_refused_in_plain_lines(name):
    target = makers(name)[name]()
    tally = fuzz(target, inputs=len(target.seeds) + INPUTS)
    first = {group: found[0].words for group, found in tally.findings.items()}
    assert first == {}
    # A set of ELPV's layout needs a hundred images before it has one to draw from; foreign formats are all refused.
    assert tally.read or name in ("lists-elpv", "pictures-foreign"), (
        "no input at all is read: the target is no longer what its reader wants"
    )
