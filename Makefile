# make train   sets up .venv and trains the demo language model into runs/demo
# make test    sets up .venv and runs the tests that a change needs
# make slow    the others: more of the same kinds, about as long
# make coverage   all of them, and which lines none runs; the page build/coverage/index.html
# make faults  kills, damages and fills the disk of a few hundred runs: about 15 minutes
# make topologies  trains one model on many meshes and in several processes: the same numbers
# make lint    style and types
# make docs    builds the site into build/site and runs its notebooks; warnings and errors end it
# make links   looks up every link of the site, out of it too
# make gpu-check   what this GPU shows, in under 5 minutes; without one, lowering and simulation
# make gpu-rows    trains the published rows that need a GPU, for MINUTES (10), and goes on next time
# make benchmarks  layers and a language model beside other libraries on this CPU: an hour or more
# make tpu-test    the tests that need the compiler of TPUs, which it installs: two presets for a TPU
# make tpu-check   what the compiler of TPUs makes of every preset, without a TPU: needs the extra tpu
# PYTHON=python3.13 make test   chooses the interpreter

PYTHON ?= python3
VENV ?= .venv
MINUTES ?= 10
GPU_PYTHON ?= $(VENV)/bin/python
TPU_PYTHON ?= $(VENV)/bin/python
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
INSTALL = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

GPU_READY = $(if $(filter $(VENV)/bin/python,$(GPU_PYTHON)),$(VENV)/test-$(VERSION))

TPU_READY = $(if $(filter $(VENV)/bin/python,$(TPU_PYTHON)),$(VENV)/run-$(VERSION))

.PHONY: train test slow coverage faults topologies lint docs links benchmarks gpu-check gpu-rows tpu-test tpu-check

# Large pages for glibc's malloc save page faults in every training step on a CPU.
train: $(VENV)/run-$(VERSION)
	GLIBC_TUNABLES=glibc.malloc.hugetlb=1 $(VENV)/bin/python -m experiments.language_model.train demo

test: $(VENV)/test-$(VERSION)
	$(VENV)/bin/python -m pytest

slow: $(VENV)/test-$(VERSION)
	$(VENV)/bin/python -m pytest -m slow

coverage: $(VENV)/test-$(VERSION)
	$(VENV)/bin/python -m pytest -m '' --timeout 900 --cov --cov-report=term --cov-report=html

faults: $(VENV)/test-$(VERSION)
	$(VENV)/bin/python tests/faults.py

topologies: $(VENV)/test-$(VERSION)
	$(VENV)/bin/python tests/topologies.py

lint: $(VENV)/test-$(VERSION)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

docs: $(VENV)/docs-$(VERSION)
	$(VENV)/bin/python -m sphinx -W --keep-going -q -b html docs build/site
	@echo "build/site/index.html"

links: $(VENV)/docs-$(VERSION)
	$(VENV)/bin/python -m sphinx -W --keep-going -q -b linkcheck docs build/links

benchmarks: $(VENV)/test-$(VERSION)
	$(VENV)/bin/python -m experiments.speed.layers --out build/benchmarks
	$(VENV)/bin/python -m experiments.speed.language_model --out build/benchmarks

# GPU_PYTHON: an environment of yours with JAX for CUDA (and PyTorch, the rival).
gpu-check: $(GPU_READY)
	$(GPU_PYTHON) -m experiments.speed.gpu_check

gpu-rows: $(GPU_READY)
	$(GPU_PYTHON) -m experiments.speed.gpu_rows --minutes $(MINUTES)

# The compiler of TPUs lies beside the environment, in which JAX would look for TPUs for it.
tpu-test: $(VENV)/test-$(VERSION) build/libtpu
	PYTHONPATH=build/libtpu $(VENV)/bin/python -m pytest -n 0 tests/test_tpu_check.py

build/libtpu: | $(VENV)/test-$(VERSION)
	$(VENV)/bin/python -m pip install --quiet --no-deps --target $@.new libtpu==0.0.42.1
	mv $@.new $@

# TPU_PYTHON: an environment of yours with the extras experiments and tpu.
tpu-check: $(TPU_READY)
	$(TPU_PYTHON) -m experiments.speed.tpu_check

$(VENV)/run-$(VERSION): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("jaxrnn needs Python 3.11 or newer, this is $(VERSION); choose another with PYTHON=python3.12 make ...")'
	$(PYTHON) -m venv --clear $(VENV)
	$(INSTALL) -e '.[experiments]'
	@touch $@

$(VENV)/test-$(VERSION): $(VENV)/run-$(VERSION)
	$(INSTALL) -e '.[dev,peers]'
	@touch $@

$(VENV)/docs-$(VERSION): $(VENV)/run-$(VERSION)
	$(INSTALL) -e '.[experiments,docs]'
	@touch $@
