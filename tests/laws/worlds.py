"""What the laws are tested on: methods × small backbones × batch shapes, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer

from polytask import backbones, registry, tasks
from polytask.backbones.staged import StagedBackbone
from polytask.backbones.tokens import TokenBackbone
from polytask.batch import Batch, Group, Input, Target
from polytask.sharing import grouped
from polytask.sharing.method import Setting, SharingMethod
from polytask.tasks.task import Task


def small_vit(channels: int = 3) -> StagedBackbone:
    """Eight transformer blocks: states that are no maps."""
    model = VisionTransformer(
        img_size=16,
        patch_size=4,
        in_chans=channels,
        embed_dim=16,
        depth=8,
        num_heads=2,
        num_classes=0,
        dynamic_img_size=True,
    )
    return TokenBackbone(model, is_fixed=False)


BACKBONES: dict[str, Callable[..., StagedBackbone]] = {
    "resnet18": partial(backbones.build, "resnet18", width=0.0625, stem="small"),
    "vgg16": partial(backbones.build, "vgg16", width=0.0625),
    "mobilenet_v2": partial(backbones.build, "mobilenet_v2", width=0.125, stem="small"),
    "convnext": partial(backbones.build, "convnext_atto", width=0.1, stem="small"),
    "small_vit": small_vit,
}
CONVOLUTIONAL = ("resnet18", "vgg16")
FREE_OF_NORM = ("vgg16", "small_vit")
SHAPES = ("single_input", "integrated", "multi_input")
# A method not listed is tested with its defaults alone.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "adapters": [{}, {"rank": 0, "filter": True}],
    "hard": [{}, {"filter": True}, {"groups": [["animal", "colour"]], "filter": True}],
    "multi_exit": [
        {},
        {"filter": {"init": "ones"}, "heads": "big"},
        {"exits": {"animal": 1, "marks": 2, "colour": 1}},
    ],
    "multi_path": [{"branches": [0.2, 0.6, 0.6]}],
    "mtan": [{"extractor": "block", "reduction": 4}],
    "mmoe": [{"experts": 2}],
    "nested_net": [{"ratios": [0.3, 1.0, 0.3]}, {"scheme": "weight", "bn": "common"}],
    "nddr": [{"shortcut": True}],
    "cross_stitch": [{}, {"groups": [["animal", "marks"], ["colour"]]}],
}
# (method, shape or backbone, None for all) to a part of the reason that the method must give.
REFUSALS: dict[tuple[str, str | None], str] = {
    ("mtda", None): "marks is multilabel",
    ("aux_encoders", None): "no task answers for every pixel",
    ("nested_net", "small_vit"): "cannot run the backbone's",
    ("nested_net", "convnext"): "cannot run the backbone's",
    ("adashare", "vgg16"): "no unit of this backbone has a shortcut",
    ("adashare", "small_vit"): "no unit of this backbone has a shortcut",
    ("adashare", "convnext"): "no unit of this backbone has a shortcut",
    ("layer_lasso", "mobilenet_v2"): "stage5 has only features.18",
}


@dataclass(frozen=True)
class World:
    """One combination; `method()` builds it anew, from the same seed unless told otherwise."""

    name: str
    backbone: str
    shape: str
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    init: str = "common"

    def __str__(self) -> str:
        given = ",".join(f"{k}={v}" for k, v in self.options.items())
        return f"{self.name}({given})-{self.backbone}-{self.shape}"

    @property
    def kind(self) -> type[SharingMethod]:
        kind: type[SharingMethod] = registry.load("sharing", self.name, SharingMethod)
        return kind

    @property
    def is_refused(self) -> bool:
        return any((self.name, key) in REFUSALS for key in (self.shape, self.backbone, None))

    def with_options(self, **options: Any) -> World:
        return replace(self, options={**self.options, **options})

    def setting(self) -> Setting:
        streams, stream_of = STREAMS[self.shape]
        return Setting(
            tasks=three_tasks(),
            streams=streams,
            stream_of=stream_of,
            backbone=BACKBONES[self.backbone],
            seed=self.seed,
            init=self.init,
            norm="per_data" if self.shape == "multi_input" else "mixed",
        )

    def checked_options(self, setting: Setting) -> Any:
        """The options as the method's own model; exits given by stage number get their names."""
        given = dict(self.options)
        if isinstance(given.get("exits"), dict):
            stages = list(setting.backbone(channels=3).stages)
            given["exits"] = {t: stages[number] for t, number in given["exits"].items()}
        return self.kind.Options(**given)

    def method(self) -> SharingMethod:
        setting = self.setting()
        options = self.checked_options(setting)
        method = grouped.build(self.kind, setting, options)
        assert isinstance(method, SharingMethod), method
        return method

    def stirred(self) -> SharingMethod:
        """The method as training might leave it: other weights, own statistics in every norm."""
        method = self.method()
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for parameter in method.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(noise, alpha=0.02)
            method.train()
            for seed in (1, 2):
                method(self.batch(seed))
        return method.eval()

    def batch(self, seed: int = 0) -> Batch:
        return MAKERS[self.shape](torch.Generator().manual_seed(seed))


