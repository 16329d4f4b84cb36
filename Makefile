# Each target does its own set-up; the work is in bootstrap.py, which also runs without make:
#   python3 bootstrap.py demo
# Options go in ARGS:  make up ARGS="--proplets 3 --port 1884"

PYTHON ?= python3
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo up join test check bench soak guest clean

help:
	@$(PYTHON) bootstrap.py help

demo up join test check bench soak guest clean:
	@$(PYTHON) bootstrap.py $@ $(ARGS)
