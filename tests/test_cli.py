"The command line as a user meets it: help, errors, folders"
import json, os, subprocess, sys
import pytest
from lucidteach import cli

def lucidteach(*args, **kw):
    return subprocess.run([sys.executable, '-m', 'lucidteach', *map(str, args)], capture_output=True, text=True, timeout=300, **kw)

def test_help_names_every_option():
    r = lucidteach('compare', '--help')
    assert r.returncode == 0
    for o in '--prompt --methods --steps --seed --guidance --out --device'.split(): assert o in r.stdout

def test_doctor_is_content():
    r = lucidteach('doctor')
    assert r.returncode == 0, r.stdout
    for word in ('torch', 'device', 'threads', 'numba', 'gsplat', 'toy prior', 'disk', 'network'): assert word in r.stdout

@pytest.mark.parametrize('load, said', [(0., False), (1e3, True)])
def test_doctor_sees_other_work(monkeypatch, load, said):
    import os, torch
    from lucidteach.doctor import device
    monkeypatch.setattr(os, 'getloadavg', lambda: (load, 0., 0.), raising=False); monkeypatch.setattr(torch, 'get_num_threads', lambda: os.cpu_count())
    assert any('OMP_NUM_THREADS=1' in text for kind, name, text in device() if name == 'load') == (said and os.cpu_count() > 1)

@pytest.mark.parametrize('args, word', [
    (['a rad mug'], 'red'),                       # unknown colour: the nearest known word
    (['a red mugg'], 'mug'),                      # unknown object
    (['a red mug', '--methods', 'sds,imm'], 'ism'),
    (['a red mug', '--steps', '0'], 'steps'),
    (['a red mug', '--guidance', 'nan'], 'guidance'),
    (['a red mug', '--device', 'gpu9'], 'device'),
    (['a red mug', '--prompt', 'a blue car'], 'blue car'),
])
def test_errors_name_value_and_remedy(args, word, tmp_path):
    r = lucidteach('compare', *args, '--out', tmp_path/'run')
    assert r.returncode == 2 and 'Traceback' not in r.stderr, r.stderr
    assert word in r.stderr
    assert not (tmp_path/'run').exists()          # nothing was begun

def test_compare_end_to_end(tmp_path):
    "Two worlds in one report, each in its own folder; done is done, and never over another run"
    out = tmp_path/'run'
    r = lucidteach('compare', 'a red mug', '--steps', 2, '--out', out)
    assert r.returncode == 0, r.stderr
    assert '2 worlds, about' in r.stderr and 'noise: rms' in r.stdout            # what both will cost, and what the columns are
    page = (out/'report.html').read_text()
    assert str(out/'report.html') in r.stdout.strip().splitlines()[-1]
    assert 'src="http' not in page and 'url(http' not in page and '27_regimes.ipynb' in page and page.count('class="final truth"') == 2
    assert page.count(' off</figcaption>') == 7 + 7 and page.count('strength 100%<br>1.0 off') == 2      # both numbers: six arms, five and the start, and the truths
    assert page.count('class="final start"') == 1 and 'strength 0%<br>3.3 off' in page and 'from the object without its pattern: &#34;a speckled red mug&#34;' in page
    assert 'a true picture is 1.0 off, a smooth object 3.2' in page and 'columns:2' not in page
    for name in ('comparison.png', 'ideal-detail/comparison.png', 'toy-detail/comparison.png'): assert (out/name).read_bytes()[:4] == b'\x89PNG'
    config = json.loads((out/'config.json').read_text())
    assert config['prompts'] == ['a red mug'] and [(w['prior'], w['prompts']) for w in config['worlds']] == [('ideal-detail', ['a red mug']), ('toy-detail', ['a speckled red mug'])] and config['threads'] >= 1
    rows = [json.loads(l) for l in (out/'metrics.jsonl').read_text().splitlines()]
    assert {(x['prior'], x['method'].partition('@')[0]) for x in rows if x['kind'] == 'result'} == {(p, m) for p in ('ideal-detail', 'toy-detail') for m in ('sds', 'ism')}
    assert rows[-1] == {'kind': 'end', 'complete': True}

    before = (out/'report.html').stat().st_mtime_ns
    again = lucidteach('compare', 'a red mug', '--steps', 2, '--out', out)
    assert again.returncode == 0 and 'done already' in again.stdout and str(out/'report.html') in again.stdout
    other = lucidteach('compare', 'a blue car', '--steps', 2, '--out', out)
    assert other.returncode == 2 and '--overwrite' in other.stderr               # never over another run
    assert (out/'report.html').stat().st_mtime_ns == before

def test_methods_make_a_plain_comparison(tmp_path):
    r = lucidteach('compare', 'a red mug', '--steps', 2, '--methods', 'sds@1,ism:head_start=0:delta_t=(100, 50)', '--out', tmp_path/'run')
    assert r.returncode == 0, r.stderr
    config = json.loads((tmp_path/'run'/'config.json').read_text())
    assert config['methods'] == ['sds@1', 'ism:head_start=0:delta_t=(100, 50)'] and config['prior'] == 'toy' and config['canvases'] == ['pixels', 'latents']

