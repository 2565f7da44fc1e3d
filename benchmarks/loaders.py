"""A loader with real work, run with many settings and profiled with few.

`python -m benchmarks.loaders NAME ROUNDS FOLDER` prints one line of JSON: the measured steps by number of workers, and
what each profile predicts.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
import zlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate

import profkit
from benchmarks.measuring import cpu_s
from profkit.analysis.whatif import Settings, predict, profile_of_run
from profkit.trace.load import load

WORKERS = (0, 1, 2, 3, 4)
PROFILED_WORKERS = (0, 2)
BATCHES = 44
SETTLED = 12  # batches before a run is steady: what was prefetched while workers started
SPEED_S = 0.04  # of work that tells how fast the machine is just now
NEVER = profkit.schedule(skip_first=10**9)
SOURCES = 64
QUIET_CORES, PATIENCE_S, LOOK_S, TRIES = 0.15, 1.5, 0.1, 2

Sample = tuple[Tensor, int]
Collate = Callable[[list[Sample]], list[Tensor]]


class Decoded(Dataset[Sample]):
    """JPEG images, decoded and shrunk; `repeats` says how often for the sample of a number."""

    def __init__(self, pixels: int, kept: int, repeats: Callable[[int], int] = lambda _: 1) -> None:
        self._images = [jpeg(pixels, seed) for seed in range(SOURCES)]
        self._kept, self._repeats = kept, repeats

    def __getitem__(self, index: int) -> Sample:
        for _ in range(self._repeats(index)):
            image = decoded(self._images[index % SOURCES], self._kept)
        return image, index % 10


class Read(Dataset[Sample]):
    """Images read from files that the system has forgotten, several for a sample, and one of them decoded."""

    def __init__(self, folder: Path, pixels: int, files: int) -> None:
        self._files = files
        self._paths = [folder / f"{number}.jpg" for number in range(SOURCES * files)]
        for number, path in enumerate(self._paths):
            path.write_bytes(jpeg(pixels, number % SOURCES))
        os.sync()

    def __getitem__(self, index: int) -> Sample:
        first = index % SOURCES * self._files
        data = [forgotten(path) for path in self._paths[first : first + self._files]]
        return decoded(data[0], 64), index % 10


class Cheap(Dataset[Sample]):
    """Rows of a table: nothing but their way to the training process costs anything."""

    def __init__(self, columns: int) -> None:
        self._rows = np.random.default_rng(0).random((SOURCES, columns), np.float32)

    def __getitem__(self, index: int) -> Sample:
        return torch.from_numpy(self._rows[index % SOURCES] * 2), index % 10


class Spectra(Dataset[Sample]):
    """Waves turned into spectra: NumPy's Fourier transform, window by window."""

    def __init__(self, length: int, window: int) -> None:
        self._waves = np.random.default_rng(0).standard_normal((SOURCES, length)).astype(np.float32)
        self._window = window

    def __getitem__(self, index: int) -> Sample:
        windows = self._waves[index % SOURCES].reshape(-1, self._window)
        spectra = np.log1p(np.abs(np.fft.rfft(windows * np.hanning(self._window))))
        return torch.from_numpy(spectra.mean(0).astype(np.float32)), index % 10


class Inflated(Dataset[Sample]):
    """Compressed rows: zlib, which lets go of Python's lock."""

    def __init__(self, columns: int) -> None:
        rows = np.random.default_rng(0).integers(0, 40, (SOURCES, columns), np.uint8)
        self._rows = [zlib.compress(row.tobytes()) for row in rows]

    def __getitem__(self, index: int) -> Sample:
        row = np.frombuffer(zlib.decompress(self._rows[index % SOURCES]), np.uint8)
        return torch.from_numpy(row[::64].astype(np.float32)), index % 10


class Counted(Dataset[Sample]):
    """Texts whose words are counted into buckets: plain Python."""

    def __init__(self, words: int, buckets: int) -> None:
        random = np.random.default_rng(0)
        self._texts = [" ".join(f"w{n}" for n in random.integers(0, 5_000, words)) for _ in range(SOURCES)]
        self._buckets = buckets

    def __getitem__(self, index: int) -> Sample:
        counts = [0.0] * self._buckets
        for word in self._texts[index % SOURCES].split():
            counts[zlib.crc32(word.encode()) % self._buckets] += 1.0
        return torch.tensor(counts), index % 10


