from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mfsynth.runs.timers import Timers

KEYS = st.sampled_from("abcd")
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, st.integers(0, 20)),
        st.tuples(st.just("cancel"), KEYS, st.none()),
        st.tuples(st.just("due"), st.none(), st.integers(0, 20)),
    )
)


@given(OPERATIONS)
def test_timers_are_a_dictionary_asked_for_its_least_value(operations):
    timers, model = Timers(), {}
    for kind, key, at in operations:
        if kind == "set":
            timers.set(key, at)
            model[key] = at
        elif kind == "cancel":
            timers.cancel(key)
            model.pop(key, None)
        else:
            times = [model.pop(key) for key in timers.due(at)]
            assert times == sorted(times)
            assert all(left > at for left in model.values())
        assert timers.earliest() == min(model.values(), default=None)


def test_moving_an_alarm_over_and_over_takes_no_more_room():
    timers = Timers()
    for at in range(10_000):
        timers.set("a", at)
    assert len(timers._heap) < 100
    assert list(timers.due(9_999)) == ["a"]
