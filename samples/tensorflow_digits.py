"""Train a small network on handwritten digits with a loop of one's own over tf.data, and profile it.

python samples/tensorflow_digits.py                    # decodes one image after the other
python samples/tensorflow_digits.py --loader healthy   # keeps decoded images in memory
"""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from digits import TRAINED_PIXELS, arguments, decoded, label_of, write_digits
from keras_digits import network

import profkit


def dataset(paths: list[Path], augment: bool = False) -> Any:
    """Images and labels, decoded by Python when asked for, turned a little if `augment`."""
    labels = [label_of(path) for path in paths]
    files = tf.data.Dataset.from_tensor_slices(([str(path) for path in paths], labels)).shuffle(len(paths))
    most = 12.0 if augment else 0.0
    return files.map(lambda path, label: (image(path, tf.random.uniform((), -most, most)), label))


def image(path: Any, degrees: Any) -> Any:
    """One image as floats from 0 to 1, decoded in Python."""
    pixels = tf.numpy_function(
        lambda name, angle: decoded(Path(name.decode()), float(angle)), [path, degrees], tf.float32
    )
    return tf.ensure_shape(pixels, (TRAINED_PIXELS, TRAINED_PIXELS))[..., tf.newaxis]


class Trainer:
    """A model and what changes it."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.optimizer = keras.optimizers.Adam(2e-3)
        self.loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def train_step(self, images: Any, labels: Any) -> Any:
        """Learn from one batch; returns the loss."""
        with tf.GradientTape() as tape:
            loss = self.loss(labels, self.model(images, training=True))
        weights = self.model.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return loss

    def accuracy(self, data: Any) -> float:
        """Share of right answers, 0 to 1."""
        metric = keras.metrics.SparseCategoricalAccuracy()
        for images, labels in data:
            metric.update_state(labels, self.model(images))
        return float(metric.result())


def main() -> None:
    """Train, and say how good the result is."""
    args = arguments(str(__doc__), "runs/tensorflow-digits")
    keras.utils.set_random_seed(args.seed)
    training, testing = write_digits(args.data)
    tf.config.threading.set_intra_op_parallelism_threads(1)  # the network is small: more would wait for each other
    images = dataset(training, augment=args.loader == "slow")
    if args.loader == "healthy":
        images = images.cache()
        for _ in images:  # fills the cache
            pass
    batches = images.batch(32, drop_remainder=True).prefetch(2)
    trainer = Trainer(network())
    hparams = {"loader": args.loader, "epochs": args.epochs, "seed": args.seed}

    with nullcontext() if args.no_profile else profkit.profile(args.logdir, hparams=hparams):
        for epoch in range(args.epochs):
            for images, labels in batches:
                loss = trainer.train_step(images, labels)
            print(f"epoch {epoch}: loss {loss:.3f}")

    print(f"accuracy on {len(testing)} held-out digits: {trainer.accuracy(dataset(testing).batch(64)):.3f}")


if __name__ == "__main__":
    main()
