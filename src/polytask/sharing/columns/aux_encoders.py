"""Auxiliary encoders: networks trained first and frozen feed the decoder of a dense task.

Source: the OEQ variant of the pets system, "Multitask Learning in Image Recognition, Segmentation,
and Classification" (report, "FunnelNet"). Differs from the report: batch norms of frozen encoders
keep their statistics; the stitched levels go on for any number of auxiliary tasks.

Every column has an encoder. In a first phase (`encoders`, beyond the common budget) those of the
auxiliary tasks learn their own tasks; in the second (`fusion`) they are frozen and the dense task
learns its encoder, and a decoder of as many streams as there are columns. After its first level a
stitch mixes all streams; after the second they are merged into one fewer, stream j of the streams
0 and j + 1; and so on until one is left, which the head reads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field

from polytask.errors import UserError, unknown
from polytask.phase import Phase, Schedule
from polytask.sharing.columns import Columns
from polytask.sharing.columns.cross_stitch import Stitch
from polytask.sharing.columns.link import Join
from polytask.sharing.method import MethodOptions, Setting


class AuxEncodersOptions(MethodOptions):
    """Whose decoder is fed, and how long the other encoders train before."""

    main: str | None = Field(None, description="the task whose decoder is fed; the one dense task")
    pretrain_epochs: int | None = Field(
        None, ge=1, description="epochs of the auxiliary encoders; as many as the main phase"
    )
    own: float = Field(
        0.5, ge=0, le=1, description="initial weight of a stream's own map; others share the rest"
    )


class AuxEncoders(Columns):
    """A column per task; those of the auxiliary tasks go on into the main task's decoder."""

    Options = AuxEncodersOptions
    options: AuxEncodersOptions

    @classmethod
    def refuses(cls, setting: Setting, options: MethodOptions) -> str | None:
        assert isinstance(options, AuxEncodersOptions)
        dense = [name for name, task in setting.tasks.items() if task.is_dense]
        if options.main is not None and options.main not in dense:
            if options.main not in setting.tasks:
                raise UserError(unknown("main", "task", options.main, list(setting.tasks)))
            return f"main names {options.main}, which answers per image and has no decoder to feed"
        if not dense:
            return "no task answers for every pixel, so that there is no decoder to feed"
        main = options.main or dense[0]
        others = [name for name in setting.tasks if name != main]
        if others_dense := [name for name in others if setting.tasks[name].is_dense]:
            return (
                f"{others_dense[0]} answers for every pixel as {main} does; auxiliary encoders "
                "come from tasks that answer per image"
            )
        if not others:
            return f"{main} is alone; expected an auxiliary task or more"
        if len({setting.input_of(name) for name in setting.tasks}) > 1:
            return "its columns read the images of every task, which must have one size"
        backbone = setting.backbone(channels=setting.input_of(main).channels)
        levels = backbone.names[backbone.position(backbone.encoder) + 1 :]
        if len(levels) < 2 * len(others):
            problem = f"a decoder of {len(levels)} levels" if levels else "no decoder"
            return (
                f"the backbone has {problem}; feeding that of {main} from {len(others)} auxiliary "
                f"tasks takes {2 * len(others)} levels (residual_segnet has 6)"
            )
        return None

    @property
    def main(self) -> str:
        """The task whose decoder is fed."""
        dense = (name for name, task in self.tasks.items() if task.is_dense)
        return self.options.main or next(dense)

    @property
    def auxiliary(self) -> list[str]:
        """The tasks whose encoders are trained first."""
        return [name for name in self.tasks if name != self.main]

    @property
    def levels(self) -> list[str]:
        """The units of the decoder."""
        return self.names[self.frame.position(self.frame.encoder) + 1 :]

    def make_links(self) -> list[Join]:
        streams = [self.main, *self.auxiliary]
        joins = []
        for level, place in enumerate(self.levels):
            if len(streams) == 1:
                break
            if level % 2 == 0:
                own = range(len(streams))
                joins.append(self._join(place, "stitch", streams, streams, own))
            else:
                for j in range(len(streams) - 1):
                    pair = [streams[0], streams[j + 1]]
                    joins.append(self._join(place, f"merge{j}", pair, [streams[j]], [0]))
                streams.pop()
        return joins

    def _join(
        self, place: str, kind: str, reads: list[str], writes: list[str], own: Sequence[int]
    ) -> Join:
        """A stitch whose row i starts with `own` at column own[i]; the others share the rest."""
        name = f"{place}_{kind}"
        alpha = torch.full((len(writes), len(reads)), (1 - self.options.own) / (len(reads) - 1))
        for row, column in enumerate(own):
            alpha[row, column] = self.options.own
        self.links[name] = Stitch(alpha)
        return Join(place, name, tuple(reads), tuple(writes))

    def how(self) -> dict[str, Any]:
        return {"feed": "same"}

    def explained(self) -> dict[str, Any]:
        alpha = {name: link.alpha.tolist() for name, link in self.links.items()}  # type: ignore[operator]
        return {"links": {"columns": [self.main, *self.auxiliary], "alpha": alpha}}

    def plan(self, schedule: Schedule) -> list[Phase]:
        main, others = re.escape(self.main), "|".join(map(re.escape, self.auxiliary))
        decoder = "|".join(name.replace(".", "_") for name in self.levels)
        encoders = rf"^columns\.({others})\.units\.(?!({decoder})\.)"
        fed = (
            rf"^(columns|heads|tails)\.{main}\.",
            rf"^columns\.({others})\.units\.({decoder})\.",
            r"^links\.",
        )
        return [
            Phase(
                name="encoders",
                epochs=self.options.pretrain_epochs or schedule.epochs,
                tasks=tuple(self.auxiliary),
                joint_pace=True,
                trainable=(encoders, rf"^(heads|tails)\.({others})\."),
                extra=True,
            ),
            Phase(
                name="fusion",
                epochs=schedule.epochs,
                tasks=(self.main,),
                joint_pace=True,
                trainable=fed,
            ),
        ]
