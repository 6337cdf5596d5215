# The Python that makes the environment: any 3.11 or later.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EDITABLE := -e . -e plugins/et-appzoo -e 'plugins/et-bert[minilm]' -e 'plugins/et-hcnn[jieba]' -e plugins/et-adabert

.PHONY: install quickstart test test-slow bench lint types contracts check lock clean

install: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml plugins/et-appzoo/pyproject.toml plugins/et-bert/pyproject.toml \
		plugins/et-hcnn/pyproject.toml plugins/et-adabert/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.5,<1'
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps $(EDITABLE)
	touch $@

quickstart: install
	$(BIN)/python -m et_appzoo.demo

test: install
	ET_PLUGINS_STRICT=1 $(BIN)/python -m pytest -n 2 --dist loadscope

test-slow: install
	ET_PLUGINS_STRICT=1 $(BIN)/python -m pytest -m slow --timeout=1800

bench: install
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/predict.py
	$(BIN)/python benchmarks/finetune.py

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

contracts: install
	$(BIN)/lint-imports

check: lint types contracts

# Pins the whole environment anew, as plain name==version lines.
lock:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'uv>=0.5,<1'
	$(BIN)/uv pip install --quiet --python $(BIN)/python --upgrade --group dev $(EDITABLE) 'et-core[tensorboard]'
	$(BIN)/uv pip freeze --python $(BIN)/python --exclude-editable > requirements.lock

clean:
	rm -rf $(VENV) build dist demo
