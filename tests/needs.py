"""What tests need installed beyond profkit and pytest, by their files: where it is missing they are left out, and it is
said. A test that is not listed runs anywhere."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

FRAMEWORKS = ("torch", "tensorflow", "keras", "jax")
NEEDS = {
    "test_dataloader_hook.py": ("torch",),
    "test_distributed.py": ("torch", "accelerate", "transformers", "tensorflow"),
    "test_finalise.py": ("torch",),
    "test_hook_contract.py": FRAMEWORKS,
    "test_identical_training.py": ("torch",),
    "test_identical_weights.py": FRAMEWORKS,
    "test_kill.py": ("torch",),
    "test_launch.py": ("torch",),
    "test_loader_causes.py": ("torch",),
    "test_loader_faults.py": ("torch",),
    "test_loader_shapes.py": ("torch",),
    "test_loader_truth.py": ("torch",),
    "test_one_clock.py": ("torch", "tensorflow", "jax"),
    "test_operators.py": ("torch",),
    "test_planted_stalls.py": FRAMEWORKS,
    "test_page_in_browser.py": ("torch", "tensorflow", "keras", "sklearn", "PIL"),  # the samples' runs
    "test_pytorch_hook.py": ("torch",),
    "test_ranks_in_browser.py": ("playwright",),
    "test_samples.py": ("torch", "tensorflow", "keras", "sklearn", "PIL"),
    "test_tensorflow_hooks.py": ("tensorflow", "keras", "xprof"),
    "test_tf_data_causes.py": ("tensorflow", "keras"),
    "test_tf_data_flaws.py": ("tensorflow", "keras"),
    "test_tune_live.py": ("torch", "PIL"),
    "test_two_frameworks.py": ("torch", "tensorflow", "keras"),
    "test_xplane_live.py": ("tensorflow", "keras"),
}


def needs(module: str) -> pytest.MarkDecorator:
    """Marks the only tests of a file that need this module."""
    return pytest.mark.skipif(find_spec(module) is None, reason=f"{module} is not installed")


def missing() -> dict[str, list[str]]:
    """The files that cannot run here, and what each lacks."""
    lacking = {file: [module for module in modules if find_spec(module) is None] for file, modules in NEEDS.items()}
    return {file: modules for file, modules in lacking.items() if modules}
