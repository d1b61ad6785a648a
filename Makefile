# `make results` reproduces the study with the default config, `make test` runs the tests; `make help` lists all.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
CORES ?= all
CONFIG ?=
KILLS ?= 36
TRAININGS ?= 200
PROFILE ?=
VERBOSE ?=
TORCH ?=
SEED ?=
SEEDS ?= 5
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
# The environment takes about 6 GB with the CUDA libraries that PyTorch brings, the default results 0.9 GB.
NEEDED_MB := $(if $(filter cpu,$(TORCH)),4000,8000)

# The values are text: neither make nor the shell, which reads them from its environment, runs what is in them.
SETTINGS := PYTHON CORES CONFIG KILLS TRAININGS PROFILE VERBOSE TORCH SEED SEEDS
$(foreach name,$(SETTINGS),$(eval override $(name) := $$(value $(name))))
export $(SETTINGS)
export PATH := $(BIN):$(PATH)

# With another seed everything is trained anew, in a folder of its own.
SEEDED := $(if $(SEED),--config "seed=$$SEED" --directory "results/seeds/$$SEED")
SNAKEMAKE := intrinsic-lr snakemake $(SEEDED) $(if $(PROFILE),--profile "$$PROFILE",--cores "$$CORES")
# $(call files,--option) makes the option and the files of CONFIG the shell's arguments, none where CONFIG is empty.
# CONFIG is one file, whose name may have spaces, or several without.
files = set -f; if test -f "$$CONFIG"; then set -- $(1) "$$CONFIG"; elif test -n "$$CONFIG"; then set -- $(1) $$CONFIG; fi
# $(folder) puts the folder of the study's tables, figures and page into the shell's variable of that name. It lies in the
# folder of the seed where one is given.
made = $(if $(SEED),results/seeds/$$SEED/)$$folder
folder = $(call files,--config); folder=$$(intrinsic-lr status --folder "$$@")

.PHONY: help results smoke report audit status estimate stability scorecard test test-long test-all test-faults test-fuzz test-slurm test-s3 bench docs lint check clean

help: ## list what can be asked for
	@grep -hE '^[a-z0-9-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /\t/' | expand -t 14
	@echo "variables:  CORES=$$CORES (cores to use), CONFIG=FILE... (override config/config.yaml, in this order), SEED=1 (make results with this study seed in results/seeds/1), SEEDS=$$SEEDS (how many for make stability), PROFILE=profiles/slurm (run on a cluster), VERBOSE=1 (all that Snakemake prints), TORCH=cpu or no-triton (a smaller environment, see envs/README.md), PYTHON=$$PYTHON"

results: $(VENV)/runtime.stamp ## train everything and draw the figures of the study into results/
	@$(call files,--configfile); echo "== running the workflow: $(SNAKEMAKE) $$*"; $(SNAKEMAKE) "$$@"
	@$(folder); echo "== done: open $(made)/report.html; verdicts in $(made)/claims.csv, figures in $(made)/figures, tables in $(made)/tables"

smoke: export CONFIG := config/smoke.yaml
smoke: results ## run every kind of rule on tiny networks, in about a minute

report: $(VENV)/runtime.stamp ## bring the page report.html up to date, and write Snakemake's own report beside it
	@$(call files,--configfile); $(SNAKEMAKE) report "$$@"
	@$(folder); $(call files,--configfile); $(SNAKEMAKE) --report "$$folder/snakemake-report.html" "$$@"
	@$(folder); echo "== done: $(made)/report.html (verdicts, figures, tables), $(made)/snakemake-report.html (the workflow's record)"

audit: $(VENV)/runtime.stamp ## compare results/ with the config (CONFIG=...): stale, missing, damaged, foreign
	@$(call files,--config); intrinsic-lr audit "$$@"

status: $(VENV)/runtime.stamp ## say how far a study is (CONFIG=...): done, running, waiting, failed, time left
	@$(call files,--config); intrinsic-lr status "$$@"

estimate: $(VENV)/runtime.stamp ## say what a study will take (CONFIG=...): member-steps, hours on this machine, disk
	@$(call files,--config); intrinsic-lr estimate --cores "$$CORES" "$$@"

stability: $(VENV)/runtime.stamp ## run the study (CONFIG=...) with the seeds 0 to SEEDS - 1, and compare the verdicts
	@for ((seed = 0; seed < SEEDS; seed++)); do echo "== seed $$seed"; $(MAKE) --no-print-directory scorecard SEED="$$seed"; done
	@$(call files,--config); intrinsic-lr stability "$$@" --folders $$(seq -f results/seeds/%.0f 0 $$((SEEDS - 1)))

scorecard: $(VENV)/runtime.stamp
	@$(call files,--configfile); $(SNAKEMAKE) scorecard "$$@"

test: $(VENV)/dev.stamp ## run the tests, but for the long ones
	@echo "== running the tests"
	@python -m pytest -n 2 --dist worksteal

test-long: $(VENV)/dev.stamp ## run the long tests alone: kills, determinism, many trainings in one run
	@echo "== running the long tests, $$TRAININGS trainings in one run"
	@python -m pytest -n 2 --dist worksteal -m "long and not slurm and not s3" --trainings "$$TRAININGS"

test-all: test test-long ## run all tests

