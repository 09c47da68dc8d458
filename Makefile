# make study   train, measure and show everything (DATASET=cifar10 PRESET=small DEVICE=cuda for other scales)
# (make study DATASET=path/to/folder ARGS="--image-size 48 --no-flip" for pictures of your own, see README)
# make test    check that the code does what the paper's formulas say
# make soak    kill it, fill its disk, feed it damaged files, at length: what was lost
# make lab     open the notebooks in JupyterLab
DATASET ?= digits
PRESET ?= $(if $(subst digits,,$(DATASET)),small,digits)
DEVICE ?= cpu
PYTHON ?= python3
RUN = .venv/bin/python -m

.PHONY: .venv study test soak audit lab records curvature experiments transfer adversary figures notebooks lock clean
.DEFAULT_GOAL := study

study: .venv
	$(RUN) penultimate study --dataset "$(DATASET)" --preset $(PRESET) --device $(DEVICE) $(ARGS)

test: .venv
	$(RUN) pytest

soak: .venv
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(RUN) soak

# Known holes in the pinned packages; the tool is installed for this alone, beside them.
audit:
	$(PYTHON) -m venv build/audit
	build/audit/bin/pip install --quiet pip-audit
	build/audit/bin/pip-audit --requirement requirements.txt --no-deps --disable-pip --strict

# On this machine alone, with Jupyter's token.
lab: .venv
	$(RUN) jupyter lab --ServerApp.ip=127.0.0.1 --ServerApp.root_dir=. notebooks/00_start_here.ipynb

# Bytecode is compiled when first used: that halves the time to install.
# The stamp is written last, so that an installation that was cut short is done again.
.venv: .venv/installed
.venv/installed: requirements.txt requirements-cuda.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --no-compile -r requirements.txt
	.venv/bin/pip install --quiet --no-deps --no-build-isolation -e .
	@touch .venv/installed

# For maintainers: renew what is committed; curvature, adversary and transfer leave the records that exist.
records: .venv
	$(RUN) penultimate train --dataset $(DATASET) --preset $(PRESET) --device $(DEVICE) --methods all --seeds 0-4 --jobs 2 --records data/records

curvature: .venv
	$(RUN) penultimate curvature --dataset $(DATASET) --preset $(PRESET) --device $(DEVICE) --methods all --seeds 0-4 --records data/records/curvature

adversary: .venv
	$(RUN) penultimate adversary --dataset $(DATASET) --preset $(PRESET) --device $(DEVICE) --methods all --seeds 0-4 --records data/records/adversary

experiments: .venv
	$(RUN) penultimate experiments --dataset $(DATASET) --preset $(PRESET) --device $(DEVICE) --jobs 2 --records data/records/experiments

transfer: .venv
	$(RUN) penultimate transfer --dataset $(DATASET) --preset $(PRESET) --device $(DEVICE) --methods all --seeds 0-4 --matrix --records data/records/transfer

figures: .venv
	$(RUN) penultimate report --publish

notebooks: .venv
	$(RUN) penultimate report --notebooks

# Pins that still fit stay; ARGS=--upgrade renews them all.
lock:
	cat requirements-cuda.txt requirements.txt | grep == > requirements-all.txt
	uv pip compile pyproject.toml --extra test --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url --quiet $(ARGS) -o requirements-all.txt
	( head -1 requirements-cuda.txt; grep -E '^(nvidia-|cuda-|triton)' requirements-all.txt ) > requirements-cuda.new && mv requirements-cuda.new requirements-cuda.txt
	( head -2 requirements.txt; grep -vE '^(nvidia-|cuda-|triton)' requirements-all.txt ) > requirements.new && mv requirements.new requirements.txt
	rm requirements-all.txt

clean:
	rm -rf .venv data/cache/study
