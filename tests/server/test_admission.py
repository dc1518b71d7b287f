"""The admission queue and the ladder in simulated time."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from bowerbird.declare.degradation import CheaperModel, FewerCandidates, Popularity
from bowerbird.errors import DeadlineError, OverloadedError
from bowerbird.server.load.admission import AdmissionQueue, Work
from bowerbird.server.load.service_time import ServiceTime
from bowerbird.serving.degradation import Degradation, Level, levels_of


@dataclass
class Simulated:
    """One thread behind the queue, open-loop arrivals, service times that scatter around ``seconds``."""

    seconds: float
    deadline: float
    time: float = 0.0
    answered: list[float] = field(default_factory=list)
    refused: list[OverloadedError] = field(default_factory=list)
    late: int = 0

    def run(self, rate: float, duration: float, stall: tuple[float, float] = (-1.0, 0.0)) -> None:
        chance = random.Random(1)
        service = ServiceTime()
        queue = AdmissionQueue(1, 10_000, lambda: self.time)
        arrivals = deque(_poisson(chance, rate, duration))
        ends, job, stalled = float("inf"), None, False
        while arrivals or job is not None:
            if arrivals and arrivals[0] <= ends:
                self.time = arrivals.popleft()
                self._arrive(queue, service)
            else:
                assert job is not None
                self.time = ends
                queue.done(job)
                self._answer(job.work)
                job, ends = None, float("inf")
            if job is None and queue.report().waiting:
                job = queue.take_now()
                if job is not None:
                    job_seconds = self.seconds * chance.uniform(0.5, 1.5)
                    if not stalled and self.time > stall[0] >= 0:
                        job_seconds, stalled = stall[1], True
                    ends = self.time + job_seconds

    def _arrive(self, queue: AdmissionQueue, service: ServiceTime) -> None:
        work = Work(service, 1.0, self.time, self.time + self.deadline)
        try:
            queue.put(work, lambda waited: None, self._finish)
        except OverloadedError as error:
            self.refused.append(error)

    def _finish(self, result: object, error: BaseException | None) -> None:
        assert isinstance(error, DeadlineError)
        self.late += 1

    def _answer(self, work: Work) -> None:
        if self.time <= work.deadline:
            self.answered.append(self.time - work.arrived)
        else:
            self.late += 1


def _poisson(chance: random.Random, rate: float, duration: float) -> Iterator[float]:
    at = 0.0
    while (at := at + chance.expovariate(rate)) < duration:
        yield at


@pytest.mark.parametrize("load", [0.5, 1.0, 2.0, 5.0, 20.0])
def test_goodput_stays_at_capacity_however_much_is_asked(load: float) -> None:
    simulated = Simulated(seconds=0.005, deadline=0.1)
    simulated.run(rate=200 * load, duration=8)
    goodput = len(simulated.answered) / 8
    assert goodput > 0.93 * min(load, 1.0) * 200
    assert simulated.late <= 0.02 * len(simulated.answered)
    if load > 1:
        assert sorted(simulated.answered)[len(simulated.answered) // 2] < 0.06
        assert all(0 < error.retry_after < 0.2 for error in simulated.refused)


def test_a_stall_costs_what_could_not_be_answered_and_no_more() -> None:
    simulated = Simulated(seconds=0.005, deadline=0.1)
    simulated.run(rate=160, duration=20, stall=(10.0, 1.0))
    assert len(simulated.answered) > 0.9 * 160 * 19


def test_a_free_thread_corrects_a_wrong_expectation() -> None:
    service = ServiceTime()
    for _ in range(100):
        service.observe(1.0, 30.0)
    now = 0.0
    queue = AdmissionQueue(1, 10, lambda: now)
    job = queue.put(Work(service, 1.0, 0.0, 0.1), lambda waited: None, lambda result, error: None)
    assert queue.take_now() is job
    with pytest.raises(OverloadedError):
        queue.check(Work(service, 1.0, 0.0, 0.1))


def test_a_passed_deadline_and_a_full_queue_are_refused() -> None:
    queue = AdmissionQueue(1, 2, lambda: 1.0)
    with pytest.raises(DeadlineError):
        queue.check(Work(ServiceTime(), 1.0, 0.0, 0.5))
    for _ in range(2):
        queue.put(Work(ServiceTime(), 1.0, 1.0, 9.0), lambda waited: None, lambda result, error: None)
    with pytest.raises(OverloadedError):
        queue.check(Work(ServiceTime(), 1.0, 1.0, 9.0))


def test_a_cancelled_job_is_not_taken() -> None:
    heard: list[BaseException | None] = []
    queue = AdmissionQueue(1, 9, lambda: 0.0)
    jobs = [
        queue.put(Work(ServiceTime(), 1.0, 0.0, 9.0), lambda waited: None, lambda result, error: heard.append(error))
        for _ in range(2)
    ]
    gone = ConnectionError()
    queue.cancel(jobs[0], gone)
    queue.cancel(jobs[0], gone)
    assert heard == [gone]
    assert queue.take_now() is jobs[1]
    assert queue.report().cancelled == 1


def test_service_time_is_a_line_over_the_size() -> None:
    service = ServiceTime()
    assert service.expect(100) == 0.0
    chance = random.Random(0)
    for _ in range(300):
        size = chance.uniform(100, 10_000)
        service.observe(size, (0.001 + size * 1e-6) * chance.uniform(0.9, 1.1))
    assert service.expect(5_000) == pytest.approx(0.006, rel=0.1)
    assert service.expect(500) == pytest.approx(0.0015, rel=0.3)
    service.observe(5_000, 10.0)
    assert service.expect(5_000) < 0.0075


def test_levels_add_up() -> None:
    assert levels_of([FewerCandidates(50), CheaperModel("lr"), Popularity()]) == [
        Level(),
        Level("fewer_candidates", 50),
        Level("cheaper_model", 50, "lr"),
        Level("popularity", 50, "lr", True),
    ]


class Loaded:
    """One scene under a load, its queue as a fluid: what comes above capacity waits."""

    def __init__(self, seconds: Callable[[int], float]) -> None:
        self.time = 0.0
        self.seconds = seconds
        self.degradation = Degradation(1, lambda: self.time)
        self.degradation.add_scene("home", 4, seconds)
        self.backlog = 0.0
        self.levels: list[int] = []

    def run(self, rate: float, duration: float) -> None:
        end = self.time + duration
        while self.time < end:
            self.time += 1 / rate
            self.backlog = max(0.0, self.backlog - 1 / rate)
            level = self.degradation.choose("home", self.backlog / 0.2)
            self.backlog = min(0.05, self.backlog + self.seconds(level))
            self.levels.append(level)

    @property
    def changes(self) -> int:
        return sum(a != b for a, b in zip(self.levels, self.levels[1:], strict=False))


def test_a_steady_overload_finds_its_level_and_stays() -> None:
    loaded = Loaded(lambda level: (0.01, 0.005, 0.002, 0.0005)[level])
    loaded.run(rate=50, duration=5)
    assert set(loaded.levels) == {0}
    loaded.run(rate=300, duration=15)
    assert loaded.levels[-1] == 2
    assert loaded.changes == 2
    loaded.run(rate=50, duration=4)
    assert loaded.levels[-1] == 0
    assert loaded.changes == 3


def test_the_ladder_returns_after_silence() -> None:
    loaded = Loaded(lambda level: (0.01, 0.005, 0.002, 0.0005)[level])
    loaded.run(rate=3_000, duration=5)
    assert loaded.levels[-1] == 3
    loaded.time += 5
    assert loaded.degradation.choose("home", 0.0) == 0


def test_arrivals_are_told_where_any_scene_has_a_ladder() -> None:
    degradation = Degradation(1)
    assert not degradation.can_change
    for name, levels, changes in (("home", 1, False), ("feed", 3, True), ("more", 1, True)):
        degradation.add_scene(name, levels, lambda level: 0.001)
        assert degradation.can_change == changes
