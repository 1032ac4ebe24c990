# Two commands: `make book` and `make test`. Both make their own .venv from python >= 3.11.
PYTHON  ?= python3
PROFILE ?= ci
# notebooks at a time, 0: as many as the machine can
JOBS    ?= 0
# of `make table`
ENGINE  ?= laptop
VARIANT ?= released
THREADS ?= 1
GPUS    ?= 0
CORES   ?= 0
BOOK    ?= 1
# a file's name may hold what make or a shell would read: it reaches the command as it was typed
override TASK := $(value TASK)
SHELL_TASK := $(subst `,\`,$(subst $$,\$$,$(subst ",\",$(subst \,\\,$(TASK)))))
VENV    := .venv
STAMP   := $(VENV)/.installed
RUN     := $(VENV)/bin/python
ARQ     := $(RUN) -m arq_core

# What `make peers` fetched, and what the tests compare with it.
PEERS   := _build/peers
PEERED   = test ! -e $(PEERS)/.installed || export ARQ_D4RL_INFOS="$$PWD/$(PEERS)/d4rl/infos.py" ARQ_ROBOMIMIC="$$PWD/$(PEERS)" \
    ARQ_ROBOMIMIC_REGISTRY="$$PWD/$(PEERS)/robomimic/__init__.py"; \
    test ! -e $(PEERS)/.rliable || export ARQ_RLIABLE="$$PWD/$(PEERS)";

# How long an idle thread spins before it sleeps. Never (passive) makes steps of small networks up to three times slower on free cores; the
# default, a hundred times this, makes them ten times slower on cores that others use too. OMP_NUM_THREADS=1 is best there.
export GOMP_SPINCOUNT := 3000
export PYTHONUNBUFFERED := 1
# texts are UTF-8, whatever the terminal's language
export PYTHONUTF8 := 1

.DELETE_ON_ERROR:
.PHONY: help book test test-slow check row table collect peers bench links layout pdf wheel weights clean

help:
	@echo "These call the command arq of $(VENV), which has more: $(VENV)/bin/arq --help"
	@echo "make book [PROFILE=ci] [JOBS=1]             run the notebooks that changed (JOBS at a time) and build the book;"
	@echo "                                            PROFILE=ci trains all seeds of the maze and the bridge again"
	@echo "make test [ARGS=tests/theory]               run the tests, on all cores (with ARGS, as pytest reads them, in one process)"
	@echo "make test-slow                              run those that take minutes"
	@echo "make check                                  what a change must pass besides: ruff, lint-imports, pyright"
	@echo "make row TASK=door-human PROFILE=lite       train and evaluate one row of Table A.4"
	@echo "         [METHOD=arq+s_psi] [SEEDS=0,1,2]   TASK may be an HDF5 file of yours: add GROUP=adroit,"
	@echo "                                            and ENVIRONMENT=door-human to score it in that task's simulator,"
	@echo "                                            BOUNDS=-2:2 where its actions were recorded in another box than that one's"
	@echo "make table [PROFILE=ci] [TASKS=...]         Table A.4 from the notebooks: all cells that are missing, then rows, tables and book;"
	@echo "         [METHODS=...] [SEEDS=0,1,2]        says what it will cost first, and can be stopped and started again at any time;"
	@echo "         [ENGINE=slurm] [GPUS=1] [DRY=1]    DRY=1 plans only. workflow/README.md: on a cluster"
	@echo "make collect TASK=hopper-medium-recollected collect a dataset of our own by its recipe (several names in quotes)"
	@echo "make bench                                  measure the speed of the loops beside public implementations (10 minutes; installs"
	@echo "                                            those into .venv-bench first)"
	@echo "make peers                                  fetch d4rl's, robomimic's and rliable's own code, for the tests that compare ours with it"
	@echo "make links [OFFLINE=1]                      check every link of the built book and of the README (OFFLINE: not those to other hosts)"
	@echo "make layout [PAGES=executed/cloning]        look at every page of the built book in Chromium, at 1280 and 390 pixels: is anything cut?"
	@echo "make pdf                                    print the built book to _build/the-arq-book.pdf (Chromium, and pdfunite or gs)"
	@echo "make wheel [BORROW=site-packages]           build dist/ and try the wheel in an empty environment (BORROW: with what lies there)"
	@echo "make weights [ADDRESS=https://...]          train what data/weights.toml names, into _build/weights"
	@echo "make clean                                  remove what was built (keeps .venv, downloads and data/results)"

$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("python: saw %d.%d, expected 3.11 or later; set PYTHON=..." % sys.version_info[:2])'
	$(PYTHON) workflow/install.py $@ sim,book,grid,dev,export

book: $(STAMP)
	@$(ARQ) book --profile "$(if $(filter file,$(origin PROFILE)),page,$(PROFILE))" --jobs "$(JOBS)"

# A worker for each core and two more (tests/conftest.py), in one process with ARGS: make test ARGS="-k maze", ARGS=tests/theory, ARGS="-n 3".
# Those that take minutes measure memory and kill what runs: one after the other. What pytest compiles of the tests is kept for the next time.
test test-slow: export PYTHONDONTWRITEBYTECODE :=
test: $(STAMP)
	@$(PEERED) $(RUN) -m pytest $(or $(ARGS),-n auto --dist loadfile --no-loadscope-reorder)

test-slow: $(STAMP)
	@$(PEERED) $(RUN) -m pytest -m slow $(ARGS)

# The same three as in CONTRIBUTING.md and .pre-commit-config.yaml.
check: $(STAMP) $(VENV)/.lint
	$(VENV)/bin/ruff check .
	$(RUN) $(VENV)/bin/lint-imports
	$(RUN) $(VENV)/bin/pyright --pythonpath $(RUN)

$(VENV)/.lint: $(STAMP)
	$(PYTHON) workflow/install.py $@ lint

row: $(STAMP)
	@$(ARQ) row --profile "$(PROFILE)" --method "$(METHOD)" --seeds "$(SEEDS)" --group "$(GROUP)" \
	    --environment "$(ENVIRONMENT)" $(if $(BOUNDS),--bounds "$(BOUNDS)") -- "$(SHELL_TASK)"

table: $(STAMP)
	@$(ARQ) table --profile "$(PROFILE)" --tasks "$(TASKS)" --methods "$(METHODS)" \
	    --seeds "$(SEEDS)" --engine "$(ENGINE)" --variant "$(VARIANT)" --threads "$(THREADS)" \
	    --gpus "$(GPUS)" --cores "$(CORES)" $(if $(DRY),--plan) $(if $(filter 0,$(BOOK)),--no-book)

# In an environment of its own: d3rlpy pins another gymnasium. torch comes first, so that nothing else chooses a build of it.
.venv-bench/.installed: benchmarks/peers.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -c benchmarks/peers.txt torch
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/peers.txt
	@touch $@

collect: $(STAMP)
	@$(ARQ) collect $(TASK)

bench: $(STAMP) .venv-bench/.installed
	@$(RUN) benchmarks/speed.py --write

# What readers and statistics are compared with in the tests: packages without what they depend on. Not needed to use anything.
FETCH  = $(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --target $(PEERS)
peers: $(STAMP)
	@test -e $(PEERS)/.installed || { $(FETCH) d4rl==1.1 robomimic==0.3.0 && touch $(PEERS)/.installed; }
	@test -e $(PEERS)/.rliable || { $(FETCH) rliable==1.2.0 arch==7.2.0 absl-py==2.5.1 && touch $(PEERS)/.rliable; }

links: $(STAMP)
	@$(ARQ) links $(if $(OFFLINE),--offline)

pdf: $(STAMP)
	@$(ARQ) pdf $(PAGES)

# What a release is made of; .github/workflows/release.yml calls both.
wheel:
	@rm -rf dist
	@$(PYTHON) workflow/wheel.py dist $(if $(BORROW),--borrow "$(BORROW)")

weights: $(STAMP)
	@$(ARQ) weights --make _build/weights $(if $(ADDRESS),--address "$(ADDRESS)")

layout: $(STAMP)
	@$(ARQ) layout $(PAGES)

clean:
	rm -rf _build book/executed build dist *.egg-info .pytest_cache .hypothesis
