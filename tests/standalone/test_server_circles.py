"""Circles are real, and none is found exactly where Python's own graphlib finds an order."""

from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from patchdit.standalone.circles import find_circles


@st.composite
def graphs(draw):
    names = [str(i) for i in range(draw(st.integers(1, 8)))]
    sources = st.sets(st.sampled_from(names), max_size=3)
    return {name: draw(sources) for name in names}


def ordered(graph):
    try:
        return bool(list(TopologicalSorter(graph).static_order()))
    except CycleError:
        return False


@given(graphs())
def test_circles(graph):
    circles = find_circles(graph)
    assert bool(circles) != ordered(graph)
    for circle in circles:
        assert circle[0] == circle[-1] and len(set(circle)) == len(circle) - 1
        assert all(a in graph[b] for a, b in pairwise(circle))
    # without what is downstream of the circles, all that is left can be put in an order
    gone = {name for circle in circles for name in circle}
    while more := {name for name, sources in graph.items() if sources & gone} - gone:
        gone |= more
    assert ordered({n: s for n, s in graph.items() if n not in gone} | {"one more": set()})