class Augmented(Dataset[Sample]):
    """Pictures in memory, rotated by an angle of their own, mirrored and normalised."""

    def __init__(self, pixels: int) -> None:
        self._images = [Image.open(io.BytesIO(jpeg(pixels, seed))).convert("RGB") for seed in range(SOURCES)]

    def __getitem__(self, index: int) -> Sample:
        image = self._images[index % SOURCES].rotate(index % 30 - 15, Image.Resampling.BILINEAR)
        values = np.asarray(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), dtype=np.float32) / 255
        return torch.from_numpy((values - values.mean()) / values.std()).permute(2, 0, 1), index % 10


def jpeg(pixels: int, seed: int) -> bytes:
    """A picture of coloured blots."""
    blots = np.random.default_rng(seed).integers(0, 255, (pixels // 8, pixels // 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(blots).resize((pixels, pixels)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def decoded(data: bytes, kept: int) -> Tensor:
    """The picture as floats, `kept` pixels wide and high."""
    image = Image.open(io.BytesIO(data)).convert("RGB").resize((kept, kept))
    return torch.from_numpy(np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / 255)


def forgotten(path: Path) -> bytes:
    """A file's bytes, from storage: the system's copy is dropped before."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return os.read(descriptor, 1 << 24)
    finally:
        os.close(descriptor)


def normalising(samples: list[Sample]) -> list[Tensor]:
    """A collate function that does the work of a transform."""
    images = np.stack([image.numpy() for image, _ in samples])
    for _ in range(2):
        images = (images - images.mean((2, 3), keepdims=True)) / (images.std((2, 3), keepdims=True) + 1e-6)
    return [torch.from_numpy(images), torch.tensor([label for _, label in samples])]


@dataclass(frozen=True, slots=True)
class Workload:
    """A dataset, how it is batched, and how wide the perceptron is that is trained on it."""

    dataset: Dataset[Sample]
    batch_size: int
    width: int
    collate: Collate = default_collate

    def epoch(self, num_workers: int) -> float:
        """Seconds of a steady step."""
        columns = self.dataset[0][0].numel()
        model = nn.Sequential(nn.Linear(columns, self.width), nn.ReLU(), nn.Linear(self.width, 10))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
        loader = DataLoader(
            self.dataset,
            self.batch_size,
            sampler=range(BATCHES * self.batch_size),
            num_workers=num_workers,
            collate_fn=self.collate,
        )
        ends = []
        for images, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images.flatten(1)), labels).backward()
            optimizer.step()
            ends.append(time.perf_counter())
        return (ends[-1] - ends[SETTLED]) / (BATCHES - 1 - SETTLED)


# Each is slow in another way. The simulator's constants were chosen with the first six; the others judge it.
WORKLOADS: dict[str, Callable[[Path], Workload]] = {
    "decode": lambda _: Workload(Decoded(256, 64), 8, 32),
    "decode, heavy step": lambda _: Workload(Decoded(192, 64), 8, 400),
    "read and decode": lambda folder: Workload(Read(folder, 160, 6), 8, 48),
    "decode, jittered": lambda _: Workload(Decoded(128, 48, lambda index: 1 + index // 8 * 7919 % 13 // 3), 8, 192),
    "cheap samples, large batches": lambda _: Workload(Cheap(2048), 256, 128),
    "heavy collate": lambda _: Workload(Decoded(96, 96), 16, 24, normalising),
    "spectra": lambda _: Workload(Spectra(32_768, 512), 16, 256),
    "inflated": lambda _: Workload(Inflated(1 << 19), 8, 32),
    "inflated, heavy step": lambda _: Workload(Inflated(1 << 18), 8, 192),
    "counted words": lambda _: Workload(Counted(1_500, 1_024), 24, 256),
    "augmented": lambda _: Workload(Augmented(112), 12, 24),
    "small pictures": lambda _: Workload(Decoded(80, 32), 32, 384),
}


def speed(image: bytes) -> float:
    """Decoded images per second, just now."""
    begun, count = time.perf_counter(), 0
    while time.perf_counter() < begun + SPEED_S:
        decoded(image, 64)
        count += 1
    return count / SPEED_S


class Taken(NamedTuple):
    """What a run gave, how fast the machine was around it, and how many cores others used meanwhile."""

    speed: float
    others: float
    given: Any

    def oddness(self, usual_speed: float) -> float:
        """How far the machine was from its usual state."""
        return abs(self.speed / usual_speed - 1) + self.others


class Clocked:
    """Runs things while the machine is quiet, as far as it can be had."""

    def __init__(self) -> None:
        self._image = jpeg(128, 0)

    def __call__(self, work: Callable[[], Any]) -> Taken:
        """The quietest of a few tries."""
        tries = []
        for _ in range(TRIES):
            wait_for_quiet()
            tries.append(self._taken(work))
            if tries[-1].others < QUIET_CORES:
                break
        return min(tries, key=lambda taken: taken.others)

    def _taken(self, work: Callable[[], Any]) -> Taken:
        before, begun, busy, own = speed(self._image), time.perf_counter(), busy_s(), cpu_s()
        given = work()
        others = (busy_s() - busy - (cpu_s() - own)) / (time.perf_counter() - begun)
        return Taken((before + speed(self._image)) / 2, max(others, 0.0), given)


def wait_for_quiet() -> None:
    """Until others use next to no core, or for so long that they will go on."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        busy = busy_s()
        time.sleep(LOOK_S)
        if busy_s() - busy < QUIET_CORES * LOOK_S:
            return


def busy_s() -> float:
    """Seconds that all cores together were busy since the machine was started."""
    user, nice, system, _, _, irq, soft_irq, stolen = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + soft_irq + stolen) / os.sysconf("SC_CLK_TCK")


def main(name: str, rounds: int, folder: Path) -> dict[str, object]:
    """The workload with every number of workers, round after round: of each figure the median over the rounds, so that
    a moment in which the machine was slower decides neither a run nor a profile."""
    torch.set_num_threads(1)
    clocked, workload, taken = Clocked(), WORKLOADS[name](folder), defaultdict(list)
    for _ in range(rounds):
        for workers in WORKERS:
            taken["measured", workers].append(clocked(partial(workload.epoch, workers)))
            if workers in PROFILED_WORKERS:
                taken["predicted", workers].append(clocked(partial(predicted, workload, workers, folder)))
    usual = float(np.median([run.speed for runs in taken.values() for run in runs]))
    return {
        "measured_s": {n: float(np.median([run.given for run in taken["measured", n]])) for n in WORKERS},
        "predicted": {n: medians([run.given for run in taken["predicted", n]]) for n in PROFILED_WORKERS},
        "oddness": {
            f"{kind} {workers}": float(np.median([run.oddness(usual) for run in runs]))
            for (kind, workers), runs in taken.items()
        },
    }


def medians(dictionaries: list[dict[str, Any]]) -> dict[str, Any]:
    """Of dictionaries with the same keys: under each the median of what they have there, within it again."""
    return {
        key: medians([each[key] for each in dictionaries])
        if isinstance(value, dict)
        else float(np.median([each[key] for each in dictionaries]))
        for key, value in dictionaries[0].items()
    }


def predicted(workload: Workload, workers: int, folder: Path) -> dict[str, Any]:
    """From a profile with this number of workers: seconds of a step and of its parts, and each number's step."""
    with profkit.profile(folder / "runs", schedule=NEVER, sidecar=False, quiet=True) as run:
        workload.epoch(workers)
    found = profile_of_run(load(run.folder))
    assert found is not None, "the run has no batches"
    profile = found[0]
    batches = np.array(profile.costs.batches).mean(0)
    fetch_ns, consumer_ns = float(batches[1] + batches[2]), float(batches[3] + batches[4])
    return {
        "step_s": profile.step_ns / 1e9,
        "fetch_s": fetch_ns / 1e9,
        "consumer_s": consumer_ns / 1e9,
        "steps_s": {n: predict(profile, Settings(n, 2)).step_ns / 1e9 for n in WORKERS},
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))))
