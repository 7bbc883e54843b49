"""CIFAR: 60,000 photographs of 32 × 32 pixels, of 10 or of 100 classes.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; three kingdoms
over the 20 coarse classes as in Park, Lee, Kim, IEEE Access 2022.
"""

from __future__ import annotations

from pathlib import Path

from polytask.data.images import ImageSet
from polytask.data.torchvision_set import TorchvisionSet, stacked

NAMES = {
    "cifar10": "CIFAR-10: 60,000 photographs of 32 × 32 pixels, 10 classes.",
    "cifar100": "CIFAR-100: 60,000 photographs of 32 × 32 pixels; 100 classes in 20 in 3.",
}
FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
# Coarse classes in the order of their numbers, each with its kingdom and its five classes.
COARSE = {
    "aquatic_mammals": ("animals", "beaver dolphin otter seal whale"),
    "fish": ("animals", "aquarium_fish flatfish ray shark trout"),
    "flowers": ("plants", "orchid poppy rose sunflower tulip"),
    "food_containers": ("things", "bottle bowl can cup plate"),
    "fruit_and_vegetables": ("plants", "apple mushroom orange pear sweet_pepper"),
    "household_electrical_devices": ("things", "clock keyboard lamp telephone television"),
    "household_furniture": ("things", "bed chair couch table wardrobe"),
    "insects": ("animals", "bee beetle butterfly caterpillar cockroach"),
    "large_carnivores": ("animals", "bear leopard lion tiger wolf"),
    "large_man-made_outdoor_things": ("things", "bridge castle house road skyscraper"),
    "large_natural_outdoor_scenes": ("things", "cloud forest mountain plain sea"),
    "large_omnivores_and_herbivores": ("animals", "camel cattle chimpanzee elephant kangaroo"),
    "medium_mammals": ("animals", "fox porcupine possum raccoon skunk"),
    "non-insect_invertebrates": ("animals", "crab lobster snail spider worm"),
    "people": ("animals", "baby boy girl man woman"),
    "reptiles": ("animals", "crocodile dinosaur lizard snake turtle"),
    "small_mammals": ("animals", "hamster mouse rabbit shrew squirrel"),
    "trees": ("plants", "maple_tree oak_tree palm_tree pine_tree willow_tree"),
    "vehicles_1": ("things", "bicycle bus motorcycle pickup_truck train"),
    "vehicles_2": ("things", "lawn_mower rocket streetcar tank tractor"),
}
KINGDOMS = ["animals", "things", "plants"]
ABOVE = {fine: (c, k) for c, (k, names) in COARSE.items() for fine in names.split()}


class Cifar(TorchvisionSet):
    """Column `class`; of CIFAR-100 also `coarse` and `kingdom`. Splits train and test.

    The published files are pickles: torchvision opens none whose checksum is another.
    """

    def read(self, name: str, folder: Path) -> ImageSet:
        from torchvision import datasets

        root = self.root(name, folder)
        kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[self.source]
        layout = f"{FOLDERS[self.source]}/ with the published files"

        def read(train: bool):  # type: ignore[no-untyped-def]  # torchvision has no types
            return self.opened(root, layout, lambda: kind(root, train, download=self.download))

        train, test = read(True), read(False)
        parts = {"train": (train.data, train.targets), "test": (test.data, test.targets)}
        images = stacked(name, root, parts, train.classes)
        if self.source == "cifar100":
            above = [ABOVE[fine] for fine in images.columns["class"]]
            images.columns["coarse"] = [coarse for coarse, _ in above]
            images.columns["kingdom"] = [kingdom for _, kingdom in above]
            images.classes = {**images.classes, "coarse": list(COARSE), "kingdom": KINGDOMS}
        return images
