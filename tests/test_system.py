"""System counters: the training's tree without the sidecar, as levels and rates."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profkit.system import NOTHING, Host, Reading, Sampler, Usage, levels, rates, usage_of

HOST = Host(busy_s=10, total_s=40, available_bytes=5_000, received_bytes=0, sent_bytes=0)

LEVELS = {"resident_memory_bytes", "processes", "host_available_memory_bytes"}
RATES = {
    "cpu_percent",
    "main_process_cpu_percent",
    "minor_page_faults_per_s",
    "major_page_faults_per_s",
    "disk_read_bytes_per_s",
    "disk_written_bytes_per_s",
    "host_network_received_bytes_per_s",
    "host_network_sent_bytes_per_s",
    "host_cpu_percent",
}


@contextmanager
def child(code: str) -> Iterator[subprocess.Popen[str]]:
    """A python process that has run `code` and now waits until the block is left."""
    code += "\nprint('ready', flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


def test_the_first_sample_gives_levels_and_every_later_one_rates_too() -> None:
    with child("") as training:
        sampler = Sampler(training.pid)
        assert set(sampler.sample()) == LEVELS
        assert set(sampler.sample()) == LEVELS | RATES


def test_descendants_count_and_those_left_out_do_not() -> None:
    with child("import subprocess; sleeper = subprocess.Popen(['sleep', '60'])") as training:
        (sleeper,) = psutil.Process(training.pid).children()
        assert Sampler(training.pid).sample()["processes"] == 2
        assert Sampler(training.pid, without=frozenset((sleeper.pid,))).sample()["processes"] == 1
        sleeper.kill()


def test_memory_is_that_of_the_kernels_own_account() -> None:
    with child("block = bytearray(64 << 20)") as training:
        resident = Sampler(training.pid).sample()["resident_memory_bytes"]
        assert resident == pytest.approx(psutil.Process(training.pid).memory_info().rss, rel=0.05)
        assert resident > 64 << 20


def test_processor_time_and_page_faults_are_those_the_process_caused() -> None:
    with child("import time\nwhile time.process_time() < 0.3: pass\nblock = bytearray(32 << 20)") as training:
        usage = usage_of(psutil.Process(training.pid))
    assert 0.25 < usage.cpu_s < 10
    assert usage.minor_faults > 100


def test_a_process_that_is_gone_or_a_zombie_gives_no_sample() -> None:
    training = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    sampler = Sampler(training.pid)
    assert sampler.sample()
    training.kill()
    os.waitid(os.P_PID, training.pid, os.WEXITED | os.WNOWAIT)  # dead, not reaped yet
    assert psutil.Process(training.pid).status() == psutil.STATUS_ZOMBIE
    assert sampler.sample() == {}
    training.communicate()
    assert sampler.sample() == {}


def test_a_name_with_brackets_and_blanks_is_read_right() -> None:
    rename = "open('/proc/self/comm', 'w').write('a) Z 1 (b')"
    with child(rename) as training:
        assert psutil.Process(training.pid).name() == "a) Z 1 (b"
        assert usage_of(psutil.Process(training.pid)).resident_bytes > 1 << 20


def reading(time_s: float, usages: dict[tuple[int, float], Usage], host: Host = HOST) -> Reading:
    return Reading(time_s, usages, host)


def test_rates_are_per_second_and_processor_time_is_in_percent_of_a_core() -> None:
    before = reading(10, {(1, 0.0): Usage(4.0, 100, 10, 1, 0, 0), (2, 0.0): Usage(0.0, 50, 0, 0, 0, 0)})
    now = reading(
        12,
        {(1, 0.0): Usage(5.0, 100, 30, 3, 2_000, 0), (2, 0.0): Usage(2.0, 50, 0, 0, 0, 8_000)},
        replace(HOST, busy_s=12, total_s=44, received_bytes=600, sent_bytes=200),
    )
    assert rates(before, now) == {
        "cpu_percent": 150,
        "main_process_cpu_percent": 50,
        "minor_page_faults_per_s": 10,
        "major_page_faults_per_s": 1,
        "disk_read_bytes_per_s": 1_000,
        "disk_written_bytes_per_s": 4_000,
        "host_network_received_bytes_per_s": 300,
        "host_network_sent_bytes_per_s": 100,
        "host_cpu_percent": 50,
    }
    assert levels(now)["resident_memory_bytes"] == 150


amounts = st.builds(Usage, st.floats(0, 1e6), *[st.integers(0, 1 << 40)] * 5)


@given(births=st.dictionaries(st.tuples(st.integers(1, 9), st.floats(0, 9)), amounts), main=amounts)
def test_workers_that_come_and_go_never_make_a_rate_negative(
    births: dict[tuple[int, float], Usage], main: Usage
) -> None:
    key = (100, 0.0)
    few, many = {key: main}, {key: main, **births}
    for before, now in ((few, many), (many, few)):
        assert all(rate >= 0 for rate in rates(reading(1, before), reading(2, now)).values())
    born = sum(usage.minor_faults for usage in births.values())
    assert rates(reading(1, few), reading(2, many))["minor_page_faults_per_s"] == born
    assert NOTHING.minor_faults == 0