test-faults: $(VENV)/dev.stamp ## kill, damage and soak it as often as docs/reliability.md says (about 25 minutes)
	@echo "== running the tests of faults: $$KILLS kills, $$TRAININGS trainings in one run"
	@python -m pytest tests/faults -m "long or not long" --kills "$$KILLS" --trainings "$$TRAININGS"

test-fuzz: $(VENV)/dev.stamp ## try 2,000 configs with something wrong in them
	@echo "== trying 2,000 configs (about 5 minutes on one core)"
	@python -m pytest $$(git ls-files '*test_fuzz.py') --hypothesis-profile many --hypothesis-show-statistics

test-slurm: $(VENV)/dev.stamp $(VENV)/slurm.stamp ## run the workflow on a virtual Slurm cluster that loses jobs and nodes (as root)
	@echo "== running the tests on a virtual Slurm cluster"
	@tests/slurm/run

test-s3: $(VENV)/dev.stamp $(VENV)/s3.stamp ## run the workflow with its files in a bucket of a server on loopback
	@echo "== running the tests on S3"
	@python -m pytest -m s3 tests/s3

bench: $(VENV)/runtime.stamp ## measure how fast it runs, against plain PyTorch and the machine's limit
	@echo "== running the benchmarks (about 15 minutes on two cores)"
	@python -m benchmarks

docs: $(VENV)/dev.stamp ## build the documentation into site/, with warnings as errors
	@python docs/configuration.py
	@python docs/rooms.py docs/figures/rooms.svg
	@snakemake --rulegraph 2> /dev/null | python docs/rulegraph.py docs/figures/rulegraph.svg
	@python -m sphinx -W --keep-going --quiet -b html docs site
	@echo "== done: open site/index.html"

lint: $(VENV)/dev.stamp ## check code style, imports between rooms, and workflow conventions
	@echo "== ruff, lint-imports, snakefmt, snakemake --lint"
	@ruff check .
	@ruff format --check .
	@lint-imports --no-logo
	@snakefmt --check Snakefile workflow
	@snakemake --lint

clean: ## remove the environment (results stay)
	rm -rf $(VENV)

$(VENV)/runtime.stamp: envs/requirements.txt pyproject.toml | check
	@$(MAKE) --no-print-directory install REQUIREMENTS="requirements$${TORCH:+-$$TORCH}.txt" NO_DEPS=$(if $(TORCH),--no-deps)
	@echo "$$TORCH" > $@

$(VENV)/dev.stamp: envs/requirements-dev.txt pyproject.toml | check
	@$(MAKE) --no-print-directory install REQUIREMENTS=requirements-dev.txt
	@touch $@ $(VENV)/runtime.stamp

$(VENV)/slurm.stamp $(VENV)/s3.stamp: $(VENV)/%.stamp: envs/requirements-%.txt | $(VENV)/runtime.stamp
	@$(MAKE) --no-print-directory install REQUIREMENTS=requirements-$*.txt
	@touch $@

.PHONY: install
install:
	@echo "== installing envs/$(REQUIREMENTS) into $(VENV) (once; about 6 GB with PyTorch's CUDA libraries)"
	@test -x $(BIN)/python || "$$PYTHON" -m venv $(VENV)
	@python -m pip install --quiet --disable-pip-version-check $(NO_DEPS) -r envs/$(REQUIREMENTS)
	@python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .

check:
	@[[ "$$PWD" != *:* ]] || { echo "error: expected a folder without a colon, which separates the folders in PATH, got $$PWD" >&2; exit 1; }
	@[[ "$$CORES" =~ ^([1-9][0-9]*|all)$$ ]] || { echo "error: CORES must be all or a whole number from 1 on, got $$CORES" >&2; exit 1; }
	@[[ "$$SEED" =~ ^[0-9]*$$ ]] || { echo "error: SEED must be a whole number from 0 on, got $$SEED" >&2; exit 1; }
	@[[ "$$SEEDS" =~ ^[1-9][0-9]{0,2}$$ ]] || { echo "error: SEEDS must be a whole number from 1 to 999, got $$SEEDS" >&2; exit 1; }
	@[[ "$$TORCH" =~ ^(|cpu|no-triton)$$ ]] || { echo "error: TORCH must be cpu or no-triton, or be left out, got $$TORCH" >&2; exit 1; }
	@test -z "$$TORCH" || test ! -s $(VENV)/runtime.stamp || grep -qx -- "$$TORCH" $(VENV)/runtime.stamp || { echo "error: TORCH=$$TORCH is for a new environment, and $(VENV) was installed without it; run make clean first" >&2; exit 1; }
	@$(call files); for file in "$$@"; do test -f "$$file" || { echo "error: CONFIG must name YAML files like config/smoke.yaml, got $$file" >&2; exit 1; }; done
	@command -v "$$PYTHON" > /dev/null || { echo "error: $$PYTHON not found; needed is Python 3.11 or newer (make PYTHON=...)" >&2; exit 1; }
	@"$$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $$PYTHON is $$("$$PYTHON" --version 2>&1); needed is Python 3.11 or newer (make PYTHON=...)" >&2; exit 1; }
	@free=$$(df -Pm . | awk 'NR == 2 {print $$4}'); test -e $(VENV)/runtime.stamp || test "$$free" -ge $(NEEDED_MB) || { echo "error: $$free MB free in $(CURDIR); needed are $(NEEDED_MB) MB for the environment and the results" >&2; exit 1; }
