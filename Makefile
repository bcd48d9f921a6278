PYTHON ?= python3
# By name, because where a CPU build of this version is offered pip takes it instead of several GB of CUDA;
# for another build: make demo TORCH="torch --index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check test-full train-pocket figures clean

demo: $(VENV)/.demo
	$(BIN)/python examples/demo.py

test: $(VENV)/.test check
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n 2

check: $(VENV)/.test
	$(BIN)/ruff check src tests examples benchmarks
	$(BIN)/ruff format --check src tests examples benchmarks
	$(BIN)/basedpyright --level error
	$(BIN)/lint-imports

test-full: $(VENV)/.test check
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -m ''

# Both stages of the pocket model, about an hour on two cores; stop it at any time, the next call goes on
train-pocket: $(VENV)/.demo
	$(BIN)/eightfold train autoencoder configs/pocket-autoencoder.toml --out runs/pocket-autoencoder --resume
	$(BIN)/eightfold train denoiser configs/pocket-denoiser.toml --out runs/pocket-denoiser --resume

# The pictures and tables of docs/latent-space.md, half an hour on one core the first time; stop it at any time, the next call goes on
figures: $(VENV)/.demo
	$(BIN)/python examples/latent_space.py

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo]'
	touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) demo build dist
