"""Contact sheets show the pixels the network gets, a share of every part of a batch."""

import numpy as np
import torch

from polytask.batch import Group, Target
from polytask.data.prepare import CENTRED
from polytask.data.sheet import CELL, as_pixels, contact_sheet
from polytask.tasks.classification import Classification, ClassificationOptions


def group(count):
    pixels = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 1, 4, 4)
    task = Classification("n", ClassificationOptions(kind="classification", classes=2))
    target = Target(torch.zeros(count, dtype=torch.long))
    return Group(CENTRED(pixels), torch.arange(count), "all", {"n": target}), {"n": task}


def test_normalised_pixels_come_back_exactly():
    made, _ = group(200)
    shown = as_pixels(made.images, CENTRED)
    assert [int(image[0, 0, 0]) for image in shown] == list(range(200))


def test_a_large_batch_is_shown_from_its_first_to_its_last_image():
    made, tasks = group(101)
    sheet = np.asarray(contact_sheet(made, tasks, CENTRED, most=8))
    greys = [int(sheet[6 + CELL // 2, 6 + k * (CELL + 6) + CELL // 2, 0]) for k in range(8)]
    assert greys == [round(100 * k / 7) for k in range(8)]


def test_a_small_batch_is_shown_whole():
    made, tasks = group(3)
    sheet = np.asarray(contact_sheet(made, tasks, CENTRED))
    greys = [int(sheet[6 + CELL // 2, 6 + k * (CELL + 6) + CELL // 2, 0]) for k in range(4)]
    assert greys == [0, 1, 2, 255]
