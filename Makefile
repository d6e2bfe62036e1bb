# Two commands do everything: `make lab` opens JupyterLab on the gallery, `make test` proves the bench. Both set up what is missing first.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export OMP_NUM_THREADS ?= $(shell nproc 2>/dev/null || echo 2)

.PHONY: help setup lab test check notebooks pytest readme site weights clean

help:
	@echo "make lab      set up, then open JupyterLab on the gallery of all chapters"
	@echo "make test     set up, then run every check and test"
	@echo "make weights  train what is shipped (hours on a CPU; resumes where it stopped)"
	@echo "make readme   write README.md from nbs/index.ipynb"
	@echo "make site     the notebooks as web pages, in _docs (needs Quarto)"
	@echo "make clean    remove the environment, runs and caches"

setup: $(VENV)/.ready

# torch goes first and alone: its pin is the only line that decides between a CPU and a CUDA build
$(VENV)/.ready: constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("layerbench needs Python 3.11 or later; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12 " + "$(MAKECMDGOALS)") if sys.version_info < (3, 11) else None'
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $$(grep '^torch==' constraints.txt)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

lab: setup
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) nbs/gallery.ipynb

test: setup check notebooks pytest

# notebook and module must not differ, nor README and its notebook, nor would cleaning change a notebook
check: setup
	$(BIN)/python tests/drift.py

notebooks: setup
	OMP_NUM_THREADS=1 $(BIN)/nbdev_test --n_workers 2 --skip_file_re '^(perturbgan|layered_mi|onegan|comgan|ganseg|index)' --pause 0

pytest: setup
	$(BIN)/python -m pytest -q --durations=25 tests

readme: setup
	$(BIN)/python tests/readme.py

site: setup
	$(BIN)/python tests/site_pages.py

weights: setup
	papers/perturbgan/weights.sh $(BIN)
	papers/layered_mi/weights.sh $(BIN)
	papers/onegan/weights.sh $(BIN)
	papers/comgan/weights.sh $(BIN)
	papers/ganseg/weights.sh $(BIN)

clean:
	rm -rf $(VENV) runs ci-output build *.egg-info .pytest_cache
	find . -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf
