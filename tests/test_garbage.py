"""Python searches for dead cycles where it may, and is left as it was."""

from __future__ import annotations

import gc

import pytest

from physai.train import garbage


def test_what_was_there_is_left_out_until_the_context_is_left():
    with pytest.raises(KeyError), garbage.imports_left_out():
        assert gc.get_freeze_count() > 0
        raise KeyError
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize("enabled", [True, False])
def test_the_search_is_put_off_and_goes_on_as_before(enabled):
    try:
        (gc.enable if enabled else gc.disable)()
        with garbage.put_off():
            assert not gc.isenabled()
        assert gc.isenabled() is enabled
    finally:
        gc.enable()
