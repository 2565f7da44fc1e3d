"""Seeded trainings of two ranks: the program that launchers start for tests, once for each rank.

python -m torch.distributed.run ... -m tests.distributed_training <folder> <training>...: every rank does each training
three times: without profkit, inside a run below <folder>/<training>, and without again. It writes hashes of its final
weights to <folder>/rank-<n>.json.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

RANKS = 2
BATCHES, BATCH, FEATURES, CLASSES = 14, 4, 32, 3
SKIPPED, WARMUP, ACTIVE = 3, 1, 4
DIES_IN = 10  # the step in which rank 1 is killed
CLOCKS_S = 2.0  # in which the clocks are compared on a busy machine, too: the trainings take less than a second
SHIFT_NS = 7_000_000  # of rank 1's clock, in the training of this name
SLOW_MS = 20.0  # what a batch of rank 1's slow loader takes longer


def samples() -> Any:
    """Features and labels, the same on every rank and every time."""
    import torch

    generator = torch.Generator().manual_seed(7)
    count = BATCHES * BATCH * 2
    features = torch.randn(count, FEATURES, generator=generator)
    return torch.utils.data.TensorDataset(features, torch.randint(0, CLASSES, (count,), generator=generator))


def loader(dataset: Any = None, **settings: Any) -> Any:
    """This rank's half of the samples, shuffled."""
    import torch
    from torch.utils.data.distributed import DistributedSampler

    dataset = samples() if dataset is None else dataset
    sampler: Any = DistributedSampler(dataset, seed=5)
    return torch.utils.data.DataLoader(dataset, BATCH, sampler=sampler, **settings)


def network(width: int = 64) -> Any:
    """With dropout, so that random numbers count."""
    import torch

    torch.manual_seed(3)
    return torch.nn.Sequential(
        torch.nn.Linear(FEATURES, width),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.1),
        torch.nn.Linear(width, width),
        torch.nn.ReLU(),
        torch.nn.Linear(width, CLASSES),
    )


def optimized(model: Any, batches: Any, after_backward: Callable[[], None] = lambda: None) -> Any:
    """An ordinary loop; returns the parameters."""
    import torch

    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for features, labels in batches:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(features), labels).backward()
        after_backward()
        optimizer.step()
    return list(model.parameters())


def plain() -> Any:
    """torch.distributed by hand: gradients are averaged by all-reduce."""
    import torch.distributed as dist

    model = network()

    def average() -> None:
        for parameter in model.parameters():
            dist.all_reduce(parameter.grad)
            parameter.grad /= dist.get_world_size()

    return optimized(model, loader(), average)


def ddp() -> Any:
    """DistributedDataParallel, several buckets, and batches from a worker process."""
    from torch.nn.parallel import DistributedDataParallel

    return optimized(DistributedDataParallel(network(), bucket_cap_mb=0.01), loader(num_workers=1))


def fsdp2() -> Any:
    """`fully_shard` on a mesh of CPUs."""
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    model = network()
    for layer in model:
        if isinstance(layer, torch.nn.Linear):
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return [parameter.full_tensor() for parameter in optimized(model, loader())]


def accelerate() -> Any:
    """Accelerate's loop, with gradients accumulated over two batches."""
    import torch
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    batches = torch.utils.data.DataLoader(samples(), BATCH, shuffle=True)
    model, optimizer, batches = accelerator.prepare(model, optimizer, batches)
    for _ in range(2):
        for features, labels in batches:
            with accelerator.accumulate(model):
                accelerator.backward(torch.nn.functional.cross_entropy(model(features), labels))
                optimizer.step()
                optimizer.zero_grad()
    return list(model.parameters())


