"Every notebook is one test; library, notebooks and README are in step"
import os, shutil, subprocess, sys
from pathlib import Path
import pytest
from nbdev.config import get_config
from nbdev.doclinks import nbglob
from nbdev.test import test_nb as run_nb
from lucidteach.lab.house import FLOORS

cfg = get_config(cfg_name='settings.ini', path=Path(__file__).parent)
root = cfg.config_path
notebooks = sorted(p for p in nbglob(cfg.nbs_path, as_path=True) if not p.name.startswith(('_', '.')))

@pytest.mark.parametrize('nb', notebooks, ids=lambda p: p.stem)
def test_notebook(nb):
    passed, _ = run_nb(nb, skip_flags=cfg.tst_flags.split(), basepath=root)
    assert passed, f'{nb.relative_to(root)}: see the traceback above'

def tracked(): return subprocess.run(['git', 'ls-files', '-z'], cwd=root, capture_output=True, text=True, check=True).stdout.split('\0')[:-1]

@pytest.fixture(scope='module')
def copy(tmp_path_factory):
    "A copy of the tracked files, so that a check never edits the working tree"
    if not (root/'.git').exists(): pytest.skip('not a git checkout: nothing to compare with')
    to = tmp_path_factory.mktemp('tree')
    for f in tracked():
        if not (root/f).is_file() or f.endswith('.safetensors'): continue
        (to/f).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root/f, to/f)
    return to

def nbdev(command, copy):
    "An nbdev command as a user calls it: a notebook tested before in this process leaves IN_TEST behind, under which nbdev_export does nothing"
    subprocess.run([Path(sys.executable).parent/command], cwd=copy, check=True, env={k: v for k, v in os.environ.items() if k != 'IN_TEST'})

def differing(copy, *suffixes):
    files = {p.relative_to(copy) for p in copy.rglob('*') if p.suffix in suffixes and '__pycache__' not in p.parts}
    return sorted(str(f) for f in files if not (root/f).is_file() or (root/f).read_bytes() != (copy/f).read_bytes())

def test_export_leaves_no_diff(copy):
    for part in FLOORS: shutil.rmtree(copy/'lucidteach'/part)     # exported modules must come back
    for f in tracked():
        if f.endswith('__init__.py'): (copy/f).parent.mkdir(parents=True, exist_ok=True); shutil.copy2(root/f, copy/f)
    nbdev('nbdev_export', copy)
    assert not (d := differing(copy, '.py')), f'notebooks and library differ, run make export: {d}'
    missing = [f for f in tracked() if f.endswith('.py') and not (copy/f).exists()]
    assert not missing, f'modules that no notebook writes: {missing}'

def test_clean_leaves_no_diff(copy):
    nbdev('nbdev_clean', copy)
    assert not (d := differing(copy, '.ipynb')), f'notebooks are not clean, run make export: {d}'

def test_readme_is_index():
    subprocess.run([sys.executable, root/'.ci'/'readme.py', '--check'], cwd=root, check=True)

@pytest.mark.parametrize('nb', notebooks, ids=lambda p: p.stem)
def test_notebook_is_small(nb):
    import json
    assert nb.stat().st_size < 1.5e6, f'{nb.name} has {nb.stat().st_size/1e6:.1f} MB: fewer or smaller pictures'
    assert 'widgets' not in json.loads(nb.read_text())['metadata'], f'{nb.name} carries widget state: clear the widget outputs'
