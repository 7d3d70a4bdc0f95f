"""Two processes that judge a half each, without pytest-xdist: its calls, in the order in which it makes them."""

from __future__ import annotations

import pytest

from detr_conformance.halves import half_of, part_of, rule_id
from detr_conformance.isolation.scheduler import AHEAD, HalvesScheduler
from detr_conformance.properties.rules import RULES

ITEMS = ["a0", "b1", "c0", "d1", "e0", "f0"]
OF_FIRST = ["a0", "c0", "e0", "f0"]


class Node:
    """A process, as far as a scheduler sees it."""

    def __init__(self, half):
        self.half, self.ran, self.queue, self.shutting_down = half, [], [], False

    def send_runtest_some(self, indices):
        self.queue += indices

    def shutdown(self):
        self.shutting_down = True


class Session:
    """What pytest-xdist does with a scheduler."""

    def __init__(self, items=ITEMS):
        self.items = items
        self.scheduler = HalvesScheduler(lambda name: int(name[-1]), lambda node: node.half)

    def start(self, half, items=None):
        node = Node(half)
        self.scheduler.add_node(node)
        self.build(node, self.items if items is None else items)
        return node

    def build(self, node, items):
        self.scheduler.add_node_collection(node, items)
        assert self.scheduler.collection_is_completed
        self.scheduler.schedule()

    def run_one(self, node):
        assert len(node.queue) >= AHEAD or node.shutting_down  # pytest waits for the next item, or for the end
        place = node.queue.pop(0)
        node.ran.append(self.items[place])
        self.scheduler.mark_test_complete(node, place)

    def run_all(self, node):
        while node.queue:
            assert len(node.queue) <= AHEAD
            self.run_one(node)
        assert node.shutting_down
        assert self.scheduler.remove_node(node) is None


def test_each_process_gets_a_half_in_order_and_the_first_waits_for_nobody():
    session = Session()
    first = session.start(0)
    session.run_all(first)
    assert first.ran == OF_FIRST
    assert not session.scheduler.tests_finished
    second = session.start(1)
    session.run_all(second)
    assert second.ran == ["b1", "d1"]
    assert session.scheduler.tests_finished
    assert not session.scheduler.has_pending


def test_a_process_that_ends_loses_the_item_that_it_ran_and_another_goes_on_with_its_half():
    session = Session()
    first, second = session.start(0), session.start(1)
    session.run_one(first)
    assert session.scheduler.remove_node(first) == "c0"
    session.run_all(second)
    assert second.ran == ["b1", "d1"]
    assert not session.scheduler.tests_finished
    third = session.start(0)
    session.run_all(third)
    assert third.ran == ["e0", "f0"]
    assert session.scheduler.tests_finished


def test_a_process_that_ends_before_it_has_built_the_port_takes_nothing_with_it():
    session, lost = Session(), Node(0)
    session.scheduler.add_node(lost)
    assert session.scheduler.nodes == [lost]
    assert session.scheduler.remove_node(lost) is None
    first, second = session.start(0), session.start(1)
    session.run_all(first)
    session.run_all(second)
    assert sorted(first.ran + second.ran) == ITEMS


def test_one_process_is_enough_for_one_half():
    session = Session(["a0", "c0"])
    first, idle = session.start(0), session.start(1)
    assert idle.shutting_down
    session.run_all(first)
    assert first.ran == ["a0", "c0"]
    assert session.scheduler.tests_finished


def test_an_item_that_a_process_does_not_have_is_not_sent_to_it():
    session = Session(["a0", "c0", "e0"])
    first = session.start(0)
    session.run_one(first)
    session.scheduler.remove_node(first)
    session.items = ["a0", "c0"]
    second = session.start(0)
    session.run_all(second)
    assert second.ran == []


def test_nothing_is_finished_before_any_process_has_built_the_port():
    scheduler = HalvesScheduler(lambda _item: 0, lambda _node: 0)
    scheduler.add_node(Node(0))
    assert not scheduler.tests_finished


def test_an_item_that_is_no_rule_belongs_to_a_half_too():
    assert [
        half_of(rule_id(item)) for item in ("x.py::test_rule[BOX-07]", "own.py::test_mine", "own.py::test_mine[a-b]")
    ] == [1, 0, 0]


@pytest.mark.parametrize("parts", [1, 2, 3, 4])
def test_every_part_of_the_rules_has_about_as_many_of_either_half(parts):
    shards = [part_of(RULES, part, parts) for part in range(1, parts + 1)]
    assert sorted((rule for shard in shards for rule in shard), key=RULES.index) == list(RULES)
    for shard in shards:
        odd = sum(half_of(rule.id) for rule in shard)
        assert 0.4 * len(shard) <= odd <= 0.6 * len(shard)
