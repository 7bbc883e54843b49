"""What a run tells, how often, and what people see of it."""

import io
import os
import signal

import pytest

from polytask.training.display import Bars, Lines, display, duration
from polytask.training.interrupt import stops_on_interrupt
from polytask.training.progress import Finished, Message, Overall, Progress, Scored, Started, Step


class Clock:
    """A clock that a test turns."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


class Costly:
    """A loss that notices being read, as one on a GPU would."""

    reads = 0

    def __float__(self):
        self.reads += 1
        return 0.5


def test_losses_are_read_only_when_they_are_told(clock):
    events = []
    progress = Progress(events.append, interval=1.0)
    progress.run_started("hard/seed0", total_steps=100)
    loss = Costly()
    for step in range(1, 101):
        clock.now += 0.1
        progress.step(step, {"read": loss})
    told = [event.step for event in events if isinstance(event, Step)]
    assert told[0] == 1
    assert told[-1] == 100
    assert loss.reads == len(told) <= 13


def test_time_left_is_that_of_the_steps_made_in_this_sitting(clock):
    events = []
    progress = Progress(events.append, interval=0.0)
    progress.run_started("hard/seed0", total_steps=100, done_steps=60)
    clock.now += 20
    progress.step(70, {})  # 10 steps in 20 s: 30 more take 60 s
    assert events == [Started("hard/seed0", 100, 60), Step("hard/seed0", 70, {}, 60.0)]


def test_lines_are_few_and_complete(clock):
    sink = io.StringIO()
    show = Lines(sink, interval=10)
    show(Started("hard/seed0", 240))
    for step in range(1, 241):
        clock.now += 0.125
        show(Step("hard/seed0", step, {"read": 0.25, "print": 1.5}, 30 - step / 8))
    show(Finished("hard/seed0"))
    show(Message("a word"))
    show(Overall(1, 3, 200.0))
    assert sink.getvalue().splitlines() == [
        "hard/seed0: step 80 of 240, loss read 0.250, print 1.500, 20 s left",
        "hard/seed0: step 160 of 240, loss read 0.250, print 1.500, 10 s left",
        "hard/seed0: step 240 of 240, loss read 0.250, print 1.500, 0 s left",
        "hard/seed0: done after 30 s",
        "a word",
        "1 of 3 runs over, about 3 min left",
    ]


def test_a_pipe_gets_plain_lines():
    sink = io.StringIO()
    with display(sink) as show:
        show(Started("hard/seed0", 10, 5))
    assert sink.getvalue() == "hard/seed0: going on after step 5 of 10\n"


def test_a_terminal_gets_a_bar_for_each_run_and_loses_it_at_the_end(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    with display(terminal) as show:
        assert isinstance(show, Bars)
        show(Overall(0, 2))
        show(Started("hard/seed0", 10))
        show(Step("hard/seed0", 4, {"read": 0.25}, 12.0))
        show(Scored("hard/seed0", 1, {"read": {"accuracy": 0.75}}))
        show(Step("hard/seed0", 5, {"read": 0.25}, 12.0))
        show.bars.refresh()
        drawn = terminal.getvalue()
        show(Finished("hard/seed0", "failed"))
        show(Message("[red] is a name"))
        assert [task.description for task in show.bars.tasks] == ["all runs"]
    for part in ("hard/seed0", "5/10", "12 s", "loss read 0.250 · val read 0.750"):
        assert part in drawn
    assert "[red] is a name" in terminal.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (125, "2 min"), (7500, "2 h 5 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_first_ctrl_c_asks_and_the_second_interrupts():
    progress = Progress(lambda event: None)
    with stops_on_interrupt(progress):
        os.kill(os.getpid(), signal.SIGINT)
        assert progress.is_stopping
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
