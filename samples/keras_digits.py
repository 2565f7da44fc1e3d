"""Train a small network on handwritten digits with Keras's `fit`, on any of its backends, and profile it.

KERAS_BACKEND=jax python samples/keras_digits.py    # tensorflow, torch or jax
python samples/keras_digits.py --loader healthy     # keeps decoded images in memory
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np
from digits import TRAINED_PIXELS, arguments, decoded, label_of, write_digits

import profkit.keras


class DigitFiles(keras.utils.PyDataset):
    """Batches of digits, decoded from their files when asked for, each turned a little."""

    def __init__(self, paths: list[Path], batch_size: int, seed: int) -> None:
        super().__init__()
        self.paths, self.batch_size = list(paths), batch_size
        self.random = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self.paths) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        paths = self.paths[index * self.batch_size : (index + 1) * self.batch_size]
        return arrays(paths, self.random.uniform(-12, 12, len(paths)))

    def on_epoch_end(self) -> None:
        """Shuffle."""
        self.random.shuffle(self.paths)


def arrays(paths: list[Path], degrees: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of these files."""
    images = [decoded(path, angle) for path, angle in zip(paths, degrees, strict=True)]
    return np.stack(images)[..., np.newaxis], np.array([label_of(path) for path in paths])


def network() -> Any:
    """Two convolutions and two linear layers."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((TRAINED_PIXELS, TRAINED_PIXELS, 1)),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dropout(0.1),
            layers.Dense(10),
        ]
    )


def main() -> None:
    """Train, and say how good the result is."""
    args = arguments(str(__doc__), "runs/keras-digits")
    keras.utils.set_random_seed(args.seed)
    training, testing = write_digits(args.data)
    model = network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss, metrics=["accuracy"])
    hparams = {"loader": args.loader, "epochs": args.epochs, "seed": args.seed}
    callbacks = [] if args.no_profile else [profkit.keras.Callback(args.logdir, hparams=hparams)]
    options = {"epochs": args.epochs, "verbose": 2, "callbacks": callbacks}

    if args.loader == "slow":
        model.fit(DigitFiles(training, 32, args.seed), **options)
    else:
        images, labels = arrays(training, np.zeros(len(training)))
        model.fit(images, labels, batch_size=32, **options)

    images, labels = arrays(testing, np.zeros(len(testing)))
    _, accuracy = model.evaluate(images, labels, verbose=0)
    print(f"accuracy on {len(testing)} held-out digits: {accuracy:.3f}")


if __name__ == "__main__":
    main()
