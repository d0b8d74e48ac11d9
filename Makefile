# Everything a fresh machine needs: python3.11+ with venv, make and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORES ?= all
FUZZ_SECONDS ?= 60
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: tables demo-study rehearsal all test test-slurm test-remote campaign-slurm test-slow matrix kills fuzz bench gpu lint format env clean

tables: env            ## the embedded demo: tables and figures
	snakemake --cores $(CORES) results/tables results/figures
	@cat results/tables/demo/main.md

demo-study: env        ## every experiment at demo size, 40 minutes on two cores
	snakemake --cores $(CORES) results/tables results/figures --configfile config/study.yaml

rehearsal: env         ## the paper in small: made-up data, tiny networks, every table and figure, 20 minutes on two cores
	OMP_NUM_THREADS=1 foundad rehearse --configfile config/paper.yaml

all: env               ## everything the run config selects
	snakemake --cores $(CORES)

test: env lint         ## the whole test suite
	OMP_NUM_THREADS=1 python -m pytest -n 2 --dist worksteal

test-slurm: env        ## a study on a real Slurm that starts on this machine (Debian, as root)
	command -v slurmctld >/dev/null || (apt-get update -qq && apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge)
	OMP_NUM_THREADS=1 python -m pytest tests/workflow/test_slurm.py -m "slurm and not slow" -n 0

campaign-slurm: env    ## thirty-five faults on that Slurm, and the same bytes after each; an hour
	OMP_NUM_THREADS=1 python -m pytest tests/workflow/test_slurm.py -m "slurm and slow" -n 0

test-remote: env       ## a study whose results lie in a bucket and whose jobs share no disk, ten minutes
	python -m pip install --quiet snakemake-storage-plugin-s3 snakemake-executor-plugin-cluster-generic "moto[server]"
	OMP_NUM_THREADS=1 python -m pytest tests/workflow/test_remote.py -m remote

test-slow: env         ## what takes longer than the suite should
	python -m pytest -m "slow and not slurm"

matrix: env            ## the staleness matrix: every edit and whether it makes exactly the right jobs stale
	OMP_NUM_THREADS=1 python tests/workflow/matrix.py
	OMP_NUM_THREADS=1 python -m pytest tests/workflow/test_staleness.py -m slow -k "bytes or back"

kills: env             ## kills, Ctrl-C, full disks and too little memory in every stage, two hours
	OMP_NUM_THREADS=1 python -m pytest tests/workflow/test_kills.py -m slow

fuzz: env              ## mutated files for every reader, half an hour of processor time; 1 if anything breaks
	OMP_NUM_THREADS=1 python tests/fuzz/driver.py --seconds $(FUZZ_SECONDS)

# Memory is kept by the process as in the workflow's jobs (Snakefile).
bench: export MALLOC_MMAP_THRESHOLD_ := 1073741824
bench: export MALLOC_TRIM_THRESHOLD_ := 2147483648
bench: env             ## every benchmark, an hour and a quarter, then results/benchmarks.md
	OMP_NUM_THREADS=1 python benchmarks/startup.py
	OMP_NUM_THREADS=1 python benchmarks/workflow.py
	OMP_NUM_THREADS=1 python benchmarks/synthesis.py
	env -u MALLOC_MMAP_THRESHOLD_ -u MALLOC_TRIM_THRESHOLD_ OMP_NUM_THREADS=1 python benchmarks/training_step.py
	python benchmarks/features.py
	python benchmarks/features.py --memory
	OMP_NUM_THREADS=1 python benchmarks/precision.py
	OMP_NUM_THREADS=1 python benchmarks/search.py
	OMP_NUM_THREADS=1 python benchmarks/anoco.py
	OMP_NUM_THREADS=1 python benchmarks/api.py
	OMP_NUM_THREADS=1 python benchmarks/coreset.py
	OMP_NUM_THREADS=1 python benchmarks/trained_rivals.py
	OMP_NUM_THREADS=1 python benchmarks/study.py
	OMP_NUM_THREADS=1 python benchmarks/study.py --precision bfloat16
	test -z "$$FOUNDAD_DATA" || OMP_NUM_THREADS=1 python benchmarks/bank.py
	test -z "$$FOUNDAD_DATA" || OMP_NUM_THREADS=1 python benchmarks/bank.py --precision bfloat16
	OMP_NUM_THREADS=1 python benchmarks/metrics.py --images 16
	OMP_NUM_THREADS=1 python benchmarks/folders.py
	OMP_NUM_THREADS=1 python benchmarks/evaluation.py
	python benchmarks/summary.py

gpu: env               ## a GPU's acceptance: numbers equal to the CPU's, throughput beside the floors, six minutes
	python benchmarks/gpu.py

lint: env
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	mypy
	oxlint --deny-warnings foundad/report/page foundad/report/predictions
	foundad validate

format: env
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow

# The environment is made anew when the lock file changes; a half-made one has no stamp and is made again.
env: $(VENV)/.stamp

$(VENV)/.stamp: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("python 3.11 or newer is needed: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

clean:                 ## results of the workflow, not the environment
	find results -mindepth 1 -maxdepth 1 ! -name reference ! -name README.md -exec rm -rf {} +
