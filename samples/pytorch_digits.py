"""Train a small network on handwritten digits with PyTorch, and profile it.

python samples/pytorch_digits.py                    # decodes every image in the training process
python samples/pytorch_digits.py --workers 2        # in two worker processes
python samples/pytorch_digits.py --loader healthy   # keeps decoded images in memory
"""

from contextlib import nullcontext
from pathlib import Path

import torch
from digits import TRAINED_PIXELS, arguments, decoded, label_of, write_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import profkit


class DigitFiles(Dataset[tuple[Tensor, int]]):
    """Digits, decoded from their files when asked for, turned a little if `augment`."""

    def __init__(self, paths: list[Path], augment: bool = False) -> None:
        self.paths = paths
        self.augment = augment

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path = self.paths[index]
        degrees = float(torch.empty(1).uniform_(-12, 12)) if self.augment else 0.0
        return torch.from_numpy(decoded(path, degrees)).unsqueeze(0), label_of(path)


def in_memory(dataset: DigitFiles) -> TensorDataset:
    """All of `dataset`, decoded once."""
    images, labels = zip(*(dataset[index] for index in range(len(dataset))), strict=True)
    return TensorDataset(torch.stack(images), torch.tensor(labels))


def network() -> nn.Module:
    """Two convolutions and two linear layers."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (TRAINED_PIXELS // 4) ** 2, 64),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(64, 10),
    )


class Trainer:
    """A model and what changes it."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

    @profkit.step
    def train_step(self, images: Tensor, labels: Tensor) -> float:
        """Learn from one batch; returns the loss."""
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(images), labels)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    @torch.inference_mode()
    def accuracy(self, dataset: DigitFiles) -> float:
        """Share of right answers, 0 to 1."""
        self.model.eval()
        right = sum(int((self.model(images).argmax(1) == labels).sum()) for images, labels in DataLoader(dataset, 64))
        return right / len(dataset)


def main() -> None:
    """Train, and say how good the result is."""
    args = arguments(str(__doc__), "runs/digits", with_workers=True)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)  # the network is small: more threads would wait for each other
    training, testing = write_digits(args.data)
    train, test = DigitFiles(training, args.loader == "slow"), DigitFiles(testing)
    loader = DataLoader(
        train if args.loader == "slow" else in_memory(train),
        batch_size=32,
        shuffle=True,
        num_workers=args.workers,
        persistent_workers=args.workers > 0,
    )
    trainer = Trainer(network())
    hparams = {"loader": args.loader, "workers": args.workers, "epochs": args.epochs, "seed": args.seed}

    with nullcontext() if args.no_profile else profkit.profile(args.logdir, hparams=hparams):
        for epoch in range(args.epochs):
            for images, labels in loader:
                loss = trainer.train_step(images, labels)
            print(f"epoch {epoch}: loss {loss:.3f}")

    print(f"accuracy on {len(test)} held-out digits: {trainer.accuracy(test):.3f}")


if __name__ == "__main__":
    main()
