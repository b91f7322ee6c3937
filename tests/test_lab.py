"The lab as a reader meets it: a copy that runs on what `.[lab]` installs, whose pictures and links are there, and that leaves the clone alone"
import hashlib, importlib.metadata as md, json, os, re, subprocess, sys, tomllib
from pathlib import Path
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from lucidteach import cli
from lucidteach.lab import notebooks as lab

root = Path(__file__).parent.parent
project = tomllib.loads((root/'pyproject.toml').read_text())['project']
QUICK = ('2_distill/21_sds', '0_run/01_live', '6_viz/63_explorers')

def closure(lines):
    "Distributions that pip brings for some requirements, by their canonical names"
    found, todo = set(), [Requirement(l) for l in lines]
    while todo:
        r = todo.pop()
        for extra in {'', *r.extras}:
            if (canonicalize_name(r.name), extra) in found: continue
            found.add((canonicalize_name(r.name), extra))
            try: needs = md.requires(r.name) or []
            except md.PackageNotFoundError: continue                        # what only a GPU or another system needs
            todo += [q for q in map(Requirement, needs) if not q.marker or q.marker.evaluate({'extra': extra})]
    return {name for name, _ in found}

@pytest.fixture(scope='module')
def allowed(): return closure(project['dependencies'] + project['optional-dependencies']['lab'])

@pytest.fixture(scope='module')
def mine(tmp_path_factory):
    "A reader's folder, delivered by the command; the clone is as it was"
    state = lambda: {p: hashlib.sha256(p.read_bytes()).hexdigest() for f in ('nbs', 'images') for p in (root/f).rglob('*') if p.is_file()}
    folder, before = tmp_path_factory.mktemp('lab')/'mine', state()
    assert cli.main(['lab', '--copy-only', '--folder', str(folder)]) == 0
    assert state() == before
    return folder

def code_cells(path): return [c for c in json.loads(path.read_text())['cells'] if c['cell_type'] == 'code']

def test_lab_brings_what_the_copies_import(mine, allowed):
    "All of them, whichever cell; a cell that waits for `%slow on` may want more, and says so by its import"
    homes = {k: {canonicalize_name(d) for d in v} for k, v in md.packages_distributions().items()}
    assert 'fastcore' in allowed and not {'nbdev', 'execnb', 'pytest', 'playwright'} & allowed
    for path in mine.rglob('*.ipynb'):
        for c in code_cells(path):
            if c['source'].startswith('%%slow'): continue
            for m in lab.modules(lab.statements(re.sub('^%.*\n?', '', c['source'], flags=re.M))) - {*sys.stdlib_module_names, 'lucidteach'}:
                tried = re.search(rf'try:\s*import {m}\b', c['source'])
                assert tried or homes.get(m, set()) & allowed, f"{path.name}, cell {c['id']} imports {m}, which '.[lab]' does not bring"

RUN = '''
import importlib.metadata as md, json, os, sys
from importlib.machinery import PathFinder
from packaging.utils import canonicalize_name
blocked, allowed = set(json.loads(sys.argv[1])), set(json.loads(sys.argv[2]))
class Lab:                      # an environment with nothing but what the lab brings
    def find_spec(name, path=None, target=None): return None if name.partition(".")[0] in blocked else PathFinder.find_spec(name, path, target)
    def find_distributions(*context): return (d for d in PathFinder.find_distributions(*context) if canonicalize_name(d.name) in allowed)
sys.meta_path = [Lab if f is PathFinder else f for f in sys.meta_path]
for name in ("nbdev", "execnb", "pytest"):
    try: __import__(name)
    except ModuleNotFoundError: continue
    sys.exit(f"{name} can be imported")
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for path in sys.argv[3:]:
    os.chdir(os.path.dirname(path)); shell.reset(new_session=True)
    for c in json.load(open(path))["cells"]:
        if c["cell_type"] != "code": continue
        done = shell.run_cell(c["source"])
        if not done.success: sys.exit(f"{path}, cell {c['id']}: {done.error_before_exec or done.error_in_exec!r}")
'''

def test_copies_run_on_what_the_lab_brings(mine, allowed):
    "From top to bottom, with every distribution hidden that pip does not bring for '.[lab]'"
    blocked = [m for m, names in md.packages_distributions().items() if not {canonicalize_name(n) for n in names} & {*allowed, 'lucidteach'}]
    paths = [str(mine/f'{name}.ipynb') for name in QUICK]
    env = os.environ | dict(MPLBACKEND='agg', IPYTHONDIR=str(mine/'.ipython'), PYTHONPATH=os.pathsep.join([str(root), os.environ.get('PYTHONPATH', '')]))
    for path in paths:            # a process each: a lesson defines the library's own classes anew
        r = subprocess.run([sys.executable, '-c', RUN, json.dumps(blocked), json.dumps(sorted(allowed)), path], capture_output=True, text=True, env=env, timeout=500)
        assert r.returncode == 0, r.stderr[-2000:] + r.stdout[-2000:]

SLOW = """
from IPython.core.interactiveshell import InteractiveShell
shell, ran = InteractiveShell.instance(), lambda text: shell.run_cell(text).success
assert ran("%load_ext lucidteach.lab.notebooks") and ran("%%slow WHERE\\nx = 1") and "x" not in shell.user_ns
assert ran("%slow on\\n") and ran("%%slow WHERE\\nx = 1") and shell.user_ns["x"] == 1
assert not ran("%%slow WHERE\\n1 / 0") and not ran("%slow perhaps")
"""

