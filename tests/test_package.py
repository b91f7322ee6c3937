"What a user meets before the first notebook: configuration, wheel, import, command line"
import configparser, os, re, subprocess, sys, tarfile, tomllib, zipfile
from pathlib import Path
import pytest

root = Path(__file__).parent.parent
settings = configparser.ConfigParser()
settings.read(root/'settings.ini')
settings = settings['DEFAULT']
project = tomllib.loads((root/'pyproject.toml').read_text())

def run(*args, **kw): return subprocess.run([str(a) for a in args], capture_output=True, text=True, **kw)

def test_settings_and_pyproject_agree():
    import lucidteach
    p = project['project']
    assert settings['lib_name'] == p['name']
    assert settings['description'] == p['description']
    assert settings['version'] == lucidteach.__version__ and 'version' in p['dynamic']
    assert p['requires-python'] == f">={settings['min_python']}"
    assert settings['tst_flags'] == project['tool']['nbdev']['tst_flags']
    assert settings['author'] == p['authors'][0]['name']
    assert settings['license'] == 'apache2' and p['license'] == 'Apache-2.0'
    assert p['urls']['Repository'].endswith(f"/{settings['user']}/{settings['repo']}")

def test_constraints_hold_every_requirement():
    from packaging.requirements import Requirement
    pins = dict(l.split('==') for l in (root/'constraints.txt').read_text().splitlines() if '==' in l and not l.startswith('#'))
    pins = {k.lower().replace('_', '-'): v for k, v in pins.items()}
    extras = project['project']['optional-dependencies']
    wanted = project['project']['dependencies'] + extras['lab'] + extras['formats'] + extras['train'] + extras['dev'] + extras['site']
    for r in map(Requirement, wanted):
        if r.name == 'setuptools': continue
        assert r.name.lower() in pins, f'{r.name} is not pinned in constraints.txt'
        assert r.specifier.contains(pins[r.name.lower()]), f'{r} does not admit the pinned {pins[r.name.lower()]}'

def test_make_targets_are_those_that_are_told_of():
    "Every `make x` that a text names is there, and every target is named in CONTRIBUTING.md"
    targets = set(re.search(r'^\.PHONY: (.+)', (root/'Makefile').read_text(), re.M)[1].split())
    told = {page: set(re.findall(r'(?:^|`)make ([a-z-]+)', (root/page).read_text(), re.M)) for page in ('README.md', 'CONTRIBUTING.md')}
    assert set().union(*told.values()) <= targets <= told['CONTRIBUTING.md'], (told, targets)

def test_workflow_is_ci_run():
    assert 'bash .ci/run' in (root/'.github/workflows/ci.yml').read_text()
    assert 'make test' in (root/'.ci/run').read_text()

def test_import_is_light():
    code = 'import sys, lucidteach; heavy = {"torch", "diffusers", "numba", "numpy", "matplotlib", "nbdev", "fastcore"} & set(sys.modules); assert not heavy, heavy; dir(lucidteach)'
    assert run(sys.executable, '-c', code).returncode == 0

def test_help_is_light():
    code = 'import sys; from lucidteach.cli import main\ntry: main(["--help"])\nexcept SystemExit as e: assert not e.code\nassert "torch" not in sys.modules and "numpy" not in sys.modules'
    r = run(sys.executable, '-c', code)
    assert r.returncode == 0, r.stderr
    assert 'compare' in r.stdout and 'doctor' in r.stdout

def test_library_needs_no_nbdev():
    "The library must run where nbdev and fastcore are absent"
    code = '''import sys, pkgutil, importlib
for m in ("nbdev", "fastcore", "execnb", "accelerate", "peft", "jupyterlab"): sys.modules[m] = None
import lucidteach
for m in pkgutil.walk_packages(lucidteach.__path__, "lucidteach."):
    if "_modidx" not in m.name: importlib.import_module(m.name)'''
    r = run(sys.executable, '-c', code)
    assert r.returncode == 0, r.stderr

def test_completion_offers_the_contract_and_nothing_else():
    "Names of the package's own, never a module that it happens to use: as dir() says it, and as an editor reads it from the source"
    import types, lucidteach as lt
    from lucidteach.lab.notebooks import names, statements
    told = {n for n in dir(lt) if not n.startswith('_')}
    assert {'load_prior', 'METHODS', 'compare', 'create', 'stepper', 'Settings', 'Config'} <= told
    for name in told - {*lt._names}: assert isinstance(m := getattr(lt, name), types.ModuleType) and m.__name__ == f'lucidteach.{name}', name
    assert {n for s in statements(Path(lt.__file__).read_text()) for n in names(s)[0] if not n.startswith('_')} <= {*lt._names}

