"""Seconds that the default cells of every notebook take, one notebook after the other, each in a fresh process.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python tests/bench/bench_notebooks.py [part of a name ...] [--json FILE]

The cells are those that the tests run: what `tst_flags` of settings.ini names (slow, cuda, notest) is left out. Seconds are wall time of the cells
and CPU time of the whole process, imports included; beside them the time of a process that only imports torch, in the same run, as a yardstick."""
import argparse, json, os, resource, subprocess, sys, time
from pathlib import Path

root = Path(__file__).parents[2]
ONE = """
import sys, time, warnings; warnings.filterwarnings('ignore')
from pathlib import Path
from nbdev.test import test_nb
t = time.perf_counter()
ok, _ = test_nb(Path(sys.argv[1]), skip_flags=sys.argv[3].split(), basepath=sys.argv[2])
print('SECONDS', time.perf_counter()-t); sys.exit(not ok)"""

def notebooks(words):
    from nbdev.doclinks import nbglob
    paths = sorted(p for p in nbglob(root/'nbs', as_path=True) if not p.name.startswith(('_', '.')))
    return [p for p in paths if not words or any(w in p.stem for w in words)]

def run(*args):
    "Wall and CPU seconds of a Python process, and how it ended"
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    r = subprocess.run([sys.executable, *args], capture_output=True, text=True, cwd=root, env={**os.environ, 'MPLBACKEND': 'agg'})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter()-start, after.ru_utime+after.ru_stime-before.ru_utime-before.ru_stime, r

def measure(path, flags):
    wall, cpu, r = run('-c', ONE, str(path), str(root), flags)
    cells = next((float(l.split()[1]) for l in r.stdout.splitlines() if l.startswith('SECONDS')), wall)
    if r.returncode: print('\n'.join((r.stdout+r.stderr).splitlines()[-12:]), file=sys.stderr)
    return dict(notebook=path.stem, cells=round(cells, 1), cpu=round(cpu, 1), passed=r.returncode == 0)

def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('words', nargs='*', help='only notebooks with one of these in their name'); p.add_argument('--json', help='write the rows to this file too')
    a = p.parse_args()
    from nbdev.config import get_config
    flags, rows = get_config(cfg_name='settings.ini', path=root).tst_flags, []
    torch = min(run('-c', 'import torch')[1] for _ in range(2))
    print(f'{"notebook":<16} {"cells, s":>9} {"CPU, s":>8}')
    for path in notebooks(a.words):
        rows.append(measure(path, flags)); r = rows[-1]
        print(f'{r["notebook"]:<16} {r["cells"]:9.1f} {r["cpu"]:8.1f} {"" if r["passed"] else "  FAILED"}', flush=True)
    total = {k: round(sum(r[k] for r in rows), 1) for k in ('cells', 'cpu')}
    print(f'{len(rows):<2} notebooks     {total["cells"]:9.1f} {total["cpu"]:8.1f}   = {total["cpu"]/torch:.0f} times `import torch` ({torch:.1f} s CPU)')
    if a.json: Path(a.json).write_text(json.dumps(dict(rows=rows, total=total, import_torch=round(torch, 2), threads=os.environ.get('OMP_NUM_THREADS')), indent=1)+'\n')
    sys.exit(not all(r['passed'] for r in rows))

if __name__ == '__main__': main()
