"""Trains runs one after another, as one of two processes or as the only one, in double precision.

`python two_processes.py WORKS RANK SIZE PORT`: WORKS is a pickled list of `Work`.
"""

import contextlib
import pickle
import sys
from pathlib import Path

import torch

from polytask.training.introduction import Introduction
from polytask.training.processes import Place
from polytask.training.progress import Silent
from polytask.training.run import Stopped, follow, prepare_process
from polytask.training.run import _trained as trained
from polytask.training.world import World


def main(works, rank, size, port):
    prepare_process()
    torch.set_default_dtype(torch.float64)  # so that rounding does not grow over 20 steps
    place = Place(int(rank), int(size), int(port))
    world = World.joined(Introduction(place), place.size) if place.size > 1 else World.of()
    for work in pickle.loads(Path(works).read_bytes()):
        with contextlib.suppress(Stopped):
            if world.is_first:
                trained(work, world, Silent(), resume=True, overwrite=False)
            else:
                follow(work, world, Silent())
    world.leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
