"""Results of runs as the trainer writes them, made from a table of accuracies."""

from polytask.compare.outcome import Outcome

COST = {
    "total": {"params": 300, "macs": 9000},
    "tasks": {"read": {"params": 200, "macs": 5000}, "depth": {"params": 100, "macs": 4000}},
}


def finished(method, seed, read, depth, *, val=None, health="learning", seconds=10.0):
    val_read, val_depth = val or (read, depth)
    result = {
        "method": method,
        "seed": seed,
        "tasks": {
            "read": {"accuracy": read, "mean_class_accuracy": read - 0.1},
            "depth": {"abs_error": depth},
        },
        "val": {"read": {"accuracy": val_read}, "depth": {"abs_error": val_depth}},
        "chance": {"read": 0.1, "depth": None},
        "health": {"read": health, "depth": "learning"},
        "primary": {"read": "accuracy", "depth": "abs_error"},
        "higher_is_better": {"read": True, "depth": False},
        "test_counts": {"read": 400, "depth": 50},
        "samples": {"read": 900, "depth": 900},
        "extra_samples": 0,
        "train_seconds": seconds,
        "waited_seconds": 0.0,
    }
    return Outcome(method, seed, result, COST)
