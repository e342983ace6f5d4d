# Every target makes .venv and installs what it needs. `make help` says what each does.
PYTHON ?= python3.11
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help setup demo test check slow bench soak arm fuzz

help: ## Say what each target does
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

setup: .venv/installed ## Make .venv and install everything for the workstation

.venv/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv && $(BIN)/pip install -q --disable-pip-version-check -c constraints.txt 'torch' 'torchvision'
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[workstation,dev]' && touch .venv/installed

.venv/tensorflow: .venv/installed
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[tensorflow]' && touch .venv/tensorflow

.venv/fuzz: .venv/installed
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[fuzz]' && touch .venv/fuzz

demo: setup ## Run the whole way on the embedded photographs: teacher, students, export, profile, camera, report
	$(BIN)/edgedistill demo

test: setup ## Run the quick tests
	$(BIN)/pytest -m 'not slow'

slow: setup .venv/tensorflow ## Run the slow tests: real conversions, a Keras teacher, killed processes, a clean device environment
	$(BIN)/pytest -m slow

check: setup ## Check style, format and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench: setup ## Measure speed and memory on this machine into runs/bench/results.json
	$(BIN)/python tests/bench

soak: setup ## Wear the camera loop down: outages, hostile cameras, 100,000 frames, kills; into runs/soak/results.json
	$(BIN)/python tests/soak

arm: setup ## Run everything a board runs in an emulated Raspberry Pi 4 (Debian on x86-64), into runs/arm/results.json
	$(BIN)/python tests/arm

fuzz: setup .venv/fuzz ## Fuzz the parsers written here, guided by their branches, a minute each (Linux); inputs that raise are in runs/fuzz
	$(BIN)/python tests/fuzz
