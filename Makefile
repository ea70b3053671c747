# `make nightly` sets everything up and runs the night on a generated log; `make test` sets up and runs the tests.
.DEFAULT_GOAL := help
PY := .venv/bin/python

help:            ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ —/'

.venv/ready: requirements.lock pyproject.toml
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: apt-get install python3.11 python3.11-venv"; exit 1; }
	@test -x $(PY) || python3 -m venv .venv || { rm -rf .venv; echo "venv is missing: apt-get install python3-venv"; exit 1; }
	$(PY) -m pip install --quiet --disable-pip-version-check 'uv==0.13.9'
	.venv/bin/uv pip sync --quiet --python $(PY) requirements.lock
	.venv/bin/uv pip install --quiet --python $(PY) --no-deps --no-build-isolation -e .
	@touch .venv/ready

setup: .venv/ready          ## prepare .venv from requirements.lock

nightly: setup   ## set up, then run the whole night on the embedded default
	.venv/bin/recs night

test: setup      ## set up, then run the tests (lint and layering among them)
	.venv/bin/ruff check .
	$(PY) -m pytest -m "not slow"

test-slow: setup ## the slow tests: kills, clusters, full nights
	$(PY) -m pytest -m slow

package: setup   ## dist/recs.zip: the wheel under a name that spark-submit --py-files accepts
	rm -rf dist build && $(PY) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	cp dist/recs-*.whl dist/recs.zip && rm -rf build

lint: setup
	.venv/bin/ruff check .

lock:            ## write requirements.lock anew from pyproject.toml
	.venv/bin/uv pip compile --quiet --no-emit-index-url --no-annotate --extra spark --extra train --extra trees --extra lm --extra dev -c constraints.txt --output-file requirements.lock pyproject.toml

.PHONY: help setup nightly test test-slow package lint lock
