PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := mfsynth pipelines benchmarks tests docs

.PHONY: demo test lint typecheck docs bench figures

# One environment, filled by what each target needs; a change of the pins fills it anew.
$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@echo "installing mfsynth and what it needs into $(VENV)"
	@$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@echo "installing mfsynth, its tests and linters into $(VENV)"
	@$(BIN)/pip install --quiet -c constraints.txt -e ".[azure,dev,docs,gcs,sim]"
	touch $@ $(VENV)/.installed

demo: $(VENV)/.installed
	$(BIN)/mfsynth generate local --out out/demo --set name=demo
	$(BIN)/mfsynth verify out/demo
	$(BIN)/mfsynth report out/demo

test: $(VENV)/.installed-dev
	$(BIN)/pytest -n auto --maxprocesses 4

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/lint-imports

typecheck: $(VENV)/.installed-dev
	$(BIN)/mypy

# The site, strictly: a warning, or a link that leads nowhere, is an error.
docs: $(VENV)/.installed-dev
	$(BIN)/python docs/site/build_site.py

# Calibration, tables and pictures of the embedded model, anew. An afternoon of two slow cores.
figures: SHELL := /bin/bash -o pipefail
figures: PYTHON := OMP_NUM_THREADS=1 $(BIN)/python
figures: PAGE := $(BIN)/python benchmarks/into_page.py
figures: $(VENV)/.installed-dev
	$(BIN)/mfsynth calibrate simulator --out configs/calibrations/embedded.json
	$(PYTHON) benchmarks/goals.py --model embedded --label "version 6" --scenes shapes \
		| $(PAGE) docs/results/embedded_model.md goals
	$(PYTHON) benchmarks/few_steps.py --student mfsynth/models/embedded/few_steps \
		| $(PAGE) docs/results/embedded_model.md few-steps
	$(PYTHON) benchmarks/sampling.py --flops | $(PAGE) docs/reference/sampling.md flops
	$(PYTHON) benchmarks/sampling.py --plans --pairs 4 --rounds 2 --batch-size 4 \
		| $(PAGE) docs/reference/sampling.md plans
	$(PYTHON) benchmarks/depth_errors.py --scenes 24 --size 128 | $(PAGE) docs/how-to/jobs.md depth-errors
	$(PYTHON) benchmarks/completion.py | $(PAGE) docs/how-to/jobs.md completion
	$(PYTHON) benchmarks/completion.py --library tabletop_rooms --style varied \
		| $(PAGE) docs/how-to/jobs.md completion-elsewhere
	$(PYTHON) benchmarks/episodes.py --scenes 4 --frames 5 | $(PAGE) docs/how-to/jobs.md episodes
	$(BIN)/mfsynth train benchmarks/judge_estimator.yaml
	$(PYTHON) benchmarks/generators.py --judge out/train/judge_estimator/model --pairs 128 \
		| $(PAGE) docs/how-to/estimators.md generators
	$(MAKE) demo
	$(BIN)/python benchmarks/gallery.py

bench: $(VENV)/.installed-dev
	$(BIN)/mfsynth calibrate benchmarks/real_frames.yaml