def trainer() -> Any:
    """Hugging Face's Trainer, with gradients accumulated over two batches, and evaluation after each of two epochs."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    class Sentences(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return BATCHES * BATCH * 2

        def __getitem__(self, index: int) -> Any:
            tokens = torch.arange(index, index + 8) % 32
            return {"input_ids": tokens, "labels": tokens}

    torch.manual_seed(3)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=32, n_positions=8, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    )
    arguments = TrainingArguments(
        output_dir=str(Path(sys.argv[1]) / "trainer-output"),
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=2,
        num_train_epochs=2,
        eval_strategy="epoch",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        seed=3,
    )
    few = torch.utils.data.Subset(Sentences(), range(BATCH * 4))
    Trainer(model=model, args=arguments, train_dataset=Sentences(), eval_dataset=few).train()
    return list(model.parameters())


def shifted() -> Any:
    """The clock of rank 1 is ahead."""
    return plain()


def dying() -> Any:
    """Rank 1 is killed in the middle of its run."""
    import torch.distributed as dist

    from profkit import active

    steps = iter(range(BATCHES))

    def die() -> None:
        if next(steps) == DIES_IN and dist.get_rank() == 1 and active.current() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        dist.barrier()

    return optimized(network(), loader(), die)


def slow_loader() -> Any:
    """On rank 1 every batch takes longer to come."""
    import torch.distributed as dist

    return _long(SLOW_MS * (dist.get_rank() == 1))


def healthy() -> Any:
    """The same with the same loader on all ranks."""
    return _long(0.0)


def _long(batch_ms: float) -> Any:
    import torch
    from torch.nn.parallel import DistributedDataParallel

    class Photos(torch.utils.data.Dataset[Any]):
        rows = samples()

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, index: int) -> Any:
            time.sleep(batch_ms / BATCH / 1e3)
            return self.rows[index]

    model = DistributedDataParallel(network(512), bucket_cap_mb=0.5)
    return optimized(model, loader(Photos()))


@cache
def _strategy() -> Any:
    """There can be one in a process."""
    import tensorflow as tf

    return tf.distribute.MultiWorkerMirroredStrategy()


def tf_multi_worker() -> Any:
    """MultiWorkerMirroredStrategy: gradients are averaged by all-reduce between processes."""
    import tensorflow as tf

    strategy = _strategy()
    random = tf.random.Generator.from_seed(7)
    with strategy.scope():
        weights = tf.Variable(tf.ones((FEATURES, CLASSES)))

    def replica(features: Any, labels: Any) -> None:
        with tf.GradientTape() as tape:
            logits = tf.matmul(features, weights)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        gradient = tf.distribute.get_replica_context().all_reduce("MEAN", tape.gradient(loss, weights))
        weights.assign_sub(0.1 * gradient)

    @tf.function
    def step(features: Any, labels: Any) -> None:
        strategy.run(replica, args=(features, labels))

    count = BATCHES * BATCH * 2
    features, labels = random.normal((count, FEATURES)), random.uniform((count,), maxval=CLASSES, dtype=tf.int32)
    data = tf.data.Dataset.from_tensor_slices((features, labels)).shuffle(64, seed=3).batch(BATCH)

    def of_worker(context: Any) -> Any:
        return data.shard(context.num_input_pipelines, context.input_pipeline_id)

    for batch in strategy.distribute_datasets_from_function(of_worker):
        step(*batch)
    return [weights.numpy()]


TRAININGS: dict[str, Callable[[], Any]] = {
    training.__name__: training
    for training in (
        *(plain, ddp, fsdp2, accelerate, trainer, tf_multi_worker),
        *(shifted, dying, slow_loader, healthy),
    )
}


@contextmanager
def clock_ahead(shift_ns: int) -> Iterator[None]:
    """What a machine with another time sees."""
    from profkit.clock import Clock

    anchored = Clock.__dict__["anchored_now"]
    Clock.anchored_now = classmethod(  # type: ignore[method-assign, assignment]
        lambda kind: kind(anchored.__func__(kind).offset_ns + shift_ns)
    )
    try:
        yield
    finally:
        Clock.anchored_now = anchored  # type: ignore[method-assign]


def main() -> None:
    """Do each training three times and write down what came of it."""
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    with _tensorflow_job(folder) if "TF_CONFIG" in os.environ else _torch_job() as rank:
        results = {name: _trained(name, folder / name, rank) for name in names}
        (folder / f"rank-{rank}.json").write_text(json.dumps(results))


@contextmanager
def _torch_job() -> Iterator[int]:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    yield dist.get_rank()
    dist.barrier()
    dist.destroy_process_group()


@contextmanager
def _tensorflow_job(folder: Path) -> Iterator[int]:
    """Workers have to end together, and at once: TensorFlow may crash where one is gone, and while it cleans up."""
    import tensorflow  # noqa: F401  # a run finds what has been imported

    yield int(json.loads(os.environ["TF_CONFIG"])["task"]["index"])
    while len([*folder.glob("rank-*.json")]) < RANKS:
        time.sleep(0.05)
    os._exit(0)


def _trained(name: str, logdir: Path, rank: int) -> dict[str, Any]:
    import profkit

    plan = profkit.schedule(skip_first=SKIPPED, warmup=WARMUP, active=ACTIVE)
    before = _digest(TRAININGS[name]())
    shift_ns = SHIFT_NS if name == "shifted" and rank == 1 else 0
    with clock_ahead(shift_ns), profkit.profile(logdir, schedule=plan, quiet=True) as run:
        recorded = _digest(TRAININGS[name]())
        if "TF_CONFIG" not in os.environ:
            time.sleep(CLOCKS_S)
    return {"weights": [before, recorded, _digest(TRAININGS[name]())], "folder": run.folder.name}


def _digest(weights: list[Any]) -> str:
    arrays = [weight.detach().numpy() if hasattr(weight, "detach") else weight for weight in weights]
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


if __name__ == "__main__":
    main()
