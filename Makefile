# `make` lists the targets. Everything runs in .venv, made from requirements.lock.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON := $(BIN)/python
UV_VERSION := 0.13.9
# The newest suitable interpreter, or the one you name: make PYTHON_BASE=python3.12 setup
PYTHON_BASE ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && { echo $$p; break; }; done)
# Overrides for `make train`, for example: make train ARGS="model=resnet18 trainer.epochs=10"
ARGS ?=
SWEEP ?= cnn_tpe
LOCKED := cloud dev docs export geo joblib postgres serve slurm
export UV_PYTHON_DOWNLOADS := never

.DEFAULT_GOAL := help
.PHONY: help setup train evaluate sweep repro test coverage test-all lint format docs docs-serve lock image-locks images clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)$$/  make \1 \t\2/' | column -t -s "$$(printf '\t')"

setup: $(VENV)/.installed ## make .venv from the lock

# uv is taken from PATH, or else installed with pip: it installs the lock in seconds instead of minutes.
$(VENV)/.installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON_BASE)" || { echo "error: Python 3.11, 3.12 or 3.13 is needed and none was found on PATH; install one or name it: make PYTHON_BASE=/path/to/python $(MAKECMDGOALS)" >&2; exit 2; }
	@echo "installing into $(VENV): about 6 GB with torch's GPU libraries; minutes on a home line, seconds from a cache"
	$(PYTHON_BASE) -m venv $(VENV)
	@command -v uv >/dev/null || $(PYTHON) -m pip install --quiet "uv==$(UV_VERSION)"
	PATH="$$PATH:$(CURDIR)/$(BIN)" uv pip install --quiet --python $(PYTHON) --require-hashes -r requirements.lock
	PATH="$$PATH:$(CURDIR)/$(BIN)" uv pip install --quiet --python $(PYTHON) --no-deps --no-build-isolation --editable .
	@touch $@

train: setup ## train on the embedded dataset and print where everything is (ARGS="key=value ...")
	$(PYTHON) -m landuse.train $(ARGS)

evaluate: setup ## open the test split of the newest run (ARGS="run=PATH ...")
	$(PYTHON) -m landuse.evaluate $(ARGS)

sweep: setup ## search for the CNN's best settings (ARGS="workers=2 n_trials=40", SWEEP=name of a recipe)
	$(PYTHON) -m landuse.sweep name=$(SWEEP) $(ARGS)

repro: setup ## run what has changed of the DVC pipeline: download, preprocess, train, evaluate
	$(BIN)/dvc repro $(ARGS)

# Two workers: more of them than cores slow PyTorch's threads down out of proportion (ARGS="-n 8" for more, -n 0 for one).
test: setup ## run the test suite
	$(PYTHON) -m pytest -n 2 $(ARGS)

coverage: setup ## run the test suite and show which lines it does not reach, which takes a third longer
	$(PYTHON) -m pytest -n 2 --cov --cov-report=term:skip-covered $(ARGS)

test-all: setup ## run the slow tests too
	$(PYTHON) -m pytest -m "" $(ARGS)

lint: setup ## check style, types and files, as the commit hooks do
	$(BIN)/pre-commit run --all-files

format: setup ## rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs docs-serve: export NO_MKDOCS_2_WARNING := 1 # an advertisement
docs: setup ## build the documentation as a site, into site/; a broken link or anchor ends it
	$(PYTHON) -m mkdocs build --strict $(ARGS)
	@echo "open        site/index.html"

docs-serve: setup ## show that site on http://127.0.0.1:8001 and build it anew as you write (ARGS="--dev-addr HOST:PORT")
	$(PYTHON) -m mkdocs serve $(ARGS)

# All extras but ray and benchmark, which are large and which few have a use for; then what of it is in which image.
COMPILE = PATH="$$PATH:$(CURDIR)/$(BIN)" uv pip compile --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --prerelease=if-necessary-or-explicit --quiet
GPU_LIBRARIES = $(shell grep -oE '^(torch|torchvision|triton|(nvidia|cuda)-[a-z0-9-]+)==' requirements.lock | tr -d =)
lock: setup ## resolve pyproject.toml into requirements.lock, with hashes, for Python 3.11 to 3.13, and for the images
	$(COMPILE) pyproject.toml $(LOCKED:%=--extra %) --upgrade -o requirements.lock
	$(MAKE) image-locks

image-locks:
	$(COMPILE) --no-annotate -c requirements.lock pyproject.toml --extra serve \
		--override docker/locks/not-in-serve.txt -o docker/locks/serve.lock
	$(COMPILE) --no-annotate -c requirements.lock pyproject.toml --extra cloud --extra export --extra postgres --extra serve \
		$(GPU_LIBRARIES:%=--no-emit-package %) -o docker/locks/train.lock
	printf 'torch\ntorchvision\n' | $(COMPILE) --no-annotate -c requirements.lock - -o docker/locks/torch-cuda.lock
	grep '^[#-]' docker/locks/torch-cpu.lock > docker/locks/torch-cpu.new
	grep -oE '^torch(vision)?==[^ ]+' docker/locks/torch-cuda.lock >> docker/locks/torch-cpu.new
	mv docker/locks/torch-cpu.new docker/locks/torch-cpu.lock

# DOCKER=podman works as well. An image says of which commit it is, and whether of changes too.
DOCKER ?= docker
TORCH ?= cpu
COMMIT = $(shell git rev-parse HEAD)$(shell git diff --quiet HEAD || echo -dirty)
images: image-train image-pipeline image-serve ## build the images of docker/ (TORCH=cpu or cuda)

image-train: BUILD_ARGS = --build-arg TORCH=$(TORCH)
image-pipeline: image-train
image-%:
	$(DOCKER) build -f docker/$*.Dockerfile -t landuse-$* --build-arg GIT_COMMIT=$(COMMIT) $(BUILD_ARGS) .

clean: ## remove .venv, caches and build products; data/ and outputs/ stay
	rm -rf $(VENV) build dist site htmlcov .coverage .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# Google Cloud, docs/google-cloud.md: settings are cloud.KEY=VALUE in ARGS, and --dry-run there shows what would be sent.
.PHONY: cloud-setup cloud-build cloud-train cloud-sweep cloud-serve cloud-status cloud-logs cloud-teardown
CLOUD = $(PYTHON) docker/gcp/cloud.py

cloud-setup: setup ## make what a Google Cloud project needs (ARGS="cloud.project=ID --dry-run")
	$(CLOUD) setup $(ARGS)

cloud-build: setup ## build, test and push the images there
	$(CLOUD) build $(ARGS)

cloud-train: setup ## train there, on Vertex AI (ARGS="cloud.project=ID cloud.machine=gpu model=resnet18 ...")
	$(CLOUD) train $(ARGS)

cloud-sweep: setup ## sweep there on several machines (ARGS="cloud.project=ID cloud.workers=4 n_trials=40 ...")
	$(CLOUD) sweep name=$(SWEEP) $(ARGS)

cloud-serve: setup ## serve a model there, on Cloud Run (ARGS="cloud.project=ID cloud.serve.model=...")
	$(CLOUD) serve $(ARGS)

cloud-status: setup ## list jobs, builds and the service there
	$(CLOUD) status $(ARGS)

cloud-logs: setup ## show the log of cloud.name=JOB, or of the service
	$(CLOUD) logs $(ARGS)

cloud-teardown: setup ## list what there is to delete there; ARGS=--delete deletes it
	$(CLOUD) teardown $(ARGS)
