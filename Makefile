# lucidteach: every target does its own set-up; a second call starts in seconds.
#   make compare   SDS against ISM on PROMPT, ends with the path of an HTML report
#   make test      every notebook and every test
#   make browser   only what is looked at in a browser; BROWSER_SHOTS=FOLDER keeps its screenshots
#   make fuzz      broken and hostile files for every reader, for MINUTES; what is found stays in fuzz-found/
#   make lab       JupyterLab on your own copy of the notebooks, in lucidteach-lab; LAB="--no-browser --port 8899" passes options on
#   make dev-lab   JupyterLab on the notebooks themselves, for contributors
#   make course    the lessons for students, teachers and grading programs, in build/course
#   make slides    the lessons as slides with speaker's notes, in build/slides, looked at in a browser
#   make site      the pages of the project, in build/site/html, looked at in a browser
PYTHON ?= python3
PROMPT ?= a red mug
MINUTES ?= 5
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
TORCH  := torch==2.13.0

.PHONY: compare test browser fuzz lab dev-lab course slides site doctor export readme chromium clean
.DEFAULT_GOAL := compare

$(VENV)/.lab: constraints.txt pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'lucidteach needs Python 3.11 or newer, this is ' + sys.version.split()[0] + ': make PYTHON=python3.11 $(MAKECMDGOALS)')"
	@echo "Installing into $(VENV): about 1.9 GB, a few minutes, once"
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH)
	$(PIP) -e ".[lab]"
	@touch $@

$(VENV)/.dev: $(VENV)/.lab
	$(PIP) -e ".[lab,formats,train,dev,site]"
	@touch $@

compare: $(VENV)/.lab
	$(BIN)/lucidteach compare "$(PROMPT)"

test: $(VENV)/.dev chromium
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist worksteal tests

# one process: its tests share one JupyterLab and one Chromium
browser: $(VENV)/.dev chromium
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE HF_HUB_OFFLINE=1 $(BIN)/python -m pytest tests/test_browser.py tests/test_explorers_browser.py tests/test_viewer.py

fuzz: $(VENV)/.dev
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE HF_HUB_OFFLINE=1 $(BIN)/python tests/fuzz/fuzz.py --minutes $(MINUTES)

lab: $(VENV)/.lab
	$(BIN)/lucidteach lab -- $(LAB)

# what is saved there is the source: `make export` writes the library from it
dev-lab: $(VENV)/.dev
	$(BIN)/lucidteach lab --originals -- $(LAB)

course: $(VENV)/.lab
	$(BIN)/lucidteach course build --out build/course

# slides and site are looked at too: whole, where the tests look at a part
slides: $(VENV)/.dev chromium
	$(BIN)/python .site/slides.py --out build/slides
	SLIDES=build/slides $(BIN)/python -m pytest tests/test_slides.py
	@echo "build/slides/index.html"

site: $(VENV)/.dev chromium
	$(BIN)/python .site/site.py --out build/site
	SITE=build/site/html $(BIN)/python -m pytest tests/test_site.py
	@echo "build/site/html/index.html"

doctor: $(VENV)/.lab
	$(BIN)/lucidteach doctor

# after editing a notebook: library, clean notebooks and README in step
export: $(VENV)/.dev
	$(BIN)/ruff format nbs
	$(BIN)/nbdev_export
	$(BIN)/nbdev_clean
	$(BIN)/python .ci/readme.py

readme: $(VENV)/.dev
	$(BIN)/python .ci/readme.py

# the browser tests need a Chromium: Debian's is installed where we may, elsewhere those tests are skipped
chromium:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
	  then apt-get update -qq && apt-get install -y -qq chromium >/dev/null; fi; } || true
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || echo "No Chromium found: the browser tests will be skipped"

clean:
	rm -rf build dist *.egg-info .pytest_cache
