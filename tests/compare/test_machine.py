"""How many runs a machine bears, from what its system says."""

import os

import pytest

from polytask.compare import machine


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A machine of 8 cores without a limit, a GPU or a word on memory."""
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def add_gpus(system, *lines):
    program = system / "nvidia-smi"
    program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
    program.chmod(0o755)


def test_a_run_for_each_core_but_no_more_than_there_are(system):
    assert machine.default_jobs(100) == 8
    assert machine.default_jobs(3) == 3


@pytest.mark.parametrize(
    ("quota", "cores"), [("200000 100000", 2), ("max 100000", 8), ("50000 100000", 1)]
)
def test_a_container_has_only_its_share_of_the_cores(system, quota, cores):
    (system / "cpu.max").write_text(quota + "\n")
    assert machine.cores() == cores


def test_every_run_needs_memory(system):
    (system / "meminfo").write_text("MemTotal: 8000000 kB\nMemAvailable:    4000000 kB\n")
    assert machine.free_bytes() == 4_096_000_000
    assert machine.default_jobs(100) == 3  # of 1.2 GB each
    (system / "memory.max").write_text("3000000000\n")
    (system / "memory.stat").write_text("file 2900000000\nanon 600000000\n")
    assert machine.free_bytes() == 2_400_000_000  # the page cache does not count
    assert machine.default_jobs(100) == 2
    (system / "memory.stat").write_text("anon 2999999999\n")
    assert machine.default_jobs(100) == 1


def test_gpus_bear_a_run_for_each_8_gb(system, monkeypatch):
    add_gpus(system, "0, 16384", "1, 24576", "[N/A], [N/A]")
    assert machine.gpus() == {"0": 16384, "1": 24576}
    assert machine.default_jobs(100) == 5
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert machine.gpus() == {"1": 24576}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.gpus() == {}


def test_a_driver_that_does_not_answer_is_no_gpu(system):
    add_gpus(system)
    (system / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    assert machine.gpus() == {}
