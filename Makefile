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

# Tables and pictures of the embedded model, anew. Half an hour.
figures: SHELL := /bin/bash -o pipefail
figures: PAGE := $(BIN)/python benchmarks/into_page.py
figures: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/goals.py --model embedded --label "version 6" --scenes shapes \
		| $(PAGE) docs/results/embedded_model.md goals
	$(BIN)/python benchmarks/few_steps.py --student mfsynth/models/embedded/few_steps \
		| $(PAGE) docs/results/embedded_model.md few-steps
	$(MAKE) demo
	$(BIN)/python benchmarks/gallery.py

bench: $(VENV)/.installed-dev
	$(BIN)/mfsynth calibrate benchmarks/real_frames.yaml
