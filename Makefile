PYTHON ?= python3

.PHONY: lab test test-all check bench clean

lab test test-all check bench:
	$(PYTHON) lab.py $@

clean:
	rm -rf .venv dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
