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

# two processes with a Spark session each: a session waits for its driver half of the time
test: setup      ## set up, then run the tests (lint and layering among them)
	.venv/bin/ruff check .
	$(PY) -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

test-slow: setup ## the slow tests: kills, clusters, full nights
	$(PY) -m pytest -m slow

.venv-airflow/ready: airflow_dags/requirements.lock .venv/ready
	@test -x .venv-airflow/bin/python || python3 -m venv .venv-airflow
	.venv/bin/uv pip sync --quiet --python .venv-airflow/bin/python airflow_dags/requirements.lock
	@touch .venv-airflow/ready

.airflow/ready: .venv-airflow/ready
	AIRFLOW_HOME=$(CURDIR)/.airflow .venv-airflow/bin/airflow config list >/dev/null 2>&1      # writes airflow.cfg
	# SQLite waits up to a minute for its turn: a month of runs is made in one go while a scheduler is writing
	sed -i -e 's#^dags_folder = .*#dags_folder = $(CURDIR)/airflow_dags#' -e 's#^load_examples = .*#load_examples = False#' \
		-e 's#^\(sql_alchemy_conn = sqlite:.*\.db\)$$#\1?timeout=60#' .airflow/airflow.cfg
	@touch .airflow/ready

# a submit on one machine: as few partitions as the sessions of `recs` have, and Java as they start it
HERE := --master local[*] --driver-memory 2g --conf spark.sql.shuffle.partitions=4 --conf spark.default.parallelism=4 \
	--conf spark.sql.sources.parallelPartitionDiscovery.parallelism=4 --conf spark.ui.enabled=false \
	--driver-java-options '-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m -XX:+UseParallelGC -Xss4m'

airflow: .airflow/ready   ## Airflow's page with the DAGs, on the embedded default (http://localhost:8080; the password is printed)
	AIRFLOW_HOME=$(CURDIR)/.airflow RECS_SUBMIT="$${RECS_SUBMIT:-$(HERE)}" PATH=$(CURDIR)/.venv-airflow/bin:$$PATH airflow standalone

test-airflow: .venv-airflow/ready   ## the DAGs in Airflow's own environment (WHOLE=1: a night by its runner, too)
	AIRFLOW_HOME=$(CURDIR)/.airflow-test AIRFLOW__CORE__LOAD_EXAMPLES=False WHOLE=$(WHOLE) .venv-airflow/bin/python -m pytest -c /dev/null --rootdir airflow_dags -q airflow_dags/tests

.venv-analyst/ready: requirements-analyst.txt pyproject.toml .venv/ready
	@test -x .venv-analyst/bin/python || python3 -m venv .venv-analyst
	.venv/bin/uv pip sync --quiet --python .venv-analyst/bin/python requirements-analyst.txt
	.venv/bin/uv pip install --quiet --python .venv-analyst/bin/python -c requirements-analyst.txt 'pytest>=8'
	.venv/bin/uv pip install --quiet --python .venv-analyst/bin/python --no-deps -e .
	@touch .venv-analyst/ready

test-analyst: .venv-analyst/ready   ## views, words, pictures and notebooks in the analysts' own environment, without a JVM
	.venv-analyst/bin/python -m pytest tests/report/test_analyst.py

browser:         ## Debian's chromium, in which the tests look at the pages (root, or sudo)
	@command -v chromium >/dev/null || { $(if $(filter 0,$(shell id -u)),,sudo) apt-get update -qq && $(if $(filter 0,$(shell id -u)),,sudo) apt-get install -y -qq --no-install-recommends chromium; }

# mermaid and the search's worker come from npm, checked by hash; with them the site needs no network
.venv-docs/ready: docs/requirements.lock docs/npm.sha256 .venv/ready
	@command -v npm >/dev/null || { echo "npm is missing: apt-get install npm"; exit 1; }
	@test -x .venv-docs/bin/python || python3 -m venv .venv-docs
	.venv/bin/uv pip sync --quiet --python .venv-docs/bin/python docs/requirements.lock
	mkdir -p .venv-docs/npm && cd .venv-docs/npm && npm pack --silent mermaid@11.12.0 iframe-worker@1.0.4 >/dev/null && sha256sum --quiet -c ../../docs/npm.sha256
	cd .venv-docs/npm && tar -xzOf mermaid-*.tgz package/dist/mermaid.min.js > mermaid.min.js && tar -xzOf iframe-worker-*.tgz package/shim/index.js > iframe-worker.js
	@touch .venv-docs/ready

docs: .venv-docs/ready   ## the documentation site in site/ (open site/index.html); broken links are errors
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet

package: setup   ## dist/recs.zip: the wheel under a name that spark-submit --py-files accepts
	rm -rf dist build && $(PY) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	cp dist/recs-*.whl dist/recs.zip && rm -rf build

lint: setup
	.venv/bin/ruff check .

lock:            ## write requirements.lock anew from pyproject.toml
	.venv/bin/uv pip compile --quiet --no-emit-index-url --no-annotate --extra spark --extra train --extra trees --extra lm --extra dev -c constraints.txt --output-file requirements.lock pyproject.toml
	.venv/bin/uv pip compile --quiet --no-emit-index-url --no-annotate --extra analyst --output-file requirements-analyst.txt pyproject.toml

.PHONY: help setup nightly test test-slow airflow test-airflow test-analyst browser docs package lint lock
