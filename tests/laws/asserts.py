"""The laws every sharing method keeps, one assert each (see the design, Laws)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.testing import assert_close

from polytask.batch import Batch, Group, Target, take
from polytask.cost import measure
from polytask.loss import normalised
from polytask.sharing.method import SharingMethod

TOLERANCE = 1e-5


def losses_of(method: SharingMethod, batch: Batch) -> dict[str, Tensor]:
    """Σ loss / Σ weight of every task in the batch."""
    predictions = method(batch).predictions
    found = {}
    for task, _, target in batch:
        loss, weight = method.tasks[task].loss(predictions[task], target.value)
        found[task] = normalised(loss, weight.sum())
    return found


def images_of(group: Group, target: Target) -> Tensor:
    """The labelled images, all views of each."""
    by_image = group.images.view(len(group), group.views, *group.images.shape[1:])
    return by_image[slice(None) if target.rows is None else target.rows].flatten(0, 1)


def names_of(method: SharingMethod, parameters: set[nn.Parameter]) -> set[str]:
    return {name for name, p in method.named_parameters() if p in parameters}


def reached(method: SharingMethod, loss: Tensor) -> set[nn.Parameter]:
    """The parameters that get a gradient from a loss."""
    method.zero_grad(set_to_none=True)
    loss.backward(retain_graph=True)
    return {p for p in method.parameters() if p.grad is not None}


def assert_path_is_the_joint_output(method: SharingMethod, batch: Batch) -> None:
    """A task's path gives what the method gives, and is a network of its own."""
    together = method(batch).predictions
    assert set(together) == set(batch.tasks)
    for task, group, target in batch:
        path = method.path(task)
        images = images_of(group, target)
        alone = path(images)
        assert_close(together[task], alone, rtol=TOLERANCE, atol=TOLERANCE)
        index = torch.arange(len(images) // group.views)
        same_rows = Group(images, index, group.stream, {task: Target()}, group.views)
        again = method(Batch([same_rows])).predictions[task]
        assert_close(again, alone, rtol=0, atol=0)  # bit for bit, of dicts too
        assert not path.training
        storages = {t.untyped_storage().data_ptr() for t in method.state_dict().values()}
        own = {t.untyped_storage().data_ptr() for t in path.state_dict().values()}
        assert not storages & own, "the path shares memory with the method"


def assert_gradient_stays_in_view(method: SharingMethod, batch: Batch) -> None:
    """A task's loss reaches its view and nothing else; what two views hold is shared."""
    method.train()
    losses = losses_of(method, batch)
    for task, loss in losses.items():
        assert names_of(method, reached(method, loss)) == names_of(method, method.view(task))
    uses = Counter(p for task in method.tasks for p in method.view(task))
    assert method.shared() == {p for p, count in uses.items() if count > 1}
    assert not set(method.heads.parameters()) & method.shared()


def assert_unlabelled_images_change_nothing(method: SharingMethod, batch: Batch) -> None:
    """Losses stay when images without a label join the batch, even images of NaN."""
    crowded = Batch([_among_unlabelled(group) for group in batch.groups])
    before, after = losses_of(method, batch), losses_of(method, crowded)
    assert list(before) == list(after)
    for task in before:
        assert_close(after[task], before[task], rtol=TOLERANCE, atol=TOLERANCE)


def _among_unlabelled(group: Group) -> Group:
    """The group with one image of NaN before its own and one after."""
    strange = torch.full_like(group.images[: group.views], torch.nan)
    targets = {}
    for task, target in group.targets.items():
        rows = torch.arange(len(group)) if target.rows is None else target.rows
        targets[task] = Target(target.value, rows + 1)
    images = torch.cat([strange, group.images, strange])
    index = torch.arange(len(images) // group.views)
    return Group(images, index, group.stream, targets, group.views)


def assert_a_task_without_labels_is_silent(
    method: SharingMethod, batch: Batch, absent: str, is_listed: bool
) -> None:
    """No NaN, and no gradient in what is the task's own, with its target empty or left out."""
    method.train()
    groups = []
    for group in batch.groups:
        targets = {t: target for t, target in group.targets.items() if t != absent}
        if is_listed and absent in group.targets:
            none = torch.zeros(0, dtype=torch.long)
            targets[absent] = Target(take(group.targets[absent].value, none), none)
        groups.append(Group(group.images, group.index, group.stream, targets, group.views))
    losses = losses_of(method, Batch(groups))
    assert set(losses) == set(method.tasks) - (set() if is_listed else {absent})
    assert all(torch.isfinite(loss) for loss in losses.values())
    if is_listed:
        assert losses[absent] == 0
    method.zero_grad(set_to_none=True)
    torch.stack(list(losses.values())).sum().backward()
    own = method.view(absent) - method.shared()
    for name, parameter in method.named_parameters():
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name
            if parameter in own:
                assert not parameter.grad.any(), name
    others = [t for t in method.tasks if t != absent]
    assert all(p.grad is not None for t in others for p in method.heads[t].parameters())


def assert_saved_weights_predict_the_same(
    method: SharingMethod, other: SharingMethod, batch: Batch, folder: Path
) -> None:
    """What a file of weights holds is all that predictions depend on."""
    before = method(batch).predictions
    save_model(method, str(folder / "model.safetensors"))
    load_model(other, str(folder / "model.safetensors"))
    after = other.eval()(batch).predictions
    assert_close(after, before, rtol=0, atol=0)
    for task in method.tasks:
        paths = method.path(task).state_dict(), other.path(task).state_dict()
        assert paths[0].keys() == paths[1].keys()
        assert all(torch.equal(paths[0][name], paths[1][name]) for name in paths[0])


def assert_cost_is_counted(method: SharingMethod, batch: Batch) -> None:
    """The cost model agrees with counting the layers that run."""
    cost = measure(method)
    for task, group, _ in batch:
        path = method.path(task)
        assert cost.tasks[task].params == sum(p.numel() for p in path.parameters())
        assert cost.tasks[task].macs == counted_macs(path, group.images[: group.views])
        assert cost.tasks[task].params <= cost.total.params
        assert cost.tasks[task].macs <= cost.total.macs
        units = [(u.unit, u.owner) for u in cost.tasks[task].units]
        assert units == method.units_of(task)
        head = sum(p.numel() for p in method.heads[task].parameters())
        assert sum(u.params for u in cost.tasks[task].units) <= cost.tasks[task].params - head
    assert cost.total.params == sum(p.numel() for p in method.parameters())
    if len(batch.groups) == 1:
        (group,) = batch.groups
        whole = Group(group.images[:1], group.index[:1], group.stream)
        whole.targets = {task: Target() for task in method.tasks}
        assert cost.total.macs == counted_macs(method, Batch([whole]))


class Layers(TorchFunctionMode):
    """Counts the multiply-accumulates of every convolution and linear layer, for one image."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in (F.conv2d, F.linear):
            weights_per_output = args[1][0].numel()
            self.macs += output.numel() * weights_per_output
        if func is F.conv_transpose2d:
            weights_per_input = args[1][0].numel()
            self.macs += args[0].numel() * weights_per_input
        return output


def counted_macs(network: nn.Module, argument: Any) -> int:
    """Multiply-accumulates of layers, whether modules or functions, of one image."""
    with torch.no_grad(), Layers() as layers:
        network(argument)
    return layers.macs


def assert_drop_rows_changes_no_prediction(
    with_rows_dropped: SharingMethod, without: SharingMethod, batch: Batch
) -> None:
    """Images that no task wants any more may run on or not."""
    dropped, kept = with_rows_dropped(batch).predictions, without(batch).predictions
    for task in dropped:
        assert_close(dropped[task], kept[task], rtol=TOLERANCE, atol=TOLERANCE)


def assert_same_weights(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    """Bit for bit, buffers included."""
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different
