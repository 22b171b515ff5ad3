# One name per job, the same on a laptop and in CI. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help env book test quick lab clean lint lock
.PHONY: types coverage audit canary environments linkcheck pdf epub axe

# uv from PATH, else a private copy: works where pip refuses to install outside an environment (PEP 668).
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
export OMP_NUM_THREADS ?= 1

# uv, PyTensor, Matplotlib and Jupyter keep caches below HOME. Where nothing can be written, they go below _build.
ifneq ($(HOME),)
ifneq ($(shell made=$$(mktemp -d "$$HOME/.fieldguide.XXXXXX" 2>/dev/null) && rmdir "$$made" && echo writable),writable)
$(info $(HOME) cannot be written to: caches go to _build/home)
export HOME := $(shell mkdir -p _build/home)$(CURDIR)/_build/home
endif
endif

help:  ## list the jobs
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 8

.uv/bin/uv:
	@python3 -m pip install --quiet --root-user-action ignore --disable-pip-version-check --target .uv uv || { \
	  echo "uv could not be fetched: python3 with pip and access to the Python package index are needed."; exit 1; }

env: $(filter .uv/bin/uv,$(UV))  ## make the environment in .venv from the lock
	@python=$$($(UV) python find 2>/dev/null || $(UV) python find '>=3.12' 2>/dev/null || \
	  { $(UV) python install --quiet 2>/dev/null && $(UV) python find; }) || { \
	  echo "No Python 3.12 or later was found and none could be downloaded: install Python 3.13 (python.org, pyenv or your package manager) and run make again."; exit 1; }; \
	sync() { $(UV) sync --locked --quiet --python "$$python" "$$@"; }; \
	sync && { [ .venv/compiled -nt uv.lock ] || { sync --compile-bytecode && touch .venv/compiled; }; }

# The build ends with make, even if make is killed.
book: env  ## run the notebooks and build the site into _build/html
	@FIELDGUIDE_STOPS_WITH=$$PPID exec .venv/bin/python -m fieldguide.build

pdf: env  ## bind the built book as one PDF (needs Chromium or Chrome)
epub: env  ## bind the built book as an ePub (needs Chromium or Chrome)
pdf epub:
	@FIELDGUIDE_STOPS_WITH=$$PPID exec .venv/bin/python -m fieldguide.paper $@

# As many tests at a time as there are cores; on one core, or with a debugger: .venv/bin/python -m pytest
PYTEST := .venv/bin/python -m pytest -n auto --dist worksteal

test: env  ## run the tests (they build the book first, unless it is built)
	$(PYTEST)

quick: env  ## run the tests that take little time and need no built book
	$(PYTEST) -m "not slow and not book"

axe: env  ## let axe look at every page, wide and narrow, light and dark, folds open and shut (minutes)
	FIELDGUIDE_AXE=all $(PYTEST) tests/test_access.py -k axe

lab: env  ## open JupyterLab on the notebooks
	.venv/bin/jupyter lab notebooks

.PHONY: student handout grade
student: env  ## make the folder for students: chapters and assignments, without solutions
	@.venv/bin/python -m fieldguide.course student

# COURSE is the course's folder; see the guide for instructors in book/teaching.
handout: env  ## write what each student of a course is given: COURSE=folder
	@test -n "$(COURSE)" || { echo "Say which course: make handout COURSE=folder"; exit 1; }
	@.venv/bin/python -m fieldguide.course handout "$(COURSE)" $(ASSIGNMENT)

grade: env  ## grade what was handed in: COURSE=folder ASSIGNMENT=cure, DASK=address
	@test -n "$(COURSE)" || { echo "Say which course: make grade COURSE=folder ASSIGNMENT=cure"; exit 1; }
	@.venv/bin/python -m fieldguide.course grade "$(COURSE)" $(ASSIGNMENT) $(if $(SUBMISSIONS),--submissions "$(SUBMISSIONS)") $(if $(DASK),--dask $(DASK))

.PHONY: seeds mutants
# "make seeds 20" and "make seeds N=20" are the same; the number is no job of its own.
ifneq ($(filter seeds,$(MAKECMDGOALS)),)
NUMBERS := $(shell printf '%s\n' $(MAKECMDGOALS) | grep -xE '[0-9]+')
N = $(or $(firstword $(NUMBERS)),20)
ifneq ($(NUMBERS),)
.PHONY: $(NUMBERS)
$(NUMBERS): ; @:
endif
endif
seeds: env  ## run every chapter with N other seeds (make seeds 20), and count how often each claim held
	.venv/bin/python tests/seeds.py $(N)

mutants: env  ## change the project in many small ways, and see which change no check notices (hours)
	.venv/bin/python tests/mutants $(MUTANTS)

lint: env  ## check the style of code and notebooks
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: env  ## check the types of the package
	.venv/bin/mypy

coverage: env  ## run the tests and say which lines and branches of src they reach
	@rm -f .coverage .coverage.*
	$(PYTEST) --cov --cov-report= --cov-fail-under=0
	.venv/bin/coverage report

audit: $(filter .uv/bin/uv,$(UV))  ## ask whether a weakness is known in what is locked
	@$(UV) audit --locked --preview-features audit-command || { code=$$?; \
	  echo "If no answer came from api.osv.dev, nothing is known: run it where that service can be reached."; exit $$code; }

canary: env  ## try the newest versions in a copy: PYTHON=3.12, ONLY=versions
	@.venv/bin/python tests/canary.py --uv $(UV) $(if $(PYTHON),--python $(PYTHON)) $(if $(ONLY),--only $(ONLY))

environments: env  ## make each environment in an empty folder and run a chapter there: DOORS=download
	@.venv/bin/python tests/environments.py $(DOORS)

linkcheck: env  ## follow every link that leads out of the book, and list those that are dead
	@.venv/bin/python tests/linkcheck.py

lock: $(filter .uv/bin/uv,$(UV))  ## renew uv.lock and requirements.txt after a change in pyproject.toml
	$(UV) lock
	$(UV) export --locked --extra book --no-hashes --no-header --no-emit-project --no-dev --no-annotate --quiet > requirements.txt
	$(UV) export --locked --extra course --no-hashes --no-header --no-emit-project --no-dev --no-annotate --quiet > assignments/requirements.txt

clean:  ## delete what was built, keep the environment
	rm -rf _build .pytest_cache .ruff_cache .mypy_cache