def three_tasks() -> dict[str, Task]:
    """Two classifications and two attributes, none of which has data."""
    options = {
        "animal": {"kind": "classification", "classes": 3},
        "marks": {"kind": "multilabel", "label": ["spots", "stripes"]},
        "colour": {"kind": "classification", "classes": 5},
    }
    kinds = {name: registry.load("tasks", str(o["kind"]), Task) for name, o in options.items()}
    return tasks.build({name: kinds[name].Options(**o) for name, o in options.items()})


TASKS = ("animal", "marks", "colour")
ONE_STREAM = ({"photos": Input(3, 16, 16)}, dict.fromkeys(TASKS, "photos"))
THREE_STREAMS = (
    {"farm": Input(3, 16, 16), "zoo": Input(3, 16, 24), "shop": Input(3, 20, 20)},
    {"animal": "farm", "marks": "zoo", "colour": "shop"},
)
STREAMS = {"single_input": ONE_STREAM, "integrated": ONE_STREAM, "multi_input": THREE_STREAMS}


def _value(task: str, count: int, generator: torch.Generator) -> torch.Tensor:
    if task == "marks":
        return torch.randint(0, 2, (count, 2), generator=generator)
    return torch.randint(0, 3 if task == "animal" else 5, (count,), generator=generator)


def _group(
    stream: str, size: Input, count: int, rows: Mapping[str, list[int] | None], generator: Any
) -> Group:
    images = torch.randn(count, size.channels, size.height, size.width, generator=generator)
    targets = {
        task: Target(
            _value(task, count if chosen is None else len(chosen), generator),
            None if chosen is None else torch.tensor(chosen, dtype=torch.long),
        )
        for task, chosen in rows.items()
    }
    return Group(images, torch.arange(count), stream, targets)


def _single_input(generator: torch.Generator) -> Batch:
    """Every image carries every label."""
    size = ONE_STREAM[0]["photos"]
    return Batch([_group("photos", size, 4, dict.fromkeys(TASKS), generator)])


def _integrated(generator: torch.Generator) -> Batch:
    """Partial labels: images 1 and 4 carry two labels or more, image 6 none at all."""
    rows = {"animal": [0, 1, 4], "marks": [2, 4], "colour": [1, 3, 4, 5]}
    return Batch([_group("photos", ONE_STREAM[0]["photos"], 7, rows, generator)])


def _multi_input(generator: torch.Generator) -> Batch:
    """Every task has images of its own, of its own size."""
    streams, stream_of = THREE_STREAMS
    counts = {"animal": 3, "marks": 2, "colour": 4}
    return Batch(
        [
            _group(stream, streams[stream], counts[task], {task: None}, generator)
            for task, stream in stream_of.items()
        ]
    )


MAKERS = {"single_input": _single_input, "integrated": _integrated, "multi_input": _multi_input}


def every_combination() -> Iterator[World]:
    """Every method in every batch shape, on units with shortcuts and on units without.

    What more options and other kinds of units do is the same in every shape: more variants run on
    one convolutional backbone, transformer blocks and (for trunk methods, with their first variant)
    MobileNetV2's and ConvNeXt's run in one shape.
    """
    for name in registry.names("sharing"):
        variants = VARIANTS.get(name, [{}])
        for options in variants:
            for backbone in CONVOLUTIONAL if options == variants[0] else CONVOLUTIONAL[:1]:
                for shape in SHAPES:
                    yield World(name, backbone, shape, options)
            yield World(name, "small_vit", "integrated", options)
        for backbone in ("mobilenet_v2", "convnext"):
            world = World(name, backbone, "integrated", variants[0])
            if world.kind.family == "trunk":
                yield world
