import torch
from hypothesis import given
from hypothesis import strategies as st

from polytask.batch import Batch, Group, Target
from polytask.data.slicing import slice_batch


@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 3), st.data())
def test_slices_join_to_the_whole(count, world, views, data):
    rows = torch.tensor(sorted(data.draw(st.sets(st.integers(0, count - 1)))), dtype=torch.long)
    images = torch.arange(count * views).float().view(-1, 1, 1, 1)
    index = torch.arange(count) + 100
    targets = {
        "all": Target(index * 2),
        "some": Target({"box": rows * 1.5, "mask": rows[:, None] + 7}, rows),
        "list": Target([f"row {i}" for i in rows.tolist()], rows),
        "wanted": Target(None, rows),
    }
    whole = Batch([Group(images, index, "all", targets, views)])
    joined = {}
    for rank in range(world):
        (group,) = slice_batch(whole, rank, world).groups
        assert list(group.targets) == list(targets)
        assert len(group) == len(range(rank, count, world))
        assert group.images.shape == (len(group) * views, 1, 1, 1)
        for i, number in enumerate(group.index.tolist()):
            mine = group.images[i * views : (i + 1) * views].flatten().tolist()
            joined[number - 100] = [mine]
        assert group.targets["all"].rows is None
        assert torch.equal(group.targets["all"].value, group.index * 2)
        some, listed = group.targets["some"], group.targets["list"]
        assert group.targets["wanted"].value is None
        assert some.rows.tolist() == sorted(some.rows.tolist()) == listed.rows.tolist()
        for k, row in enumerate(some.rows.tolist()):
            number = int(group.index[row]) - 100
            joined[number] += [
                float(some.value["box"][k]),
                int(some.value["mask"][k, 0]),
                listed.value[k],
            ]
    labelled = set(rows.tolist())
    assert joined == {
        i: [list(range(i * views, (i + 1) * views))]
        + ([i * 1.5, i + 7, f"row {i}"] if i in labelled else [])
        for i in range(count)
    }


def test_each_process_gets_its_share_of_every_data_set():
    """Groups hold data sets one after another: 6 images of one, then 6 of the other."""
    targets = {
        "a": Target(torch.arange(6), torch.arange(6)),
        "b": Target(torch.arange(6), torch.arange(6, 12)),
    }
    whole = Batch([Group(torch.zeros(12, 1, 1, 1), torch.arange(12), "all", targets)])
    for rank in range(3):
        (group,) = slice_batch(whole, rank, 3).groups
        assert [len(t.value) for t in group.targets.values()] == [2, 2]
