# Every target installs what it needs into .venv; Python 3.11 or newer, pip and make are enough.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
BARE   := $(VENV)-bare
SOURCES := $(shell find src hooks exporters -name '*.py' -o -name '*.js') pyproject.toml

# Two rows of tests run beside each other, equally long: those that need a framework or a browser; those that need none,
# twice, and then BESIDE. What measures time runs alone.
FRAMES  := tests/test_page_in_browser.py::test_a_million_spans_are_there_soon_and_move_smoothly
TIMED   := $(FRAMES) $(addprefix tests/,test_import.py test_one_clock.py test_planted_stalls.py \
               test_loader_truth.py test_loader_causes.py test_tf_data_causes.py test_tune_live.py)
HEAVY   := $(addprefix tests/,test_engines.py test_hta_agreement.py test_large_traces.py test_remote.py)
BESIDE  := $(HEAVY) tests/test_tf_data_flaws.py
LIVE    := $(addprefix tests/,test_distributed.py test_dataloader_hook.py test_loader_shapes.py test_loader_faults.py \
               test_samples.py)
BROWSER := $(addprefix tests/,test_page_in_browser.py test_ranks_in_browser.py)
NEEDY   := $(addprefix tests/,$(shell sed -n 's/^    "\(test_.*\.py\)":.*/\1/p' tests/needs.py))
WITH    := $(filter-out $(TIMED) $(BESIDE) $(LIVE) $(BROWSER),$(NEEDY))
WITHOUT := $(addprefix --ignore=,$(sort $(NEEDY) $(TIMED) $(HEAVY)))
PAGE    := src/profkit/tensorboard/static/index.js

.PHONY: help demo test check coverage bench ui ui-test ui-checks format clean

help:  ## Show this list.
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 10

demo: $(VENV)/demo  ## Train on real images in PyTorch and in Keras, print both verdicts, say how to open TensorBoard.
	$(BIN)/python samples/pytorch_digits.py --logdir runs/digits
	TF_CPP_MIN_LOG_LEVEL=2 $(BIN)/python samples/keras_digits.py --logdir runs/digits
	@echo 'Open both in TensorBoard: $(BIN)/tensorboard --logdir runs/digits'

test: $(VENV)/wheel $(BARE)/wheel ui-test  ## What CI runs: lint, types and tests against the installed wheel, and without any framework.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p profkit
	$(BIN)/mypy tests samples benchmarks docs/pictures.py
	($(BIN)/python -m pytest --durations=10 $(WITHOUT) && $(BARE)/bin/python -m pytest -p no:cacheprovider $(WITHOUT) \
	    && $(BIN)/python -m pytest --durations=10 $(BESIDE)) > $(VENV)/beside.log 2>&1 & beside=$$!; \
	with=0; for row in "$(WITH)" "$(LIVE)" "$(BROWSER) --deselect $(FRAMES)"; do \
	    $(BIN)/python -m pytest --durations=10 $$row || with=1; done; \
	wait $$beside; beside=$$?; grep -v '^SKIPPED' $(VENV)/beside.log | tail -n 400; \
	test $$with = 0 && test $$beside = 0
	$(BIN)/python -m pytest --durations=20 $(TIMED)

coverage: $(VENV)/wheel  ## Which lines of the installed wheel the tests in pytest's own process reach.
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -p -m pytest $(WITHOUT)
	$(BIN)/coverage run -p -m pytest $(WITH)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --skip-covered --sort=cover | tail -n 25

check: test

bench: $(VENV)/wheel  ## Measure profkit beside its peers, in one run, as ratios.
	$(BIN)/python -m benchmarks

ui: web/node_modules/.package-lock.json  ## Build the page from web/ into the package.
	cd web && npm run --silent build

# The built page is committed: whoever only uses profkit, or changes only Python, needs no npm.
ui-test:
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory ui-checks; \
	else echo 'npm is not installed: the page is neither built nor compared with $(PAGE)'; fi

ui-checks: web/node_modules/.package-lock.json
	cd web && npm run --silent check && npm run --silent test && node build.mjs --check

web/node_modules/.package-lock.json: web/package.json web/package-lock.json
	cd web && npm ci --ignore-scripts --no-audit --no-fund --silent

format: $(VENV)/development  ## Put the sources into the project's form.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove what the other targets made.
	rm -rf $(VENV) $(BARE) web/node_modules build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "profkit needs Python 3.11 or newer, found " + sys.version)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo: $(BIN)/python $(SOURCES)
	@echo 'Installing profkit and what the sample needs into $(VENV); this happens once.'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '.[samples]'
	@touch $@

$(VENV)/development: $(BIN)/python pyproject.toml
	@echo 'Installing what development needs into $(VENV); this happens once.'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '.[dev,peers]'
	@touch $@

$(VENV)/wheel: $(VENV)/development $(SOURCES)
	rm -rf build dist
	$(BIN)/python -m build --wheel --no-isolation . > $(VENV)/build.log 2>&1 || (cat $(VENV)/build.log; false)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps dist/*.whl
	@touch $@ $(VENV)/demo

# Reading, analysing and exporting need no framework: the tests that need none pass where none is installed.
$(BARE)/wheel: $(VENV)/wheel
	@echo 'Installing profkit without any framework into $(BARE).'
	test -x $(BARE)/bin/python || $(PYTHON) -m venv $(BARE)
	$(BARE)/bin/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps dist/*.whl
	$(BARE)/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl 'pytest>=8.3' 'hypothesis>=6.100'
	@touch $@