def test_slow_cells_show_what_they_came_with(tmp_path):
    "Until they are switched on; an error in one stops what runs all cells"
    told = ((p.stem, c['id'], ''.join(c['outputs'][0]['text'])) for p in sorted((root/'nbs').rglob('*.ipynb')) for c in code_cells(p)
            if 'slow' in lab.flags(''.join(c['source'])) and c['outputs'] and c['outputs'][0]['output_type'] == 'stream')
    name, id, saved = next(told)
    r = subprocess.run([sys.executable, '-c', SLOW.replace('WHERE', f'{name} {id}')], capture_output=True, text=True, env=os.environ | dict(IPYTHONDIR=str(tmp_path)))
    assert r.returncode == 0, r.stderr
    assert r.stdout.count(saved) == 1 and '%slow on' in r.stdout

def test_no_copy_writes_the_library(mine):
    for path in mine.rglob('*.ipynb'):
        for c in code_cells(path): assert not lab.modules(lab.statements(c['source'])) & {'nbdev', 'execnb'} and not lab.flags(c['source']), (path.name, c['id'])

def test_pictures_and_links_are_in_the_folder(mine):
    "Nothing outside the served folder can be seen: every path that a text names lies in it, and of the places where code looks for a picture one"
    there = lambda path, name: (path.parent/name).resolve().is_relative_to(mine.resolve()) and (path.parent/name).exists()
    for path in mine.rglob('*.ipynb'):
        if path.stem == '75_notebooks': continue                                  # tells of such paths
        for c in json.loads(path.read_text())['cells']:
            if c['cell_type'] == 'markdown':
                for name in re.findall(r'\]\(([^)#:\s]+)(?:#[^)]*)?\)', c['source']): assert there(path, name), f"{path.name}, cell {c['id']} names {name}"
            else:
                names = re.findall(r"[\"']([./]*images/[\w.]+)[\"']", c['source'])
                assert not names or any(there(path, name) for name in names), f"{path.name}, cell {c['id']} names {names}"

def test_mentions_of_notebooks_are_links():
    "A notebook that a text names, by its file's name or as `notebook 24`, is one click away"
    stems = {p.stem for p in (root/'nbs').rglob('*.ipynb')}
    for path in sorted((root/'nbs').rglob('*.ipynb')):
        for c in json.loads(path.read_text())['cells']:
            if c['cell_type'] != 'markdown': continue
            text = re.sub(r'\[[^\]]*\]\([^)]*\)|```.*?```|\$\$.*?\$\$|\$[^$\n]*\$', '', ''.join(c['source']), flags=re.S)
            named = {n for n in re.findall(r'(?<![\w/.])(\d\d[a-z]?_[a-z0-9_]+)(?!\w|\.\w)', text) if n in stems} | set(re.findall(r'\bnotebook \d\d\b', text))
            assert not named - {path.stem}, f"{path.name}, cell {c['id']}: {named} should be links"

def test_extras_agree():
    "What the lab takes over from other extras it takes with their bounds"
    extras = {k: {re.match(r'[\w-]+', r)[0]: r for r in v} for k, v in project['optional-dependencies'].items()}
    for name, line in extras['lab'].items():
        for other in ('formats', 'train', 'dev'): assert extras[other].get(name, line) == line

@pytest.fixture
def started(monkeypatch):
    from jupyterlab.labapp import LabApp
    monkeypatch.setattr(LabApp, 'launch_instance', (calls := []).append)
    monkeypatch.setenv('JUPYTER_CONFIG_PATH', '')                            # given back afterwards
    return calls

def test_lab_opens_the_first_lesson_of_the_copy(started, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lab, 'deliver', lambda folder: folders.append(folder) or dict(new=['index.ipynb'], renewed=[], beside=['a.new.ipynb'])); folders = []
    assert cli.main(['lab', '--port', '8899', '--no-browser', '--', '--ip=0.0.0.0']) == 0 and cli.main(['lab', '--originals']) == 0
    (first, second), mine, said = started, tmp_path/'lucidteach-lab', capsys.readouterr().out
    assert {f'--ServerApp.root_dir={mine}', '--LabApp.default_url=/lab/tree/00_start.ipynb', '--port=8899', '--no-browser', '--ip=0.0.0.0'} <= {*first}
    assert {f'--ServerApp.root_dir={root}', '--LabApp.default_url=/lab/tree/nbs/00_start.ipynb'} <= {*second} and (root/'nbs/00_start.ipynb').is_file()
    assert folders == [mine] and f'{mine} (1 notebook new)' in said and 'a.new.ipynb' in said and said.count('\n') == 2

def test_lab_refuses_the_notebooks_own_folder(started, capsys):
    assert cli.main(['lab', '--folder', str(root/'nbs'/'1_prior')]) == 2 and 'among the notebooks' in capsys.readouterr().err and not started

def test_slow_cells_say_what_they_take():
    "In the notebook itself; tests/bench/bench_slow.py --write measures it"
    silent = [f'{p.stem} {c["id"]}' for p in sorted(lab.NOTEBOOKS.rglob('*.ipynb')) for c in json.loads(p.read_text(encoding='utf-8'))['cells']
              if c['cell_type'] == 'code' and 'slow' in lab.flags(''.join(c['source'])) and not lab.takes(''.join(c['source']))]
    assert not silent, f'no line "# takes 40 s on one core" in {silent}'
