"""What TensorBoard, Weights & Biases and MLflow hold of a run, read back with their own readers."""

import json
import socket
import struct

import pytest

from polytask.errors import MissingExtra
from polytask.training import loggers
from polytask.training.record import Record
from polytask.training.run import Stopped

NAMES = ("tensorboard", "wandb", "mlflow")


def rows_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def wanted(folder):
    """(series, step) to value, from the rows of one phase."""
    return {
        (f"{row['split']}/{key.replace('/', '_')}", row["step"]): float(value)
        for row in rows_of(folder)
        for key, value in row.items()
        if key not in ("phase", "split", "step")
    }


def unique(entries):
    found = dict(entries)
    assert len(found) == len(entries), "a step is there twice"
    return found


def tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder / "tensorboard")).Reload()
    names = read.Tags()["scalars"]
    return unique([((n, e.step), e.value) for n in names for e in read.Scalars(n)])


def wandb(folder):
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    entries = []
    for record in wandb_records(path.read_bytes()):
        items = {i.key or i.nested_key[0]: json.loads(i.value_json) for i in record.history.item}
        entries += [((k, items["_step"]), v) for k, v in items.items() if not k.startswith("_")]
    return unique(entries)


def wandb_records(content):
    """The records of a LevelDB log after a head of 7 bytes: blocks of 32 KiB, in each chunks of
    (checksum, length, kind), kind 1 a whole record and 4 the last part of one."""
    from wandb.proto.wandb_internal_pb2 import Record

    at, whole = 7, b""
    while at + 7 <= len(content):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield Record.FromString(whole)
            whole = b""


def mlflow(folder):
    import mlflow

    client = mlflow.MlflowClient((folder / "mlruns").as_uri())
    (experiment,) = (e for e in client.search_experiments() if e.name == "config")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["method"] == "hard"
    assert run.data.params["train.batch"] == "32"
    names = run.data.metrics
    histories = [m for n in names for m in client.get_metric_history(run.info.run_id, n)]
    return unique([((m.key, m.step), m.value) for m in histories])


@pytest.fixture
def offline(monkeypatch):
    """Refuses every connection but those inside the machine."""
    connect = socket.socket.connect

    def local(self, address):
        if self.family != socket.AF_UNIX:
            raise AssertionError(f"a logger connects to {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local)


def epochs(first, last):
    """Rows as a run writes them: six steps an epoch, two splits."""
    for epoch in range(first, last + 1):
        for split in ("train", "val"):
            scores = {} if split == "train" else {"read/accuracy": 1 - 1 / epoch}
            place = {"phase": "joint", "epoch": epoch, "step": 6 * epoch, "split": split}
            yield {**place, "loss": 1 / epoch, "loss/read": 1 / epoch, **scores, "seconds": 0.5}


def agree(read, folder):
    found, rows = read(folder), wanted(folder)
    assert set(found) == set(rows), read.__name__
    for key, value in rows.items():
        assert found[key] == pytest.approx(value, rel=1e-6), (read.__name__, key)


@pytest.mark.filterwarnings("default::DeprecationWarning")
@pytest.mark.filterwarnings("default::FutureWarning")
def test_every_tool_holds_every_row_once_over_a_kill_and_a_stop(config, tmp_path, offline):
    made = config([{"hard": {}}], loggers=list(NAMES))
    run = (made, "hard", 0, pytest.fail)

    # Killed: nothing is ended, and the saved state knows of one epoch out of two.
    record = Record(tmp_path)
    killed = record.logged(config([{"hard": {}}], loggers=["tensorboard", "mlflow"]), *run[1:])
    killed.__enter__()
    for row in epochs(1, 2):
        record.add(row)

    # Stopped: the same rows again, others that no tool has seen, and a tool that is new.
    record = Record(tmp_path)
    record.keep(2)
    stopped = record.logged(*run)
    stopped.__enter__()
    for row in epochs(2, 3):
        record.add(row)
    assert not stopped.__exit__(Stopped, Stopped(), None)

    # A crash between metrics.jsonl and the tools: they get on resume what they missed.
    with (tmp_path / "metrics.jsonl").open("a") as sink:
        sink.writelines(json.dumps(row) + "\n" for row in epochs(4, 4))
    before = names(tmp_path)
    record = Record(tmp_path)
    record.keep(8)
    with record.logged(*run):
        for row in epochs(5, 5):
            record.add(row)
    assert names(tmp_path) == before

    assert [row["epoch"] for row in rows_of(tmp_path)] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    for read in (tensorboard, wandb, mlflow):
        agree(read, tmp_path)
    killed.gen.close()


def names(folder):
    """By which the tools know the run."""
    ids = {path.name.rpartition("-")[2] for path in folder.glob("wandb/offline-run-*")}
    return ids, (folder / "mlflow_run").read_text()


def test_a_run_that_is_stopped_and_goes_on_is_logged_to_its_end(config, run_in):
    made = config([{"hard": {}}], epochs=1, loggers=["tensorboard"])
    with pytest.raises(Stopped):
        run_in(made, "hard", stop_after=4)
    _, folder = run_in(made, "hard", resume=True)
    assert [row["split"] for row in rows_of(folder)] == ["train", "val", "test"]
    agree(tensorboard, folder)


def test_steps_are_counted_over_all_phases():
    axis = loggers.Axis()
    steps = [("teach", 4), ("teach", 8), ("learn", 3), ("learn", 6), ("learn", 3), ("learn", 6)]
    found = [axis.step({"phase": phase, "step": step}) for phase, step in steps]
    assert found == [4, 8, 11, 14, 17, 20]


def test_a_missing_extra_is_refused_before_anything_is_written(config, run_in, monkeypatch):
    find = loggers.find_spec
    monkeypatch.setattr(loggers, "find_spec", lambda name: None if name == "wandb" else find(name))
    made = config([{"hard": {}}], loggers=["tensorboard", "wandb"])
    with pytest.raises(MissingExtra, match=r'train\.loggers.*pip install "polytask\[wandb\]"'):
        run_in(made, "hard")
    assert not run_in.folder("hard").exists()


@pytest.mark.filterwarnings("default::DeprecationWarning")
@pytest.mark.filterwarnings("default::FutureWarning")
def test_a_logger_that_fails_is_told_and_the_run_goes_on(config, tmp_path):
    (tmp_path / "file").write_text("in the way")
    store = {"name": "mlflow", "uri": (tmp_path / "file").as_uri()}
    said = []
    record = Record(tmp_path)
    with record.logged(config(["hard"], loggers=[store]), "hard", 0, said.append):
        for row in epochs(1, 1):
            record.add(row)
    assert len(rows_of(tmp_path)) == 2
    (line,) = said
    assert line.startswith("train.loggers: mlflow failed (")
    assert "the run goes on without it" in line


def test_loggers_are_no_part_of_a_run(config):
    from polytask.training.fingerprint import run_hash

    plain = config(["hard"])
    logged = config(["hard"], loggers=[{"name": "wandb", "project": "digits"}])
    assert plain.difference(logged) == []
    hashes = {run_hash(c, c.method("hard"), 0, {}) for c in (plain, logged)}
    assert len(hashes) == 1