def test_the_bench_of_threads_runs_what_readme_says():
    "Two methods on the toy prior, one world"
    import importlib.util, pathlib
    from lucidteach.lab.compare import planned
    spec = importlib.util.spec_from_file_location('bench_threads', pathlib.Path(__file__).parent/'bench'/'bench_threads.py')
    bench = importlib.util.module_from_spec(spec); spec.loader.exec_module(bench)
    args, unknown = cli.parser().parse_known_args(bench.COMPARE)
    args.prompt = args.text
    (run, _), = planned(args)
    assert not unknown and (run.prior, run.methods, run.prompts) == ('toy', ['sds', 'ism'], ['a blue car'])

@pytest.mark.parametrize('args, says', [
    (['compare', '--setps', '3'], 'did you mean --steps'), (['compare', 'a', 'red', 'mug'], 'in quotes'), (['create', 'a', 'red', 'mug'], '"a red mug"'),
    (['create', 'a red mug', '--preste', 'toy'], 'did you mean --preset'), (['export', 'no.ply', '--to', 'x.splat'], 'no file no.ply'),
    (['compare', 'a red mug', '--methods', 'sds@x'], 'guidance'), (['compare', 'a red mug', '--methods', 'ism:detla_t=3'], "did you mean 'delta_t'")])
def test_a_word_that_is_not_known(args, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(args) == 2
    said = capsys.readouterr().err
    assert says in said and said.count('\n') == 1 and not os.listdir(tmp_path)

def test_help_names_the_defaults(capsys):
    from lucidteach.distill.canvas import DEFAULTS, Settings
    from lucidteach.lab.comparison import WORLDS
    with pytest.raises(SystemExit): cli.main(['compare', '--help'])
    said = ' '.join(capsys.readouterr().out.replace('-\n', '-').split()).replace('ideal- detail', 'ideal-detail')
    assert f"default: {WORLDS['ideal-detail']['steps']} in ideal-detail, {WORLDS['toy-detail']['steps']} in toy-detail, {WORLDS['toy']['steps']} in toy; {Settings().steps} in a plain comparison" in said
    assert f"default: {DEFAULTS['guidance']['compare']:g} in a plain comparison" in said

@pytest.mark.parametrize('args, unbuffered', [(['doctor'], ''), (['compare', 'a red mug', '--steps', 2, '--methods', 'sds'], '1'), (['--help'], '')], ids=lambda a: a and a[0])
def test_a_reader_that_leaves_ends_nothing(args, unbuffered, tmp_path):
    "`| head -1`: the run comes to its end, and its status is its own"
    reader, writer = os.pipe(); os.close(reader)
    said = writer if args[0] == 'compare' else subprocess.PIPE                   # `2>&1 | head -1`
    p = subprocess.run([sys.executable, '-m', 'lucidteach', *map(str, args)], cwd=tmp_path, stdout=writer, stderr=said, timeout=300, env=os.environ | dict(PYTHONUNBUFFERED=unbuffered))
    os.close(writer)
    assert p.returncode == 0 and not p.stderr, p.stderr
    assert args[0] != 'compare' or (tmp_path/'runs'/'a-red-mug'/'report.html').exists()

@pytest.mark.parametrize('config', [dict(prompts=['a red mug']), dict(prompt='a red mug')], ids=('compare', 'create'))
def test_sweep_leaves_other_runs_alone(config, tmp_path, monkeypatch, capsys):
    def load_prior(*args, **kw): raise AssertionError('work was begun')
    monkeypatch.setattr('lucidteach.prior.checkpoints.load_prior', load_prior)
    (tmp_path/'config.json').write_text(json.dumps(config))
    assert cli.main(['sweep', '--out', str(tmp_path)]) == 2 and 'another folder' in capsys.readouterr().err
    assert os.listdir(tmp_path) == ['config.json']

@pytest.mark.parametrize('flags, word', [([], "pip install 'lucidteach[train]'"), (['--steps', '0'], 'steps=0'), (['--resume'], 'no checkpoint')], ids=('extra', 'steps', 'resume'))
def test_training_says_in_a_line_what_it_lacks(flags, word, tmp_path, monkeypatch, capsys):
    import torch
    from lucidteach.prior import training_run as train
    monkeypatch.setitem(sys.modules, 'accelerate', None)                          # as where the extra is not installed
    monkeypatch.setattr(train, 'stop_event', lambda: None); monkeypatch.setattr(torch, 'set_flush_denormal', lambda on: None)     # both would last beyond this test
    with pytest.raises(SystemExit) as end: train.main(['--out', str(tmp_path/'run'), *flags])
    said = capsys.readouterr().err
    assert end.value.code == 2 and word in said and said.count('\n') == 1
    assert not (tmp_path/'run').exists()

def test_lab_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'jupyterlab', None); monkeypatch.setitem(sys.modules, 'jupyterlab.labapp', None)
    assert cli.main(['lab']) == 2 and "pip install 'lucidteach[lab]'" in capsys.readouterr().err

@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_terminal_that_leaves_ends_nothing():
    import pty
    from lucidteach.cli import Pipe
    mine, its = pty.openpty()
    out = Pipe(os.fdopen(its, "w")); os.close(mine)
    for _ in range(2): print("the work goes on", file=out, flush=True)
