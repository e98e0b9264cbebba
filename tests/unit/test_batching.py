from postroom.batching import batched


def test_every_item_is_in_one_batch_in_order() -> None:
    assert list(batched(range(7), 3)) == [(0, 1, 2), (3, 4, 5), (6,)]


def test_full_batches_are_not_followed_by_an_empty_one() -> None:
    assert list(batched("abcd", 2)) == [("a", "b"), ("c", "d")]


def test_nothing_makes_no_batch() -> None:
    assert list(batched([], 3)) == []


def test_a_batch_is_read_only_when_it_is_asked_for() -> None:
    items = iter(range(10))
    next(batched(items, 4))
    assert next(items) == 4
