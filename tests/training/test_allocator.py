"""What a step frees is there for the next one."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from polytask.training.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def step():
    return [bytearray(16 << 20) for _ in range(4)]
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_no_page_of_a_step_is_new_to_the_process():
    """64 MiB are 16,384 pages of 4 KiB, all of which glibc returns if left alone."""
    assert page_faults("kept") < page_faults("plain") / 10
