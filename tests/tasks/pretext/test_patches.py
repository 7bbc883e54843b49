"""Rotation (RWC) and relative position."""

import numpy as np
import pytest
import torch
from raw_images import raw_of, task_of

from polytask.tasks.pretext.patches import PatchGrid, through_apertures, without_chroma
from polytask.tasks.pretext.rotation import arrangements, turned

BARE = {"flip": False, "chroma_blur": 0.0, "aperture": 1.0}
STILL = np.zeros((1, 2), int)


def mirror_of(kind: int) -> int:
    """The arrangement seen in a mirror: columns exchanged, what is not first in reading order."""
    table = arrangements()
    cells = table[kind].copy()
    cells[:, 1] = 2 - cells[:, 1]
    rest = cells[1:].tolist()
    wanted = [cells[0].tolist(), *(rest if kind < 8 else sorted(rest))]
    return next(i for i, one in enumerate(table.tolist()) if one == wanted)


def test_twenty_arrangements_all_different():
    table = arrangements()
    assert table.shape == (20, 3, 2)
    assert len(np.unique(table.reshape(20, -1), axis=0)) == 20
    assert (table[:8].sum(1) == 3).all()  # lines through the centre
    assert (table[8:] != 1).all()  # corners


def test_patches_of_a_32_pixel_image():
    assert PatchGrid.of(32, 32) == PatchGrid(side=14, step=8, room=2)
    assert PatchGrid.of(96, 120) == PatchGrid(side=42, step=24, room=6)


def test_patches_are_cut_where_they_are_said_to_lie():
    pixels = np.arange(32 * 32).reshape(1, 1, 32, 32)
    grid = PatchGrid.of(32, 32)
    (patch,) = grid.cut(pixels, np.array([[[2, 1]]]), np.array([[1, 2]]))[0]
    assert np.array_equal(patch[0], pixels[0, 0, 17:31, 10:24])


def test_labels_count_all_eighty_classes(photos):
    rotation = task_of("rotation")
    labels = {i for k in range(60) for i in rotation.make(raw_of(photos, key=k)).target.tolist()}
    assert labels <= set(range(80))
    assert len(labels) > 75
    assert len(rotation.classes) == 80


def test_turning_by_k_quarters_adds_20_k(photos):
    """The patches of label a + 20 k are those of label a, each turned k times in its place."""
    rotation = task_of("rotation", **BARE)
    raw = raw_of(photos, training=False)
    made = rotation.make(raw)
    kind, turn = made.target % 20, made.target // 20
    grid = PatchGrid.of(32, 32)
    shift = np.full((12, 2), grid.room // 2)
    flat = grid.cut(photos, arrangements()[kind], shift)
    expected = np.stack(
        [
            np.stack([np.rot90(p, int(k), (1, 2)) for p in t])
            for t, k in zip(flat, turn, strict=True)
        ]
    )
    assert torch.equal(made.images.view(12, 3, 3, 14, 14), torch.from_numpy(expected))
    back = turned(turned(flat, turn.numpy()), (4 - turn.numpy()) % 4)
    assert np.array_equal(back, flat)


@pytest.mark.parametrize("kind", range(20))
def test_a_mirrored_image_shows_the_mirrored_arrangement(kind, photos):
    grid = PatchGrid.of(32, 32)
    room = grid.room
    own = grid.cut(photos[:1, :, :, ::-1], arrangements()[[kind]], STILL)[0]
    there = np.array([[0, room]])
    other = grid.cut(photos[:1], arrangements()[[mirror_of(kind)]], there)[0][..., ::-1]
    assert np.array_equal(own[0], other[0])
    assert sorted(p.tobytes() for p in own) == sorted(p.tobytes() for p in other)
    assert mirror_of(mirror_of(kind)) == kind


def test_chroma_is_blurred_and_brightness_kept(photos):
    luma = np.array([0.299, 0.587, 0.114])
    sharp = photos.copy()
    sharp[:, 0, ::2] = 200
    blurred = without_chroma(sharp, 5)
    middle = (slice(None), slice(None), slice(8, 24), slice(8, 24))
    seen = np.tensordot(luma, blurred, (0, 1)) - np.tensordot(luma, sharp, (0, 1))
    unclipped = ((blurred > 0) & (blurred < 255)).all(1)
    assert np.abs(seen[unclipped]).max() <= 1  # rounding
    red = blurred[middle][:, 0].astype(float) - blurred[middle][:, 1]
    assert np.abs(np.diff(red, axis=1)).mean() < 60  # 200 against the image's own, before
    grey = np.repeat(photos[:, :1], 3, axis=1)
    assert np.array_equal(without_chroma(grey, 5), grey)


def test_apertures_show_the_middle():
    patches = np.zeros((1, 2, 3, 10, 10), np.uint8)
    seen = through_apertures(patches, np.array([[1.0, 0.6]]))
    assert not seen[0, 0].any()
    assert (seen[0, 1, 0] == 0).sum() == 36
    assert (seen[0, 1] == 128).sum() == 3 * 64


def test_relative_position_pairs_the_centre_with_a_neighbour(photos):
    task = task_of("relative_position", chroma_blur=0.0)
    made = task.make(raw_of(photos, training=False))
    patches = made.images.view(12, 2, 3, 14, 14)
    around = [(r, c) for r in range(3) for c in range(3) if (r, c) != (1, 1)]
    for image, (first, second), label in zip(photos, patches, made.target.tolist(), strict=True):
        row, column = around[label]
        assert np.array_equal(first, image[:, 9:23, 9:23])
        top, left = 8 * row + 1, 8 * column + 1
        assert np.array_equal(second, image[:, top : top + 14, left : left + 14])
    assert task.classes[1] == "above"
