# Everything runs in .venv, which `make` creates by itself. `make help` lists what there is.
# Variables: PYTHON (3.11 or 3.10), PIP_ARGS (for example an index), TEST_JOBS, DEMO (short: small budget, no bar).

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup controller demo test test-all check format bench results docs clean bench-peers

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
SUPPORTED := import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 10)))
PYTHON ?= $(shell for p in python3.11 python3.10 python3; do $$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && break; done)
PIP_ARGS ?=
TEST_JOBS ?= 2
PYTEST := $(BIN)/python -m pytest -q -n $(TEST_JOBS) --dist loadgroup

RUN := runs/peg_insertion/demo-$(shell date +%Y%m%d-%H%M%S)
DEMO ?= full
ifeq ($(DEMO),short)
DEMO_TRAIN := stop.steps=20000 stop.every_steps=10000 stop.success=null
DEMO_EVAL := --episodes 10
else
DEMO_TRAIN :=
DEMO_EVAL := --episodes 200 --min-success 0.95
endif

define WRONG_PYTHON
physai needs Python 3.11 (3.10 also works): the simulator, pybullet, is published ready-built for these two only.
Found: $(if $(PYTHON),$(PYTHON),python3) = $(shell $(if $(PYTHON),$(PYTHON),python3) --version 2>&1 | head -n 1)
Get 3.11 with one of
    sudo apt install python3.11 python3.11-venv     (Debian 12, or Ubuntu with the deadsnakes archive)
    pyenv install 3.11        uv python install 3.11        conda create -n py311 python=3.11
then: make setup PYTHON=/path/to/python3.11
endef
python_is = $(shell '$(PYTHON)' -c '$(1)' >/dev/null 2>&1 && echo yes)

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1|\2/' | column -t -s '|'

setup: $(READY) ## create .venv with everything in it (a second run does nothing)
	@echo "Ready: $(BIN)/physai (activate with: source $(BIN)/activate)"

$(READY): pyproject.toml constraints.txt
	$(if $(call python_is,$(SUPPORTED)),,$(info $(WRONG_PYTHON))$(error no usable Python))
	$(if $(call python_is,import ensurepip, venv),,$(error $(PYTHON) has no venv module: sudo apt install python3.11-venv))
	@echo "setup 1/3: $(VENV) with $$("$(PYTHON)" --version)"
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@echo "setup 2/3: packages, pinned by constraints.txt (about a minute once they are downloaded)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt setuptools
	@$(BIN)/python -m pip install --disable-pip-version-check --no-compile --no-build-isolation --progress-bar off $(PIP_ARGS) \
	    -c constraints.txt -e '.[train,dev]' 2>&1 | tee $(VENV)/setup.log | awk '\
	    /^Collecting/ { n++; sub(/[^A-Za-z0-9._-].*/, "", $$2); printf "%s%s", (n % 8 == 1 ? "\n  " : " "), $$2; fflush() } \
	    /^Installing collected/ { print "\n  installing ..."; fflush() } \
	    /^ERROR/ { print; fflush() }' || { echo "setup failed; pip's own words: $(VENV)/setup.log" >&2; exit 2; }
	@echo "setup 3/3: a look at this machine"
	@$(BIN)/physai doctor --quick
	@touch $(READY)

CONTROLLER ?= .venv-controller
SOURCES := pyproject.toml README.md LICENSE physai envs assets configs # built from a copy: setuptools leaves folders behind, and takes in old ones
controller: ## what a robot's controller needs and nothing else, below 200 MB, in CONTROLLER=.venv-controller
	$(if $(call python_is,$(SUPPORTED)),,$(info $(WRONG_PYTHON))$(error no usable Python))
	@test ! -e '$(CONTROLLER)' || { echo "$(CONTROLLER) is there already: remove it, or name another, CONTROLLER=..." >&2; exit 2; }
	"$(PYTHON)" -m venv $(CONTROLLER)
	copy=$$(mktemp -d); trap 'rm -rf "$$copy"' EXIT; cp -r $(SOURCES) "$$copy" && \
	    $(CONTROLLER)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile $(PIP_ARGS) -c constraints.txt "$$copy[deploy]"
	$(CONTROLLER)/bin/python -m pip uninstall --quiet --yes pip setuptools
	@echo "Ready: $(CONTROLLER)/bin/physai, $$(du -s --block-size=MB $(CONTROLLER) | cut -f1)"

demo: $(READY) ## train PegInsertion, evaluate it on 200 unseen episodes, export, verify, record (minutes)
	$(BIN)/physai train configs/peg_insertion.yaml name=$(notdir $(RUN)) $(DEMO_TRAIN)
	$(BIN)/physai eval $(RUN) $(DEMO_EVAL)
	$(BIN)/physai export $(RUN)
	$(BIN)/physai deploy verify $(RUN)/bundle
	$(BIN)/physai view $(RUN) --episodes 3 --record $(RUN)/rollout.mp4
	@printf '\nDone. Look at\n  %s  the policy at work\n  %s  200 episodes in numbers\n  %s  what a controller runs\n  %s\n' \
	    "$(RUN)/rollout.mp4    " "$(RUN)/evaluation.json" "$(RUN)/bundle/        " \
	    "$(BIN)/tensorboard --logdir $(RUN)    the curves"

test: $(READY) ## the tests, without the slow ones
	$(PYTEST) -m "not slow"

test-all: $(READY) ## all tests
	$(PYTEST)

check: $(READY) ## format, lint, types, and that the generated docs are up to date
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python docs/generate.py --check

format: $(READY) ## format the code and repair what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## speed of the environments and of training on this machine, and what became slower than the stored baseline
	$(BIN)/python benchmarks/guard.py
	$(BIN)/python benchmarks/env_speed.py
	$(BIN)/python benchmarks/train_speed.py

PEERS := .venv-peers
$(PEERS)/ready: benchmarks/peers/requirements.txt
	@echo "setup: $(PEERS), the libraries that physai is measured beside (minutes)"
	@test -x $(PEERS)/bin/python || "$(PYTHON)" -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -r $<
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) --no-deps --upgrade --target $(PEERS)/panda \
	    $$(grep ^panda-gym $<)
	@touch $@

bench-peers: $(READY) $(PEERS)/ready ## speed beside panda-gym, stable-baselines3 and RLlib, in a venv of their own
	$(BIN)/python benchmarks/peers/compare.py

results: $(READY) ## evaluate every shipped policy on 200 unseen episodes, and write docs/results.md and all other tables
	$(BIN)/python docs/results.py

docs: $(READY) ## write the generated pages (docs/tasks/, docs/results.md, README) from the tasks and the records of the policies
	$(BIN)/python docs/generate.py

clean: ## remove .venv, builds and caches; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -not -path './runs/*' -exec rm -rf {} +