def test_binder_installs_what_is_tested():
    "One set of versions: Binder's requirements are the constraints, the lab's extra and torch by name, and nothing of a machine's own"
    lines = [l for l in (root/'.binder'/'requirements.txt').read_text().splitlines() if l and not l.startswith('#')]
    assert '-c ../constraints.txt' in lines and '-e .[lab]' in lines and any(l.startswith('torch==') for l in lines)
    assert {l.split('==')[1] for l in lines if l.startswith('torch==')} == {l.split('==')[1] for l in (root/'constraints.txt').read_text().splitlines() if l.startswith('torch==')}
    assert (root/'.binder'/'runtime.txt').read_text().strip() == f"python-{settings['min_python']}"
    assert 'lucidteach lab --copy-only' in (root/'.binder'/'postBuild').read_text() and os.access(root/'.binder'/'postBuild', os.X_OK)

@pytest.fixture
def doctor(monkeypatch):
    "The doctor, who reads this pyproject.toml and not the one of the last installation"
    from lucidteach import doctor
    p = project['project']
    lines = p['dependencies'] + [f'{r}; extra == "{e}"' for e, rs in p['optional-dependencies'].items() for r in rs]
    monkeypatch.setattr(doctor.md, 'requires', lambda name: lines)
    return doctor

def test_doctor_reads_requirements_as_pip_does(doctor):
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet
    for line, (package, versions, extra) in zip(doctor.md.requires('lucidteach'), doctor.requirements(), strict=True):
        r = Requirement(line)
        assert r.name == package and r.specifier == SpecifierSet(versions) and (r.marker is None if not extra else r.marker.evaluate(dict(extra=extra)))

def test_doctor_names_extras_as_pip_takes_them(doctor, monkeypatch):
    from packaging.requirements import Requirement
    monkeypatch.setattr(doctor, 'version', lambda package: '0.1' if package == 'lucidteach' else None)
    found = {name: (state, text) for state, name, text in doctor.packages()}
    assert found['lacking'][0] == 'fail' and all(Requirement(r).name in found['lacking'][1] for r in project['project']['dependencies'] if 'gsplat' not in r)
    typed = Requirement(found['absent'][1].split("'")[1])
    assert typed.name == 'lucidteach' and typed.extras == {*project['project']['optional-dependencies']}

def test_doctor_is_not_content_with_an_old_version(doctor, monkeypatch):
    "Whatever is installed: where pyproject.toml names a least version, version 0.0.1 is too old, and no other package is told of"
    real = doctor.version
    monkeypatch.setattr(doctor, 'version', lambda package: '0.0.1' if package == 'transformers' else real(package))
    states = {name: (state, text) for state, name, text in doctor.packages()}
    assert states['needed'][0] == states['lacking'][0] == 'fail' and states['lacking'][1].startswith('transformers>=') and '(here is 0.0.1): pip install' in states['lacking'][1]

