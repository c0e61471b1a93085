# Short names. `run` and `test` are the two lines of README.md (a test holds them equal).
.PHONY: run test check audit screenshots accuracy validity faults load bench bench-first bench-read bench-screen memory scaling

run:
	{ python3 -m venv .venv || { echo "Python's venv is missing (Debian, Ubuntu: apt install python3-venv)" >&2; false; }; } && .venv/bin/python -m pip install -q -c constraints.txt -e . && .venv/bin/milscope

test:
	{ python3 -m venv .venv || { echo "Python's venv is missing (Debian, Ubuntu: apt install python3-venv)" >&2; false; }; } && .venv/bin/python -m pip install -q -c constraints.txt -e '.[test]' && .venv/bin/python -m pytest

check:
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy

accuracy:
	.venv/bin/python -m tests.accuracy

validity:
	.venv/bin/python -m tests.validity

screenshots:
	.venv/bin/python -m tests.screenshots

faults:
	.venv/bin/python -m tests.faults

load:
	.venv/bin/python -m tests.load

audit:
	.venv/bin/python -m venv .venv/audit && .venv/audit/bin/python -m pip install -q pip-audit==2.10.1 && .venv/audit/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt

bench:
	.venv/bin/python -m venv .venv/peers && .venv/peers/bin/python -m pip install -q -c constraints.txt -e . torchmil==1.0.2 openTSNE==1.0.4 && .venv/peers/bin/python -m tests.bench.compare

bench-first:
	.venv/bin/python -m tests.bench.first

memory:
	.venv/bin/python -m tests.bench.memory

scaling:
	.venv/bin/python -m tests.bench.scaling

bench-screen:
	.venv/bin/python -m tests.bench.screen

bench-read:
	.venv/bin/python -m tests.bench.read
