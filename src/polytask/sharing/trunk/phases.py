"""The one phase of a trunk that trains all tasks together: its update rule and its terms."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from polytask.backbones.staged import before_shrinking
from polytask.batch import Batch
from polytask.config.train import name_alone
from polytask.config.update import Joint, TemporalEnsemble, Update
from polytask.errors import UserError
from polytask.loss import Term
from polytask.phase import Phase, Schedule
from polytask.regularize.channel_prior import ChannelPrior, ChannelPriorOptions
from polytask.sharing.method import Outputs
from polytask.sharing.trunk import Trunk, TrunkOptions
from polytask.tasks.task import FeatureShape


class PhaseOptions(TrunkOptions):
    """What trunks with one phase understand besides."""

    update: Update = Field(
        Joint(), description="joint, or temporal_ensemble: a copy of the trunk per task"
    )
    regularize: Annotated[ChannelPriorOptions | None, BeforeValidator(name_alone)] = Field(
        None, description="hold the channels of every task's features to a prior: kl, jsd, …"
    )


class OnePhase(Trunk):
    """A trunk whose plan is one phase of all tasks."""

    Options = PhaseOptions
    options: PhaseOptions

    def plan(self, schedule: Schedule) -> list[Phase]:
        update = self.options.update
        is_of_pools = isinstance(update, TemporalEnsemble) and update.layers == "pools"
        if is_of_pools and not before_shrinking(self.backbone):
            problem = "got pools; this backbone has no convolution before its map shrinks."
            raise UserError.at("update.layers", problem, "Set layers: all.")
        phase = Phase(
            epochs=schedule.epochs,
            update={update.name: update.model_dump()}
            if isinstance(update, TemporalEnsemble)
            else update.name,
        )
        if self.options.regularize is None:
            return [phase]
        prior = ChannelPrior(self.options.regularize, self._read(), self.setting.seed)

        def terms(batch: Batch, outputs: Outputs) -> list[Term]:
            return prior.terms(batch, outputs.features)

        return [replace(phase, modules={"prior": prior}, terms=[terms], trainable=("",))]

    def _read(self) -> list[FeatureShape]:
        """The last map of the trunk that each task reads."""
        return [FeatureShape(*self.shapes[task][self.taps(task)[-1]]) for task in self.tasks]

    def after_step(self, run: Any) -> None:
        for prior in _priors(run):
            prior.after_step(run.world)

    def on_epoch_end(self, run: Any) -> None:
        for prior in _priors(run):
            prior.on_epoch_end()


def _priors(run: Any) -> list[ChannelPrior]:
    return [module for module in run.modules.values() if isinstance(module, ChannelPrior)]