def test_doctor_says_whether_the_lab_can_run(doctor, monkeypatch, tmp_path):
    from lucidteach.lab import notebooks as lab
    (state, _, text), = doctor.lab()
    assert state == 'ok' and re.search(r'copy of (\d+) notebooks', text)[1] == str(len([p for p in (root/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts]))
    monkeypatch.setattr(lab.present, '__defaults__', (tmp_path,))
    (state, _, text), = doctor.lab()
    assert state == 'note' and 'git clone' in text
    monkeypatch.setattr(doctor, 'version', lambda package: '0.1' if package == 'lucidteach' else None)
    (state, _, text), = doctor.lab()
    assert state == 'note' and "pip install 'lucidteach[lab]'" in text and all(re.match(r'[\w.-]+', r)[0] in text for r in project['project']['optional-dependencies']['lab'])

def test_doctor_wants_gsplat_only_of_a_gpu(doctor, monkeypatch):
    monkeypatch.setattr(doctor, 'version', lambda package: dict(lucidteach='0.1', gsplat='1.0').get(package))
    (cpu,), (gpu,) = doctor.gsplat('cpu'), doctor.gsplat('cuda')
    assert cpu[0] == 'ok' and 'only a CUDA device' in cpu[2]
    assert gpu[0] == 'note' and 'gsplat==' in gpu[2] and 'here is 1.0' in gpu[2]

@pytest.mark.parametrize('env', [dict(HF_HOME='~/hf'), dict(HF_HUB_CACHE='/tmp/elsewhere'), dict(XDG_CACHE_HOME='/tmp/xdg')], ids=lambda e: next(iter(e)))
def test_doctor_names_the_model_cache(env, tmp_path):
    "Where huggingface_hub itself looks"
    env = {k: v for k, v in os.environ.items() if k not in ('HF_HOME', 'HF_HUB_CACHE', 'HUGGINGFACE_HUB_CACHE', 'XDG_CACHE_HOME')} | dict(HOME=str(tmp_path)) | env
    cache = run(sys.executable, '-c', 'from huggingface_hub import scan_cache_dir, constants\nprint(constants.HF_HUB_CACHE)', env=env).stdout.strip()
    found = run(sys.executable, '-c', 'from lucidteach.doctor import disk\nfor f in disk(): print(*f)', env=env).stdout
    assert cache and '~' not in cache and f'model cache {cache}: ' in found, (cache, found)

def test_doctor_misses_the_kernels_cache():
    "Where numba finds no folder for compiled kernels, every command would end; the doctor says so and what helps"
    code = 'import numba.core.caching as c; c.CacheImpl._locator_classes = []\nfrom lucidteach import doctor\nfor f in doctor.numba(): print(*f)'
    out = run(sys.executable, '-c', code).stdout
    assert out.startswith('fail numba cannot compile') and 'NUMBA_CACHE_DIR' in out, out

@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    to = tmp_path_factory.mktemp('wheel')
    r = run(sys.executable, '-m', 'pip', 'wheel', root, '--no-deps', '--no-build-isolation', '-q', '-w', to)
    assert r.returncode == 0, r.stderr
    return next(to.glob('*.whl'))

def test_wheel_in_an_empty_venv(wheel, tmp_path):
    names = zipfile.ZipFile(wheel).namelist()
    assert any(n.endswith('toy/model_index.json') for n in names) and sum(n.endswith('.safetensors') for n in names) >= 3
    assert wheel.stat().st_size < 85e6, f'the wheel has {wheel.stat().st_size/1e6:.0f} MB'    # two priors of 32 MB each, a ControlNet of 10 MB
    assert not [n for n in names if n.startswith(('tests/', 'nbs/'))] and 'lucidteach/viz/jupyter/labconfig/default_setting_overrides.json' in names
    run(sys.executable, '-m', 'venv', tmp_path/'venv')
    py = tmp_path/'venv'/'bin'/'python'
    env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    assert run(py, '-m', 'pip', 'install', '-q', '--no-deps', '--no-index', wheel, env=env).returncode == 0
    r = run(py, '-c', 'import lucidteach; print(lucidteach.__version__)', cwd=tmp_path, env=env)
    assert r.stdout.strip() == settings['version'], r.stderr
    r = run(tmp_path/'venv'/'bin'/'lucidteach', 'doctor', cwd=tmp_path, env=env)
    assert r.returncode == 1 and 'torch' in r.stdout and 'pip install' in r.stdout     # says what is missing, and does not crash
    r = run(tmp_path/'venv'/'bin'/'lucidteach', 'lab', cwd=tmp_path, env=env)
    assert r.returncode == 2 and f"git clone {project['project']['urls']['Repository']} " in r.stderr and r.stderr.count('\n') == 1
    r = run(sys.executable, '-m', 'build', '--sdist', '--no-isolation', '--outdir', tmp_path, root)       # here, so that no two builds work in one folder
    assert r.returncode == 0, r.stderr
    assert any(n.endswith('toy/model_index.json') for n in tarfile.open(next(tmp_path.glob('*.tar.gz'))).getnames())

def test_kernels_are_compiled_where_none_can_be_kept(tmp_path):
    "A read-only installation and home: a folder of the process's own, which ends with it, not with a forked child; and said"
    code = """import os, sys; os.access = lambda *a: False
import lucidteach
if hasattr(os, 'fork'):
    if not os.fork(): sys.exit()
    os.wait(); assert os.path.isdir(os.environ['NUMBA_CACHE_DIR'])
from lucidteach.splat.kernels import _dot
_dot((1., 2., 3.), (1., 1., 1.))
print(os.environ['NUMBA_CACHE_DIR'], len([f for _, _, fs in os.walk(os.environ['NUMBA_CACHE_DIR']) for f in fs]))"""
    env = {k: v for k, v in os.environ.items() if k != 'NUMBA_CACHE_DIR'} | dict(TMPDIR=str(tmp_path))
    p = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, env=env)
    folder, files = p.stdout.split()
    assert folder.startswith(str(tmp_path)) and int(files) > 0 and 'NUMBA_CACHE_DIR names another' in p.stderr
    assert not list(tmp_path.iterdir())
