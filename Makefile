PYTHON ?= python3

.PHONY: lab test test-all test-processors check docs bench test-oldest clean

lab test test-all test-processors check docs bench:
	$(PYTHON) lab.py $@

# with the lowest releases that pyproject.toml allows, in an environment of its own: make test-oldest PYTHON=python3.11
test-oldest:
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet -c tests/oldest.txt -e '.[dev,cluster]'
	.venv-oldest/bin/python -X warn_default_encoding -m pytest -n 2 --dist loadfile

clean:
	rm -rf .venv .venv-oldest dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
