"""One of several processes that train the same runs, first each alone, then all together.

`python two_processes.py WORKS RANK SIZE PORT`: WORKS are two pickled lists of `Work`; the runs of
the first are shared out to the processes, those of the second are trained by all. In double
precision, so that rounding does not grow over the steps.
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
    torch.set_default_dtype(torch.float64)
    alone, together = pickle.loads(Path(works).read_bytes())
    place = Place(int(rank), int(size), int(port))
    train(alone[place.rank :: place.size], World.of())
    world = World.joined(Introduction(place), place.size)
    train(together, world)
    world.leave()


def train(works, world):
    for work in works:
        with contextlib.suppress(Stopped):
            if world.is_first:
                trained(work, world, Silent(), resume=True, overwrite=False)
            else:
                follow(work, world, Silent())


if __name__ == "__main__":
    main(*sys.argv[1:])
