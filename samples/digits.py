"""What the samples train on: scikit-learn's 1,797 handwritten digits, kept as JPEG files."""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

STORED_PIXELS, TRAINED_PIXELS = 192, 28
TEST_EVERY = 5  # one image in five is held out
FOLDER = Path(tempfile.gettempdir()) / f"profkit-digits-{STORED_PIXELS}"


def write_digits(folder: Path) -> tuple[list[Path], list[Path]]:
    """The digits as files <number>-<label>.jpg in `folder`, written once: those to train on and those to test with."""
    folder.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / f"{number:04}-{label}.jpg"
        if not path.exists():
            image = Image.fromarray((pixels * 15.9).astype(np.uint8))
            image.resize((STORED_PIXELS, STORED_PIXELS), Image.Resampling.BICUBIC).save(path, quality=90)
    paths = sorted(folder.glob("*.jpg"))
    return [path for number, path in enumerate(paths) if number % TEST_EVERY], paths[::TEST_EVERY]


def label_of(path: Path) -> int:
    """The digit that the image shows."""
    return int(path.stem.partition("-")[2])


def decoded(path: Path, degrees: float = 0.0) -> np.ndarray:
    """The image as TRAINED_PIXELS × TRAINED_PIXELS floats from 0 to 1, turned by `degrees`."""
    image = Image.open(path).convert("L")
    if degrees:
        image = image.rotate(degrees, Image.Resampling.BICUBIC)
    image = image.resize((TRAINED_PIXELS, TRAINED_PIXELS), Image.Resampling.LANCZOS)
    return np.asarray(image, dtype=np.float32) / 255


def arguments(description: str, logdir: str, *, with_workers: bool = False) -> argparse.Namespace:
    """The command line of every sample; `--workers` for those whose loader has workers."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--loader", choices=("slow", "healthy"), default="slow")
    parser.add_argument("--logdir", default=logdir)
    parser.add_argument("--data", type=Path, default=FOLDER)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-profile", action="store_true")
    if with_workers:
        parser.add_argument("--workers", type=int, default=0)
    return parser.parse_args()
