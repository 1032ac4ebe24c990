# Two commands: `make book` and `make test`. Both make their own .venv from python >= 3.11.
PYTHON  ?= python3
PROFILE ?= ci
VENV    := .venv
STAMP   := $(VENV)/.installed
RUN     := $(VENV)/bin/python

# Threads that wait must not spin: on shared cores spinning makes small matrix products several times slower.
export OMP_WAIT_POLICY := passive
export PYTHONUNBUFFERED := 1

.DELETE_ON_ERROR:
.PHONY: help book test row clean

help:
	@echo "make book [PROFILE=ci]                      run the notebooks that changed and build the book"
	@echo "make test                                   run the tests"
	@echo "make row TASK=door-human PROFILE=lite       train and evaluate one row of Table A.4"
	@echo "         [METHOD=arq+s_psi] [SEEDS=0,1,2]   TASK may be an HDF5 file of yours: add GROUP=adroit,"
	@echo "                                            and ENVIRONMENT=door-human to score it in that task's simulator"
	@echo "make clean                                  remove what was built (keeps .venv, downloads and data/results)"

$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("python: saw %d.%d, expected 3.11 or later; set PYTHON=..." % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[sim,book,dev]"
	$(RUN) -m pip check
	@touch $@

book: $(STAMP)
	@$(RUN) -m arq_core.book build --profile "$(PROFILE)"

test: $(STAMP)
	@$(RUN) -m pytest

row: $(STAMP)
	@$(RUN) -m arq_core.book row --task "$(TASK)" --profile "$(PROFILE)" --method "$(METHOD)" --group "$(GROUP)" --environment "$(ENVIRONMENT)" --seeds "$(SEEDS)"

clean:
	rm -rf _build book/executed build *.egg-info .pytest_cache .hypothesis
