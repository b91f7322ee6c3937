"""CPU seconds that the slow cells of notebooks take; `--write` puts them into the cells' second lines, where a reader sees them.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python tests/bench/bench_slow.py [part of a name ...] [--write] [--json FILE]

All cells are run in order, as a reader would. What counts is the CPU time of the kernel and of its children, so that
a busy machine changes little; a cell that has a time already keeps it while the new one is within a factor of two."""
import argparse, json, os, re, sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

root = Path(__file__).parents[2]
TIME = re.compile(r'# takes (a second|\d+ (?:s|min)) on one core\n')

def said(seconds):
    "As a reader needs it: one figure and a half"
    if seconds < 1.5: return 'a second'
    if seconds < 100: return f'{float(f"{seconds:.1g}") if seconds < 10 else 5*round(seconds/5):.0f} s'
    return f'{seconds/60:.0f} min'

def seconds_of(text):
    m = TIME.search(text)
    return None if not m else 1 if m[1] == 'a second' else int(m[1].split()[0])*(60 if m[1].endswith('min') else 1)

def is_slow(cell): return cell.cell_type == 'code' and re.search(r'^#\| slow$', cell.source, re.M)

def with_time(text, seconds):
    old = seconds_of(text)
    if old and .5 < max(seconds, 1)/old < 2: return text
    lines = TIME.sub('', text).splitlines(keepends=True)
    at = max(k for k, line in enumerate(lines) if re.match(r'#\|', line) and not any(not re.match(r'#\|', x) for x in lines[:k]))+1
    return ''.join([*lines[:at], f'# takes {said(seconds)} on one core\n', *lines[at:]])

def cpu(pid):
    "utime, stime, cutime, cstime of a process (Linux), in seconds"
    fields = Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()
    return sum(map(int, fields[11:15]))/os.sysconf('SC_CLK_TCK')

def measure(path):
    "id -> seconds of the slow cells; the notebook's own outputs are left alone"
    nb, out = nbformat.read(path, 4), {}
    client = NotebookClient(nb, timeout=7200, kernel_name='python3', store_widget_state=False, resources={'metadata': {'path': str(path.parent)}})
    with client.setup_kernel():
        pid = client.km.provisioner.pid
        for k, cell in enumerate(nb.cells):
            if cell.cell_type != 'code' or re.search(r'^#\| cuda$', cell.source, re.M): continue
            before = cpu(pid)
            try: client.execute_cell(cell, k)
            except CellExecutionError as e: print(f'{path.stem} {cell.id}: {str(e)[-300:]}', file=sys.stderr)
            if is_slow(cell): out[cell.id] = cpu(pid)-before; print(f'{path.stem:28} {cell.id:16} {out[cell.id]:8.1f} s', flush=True)
    return out

def write(path, times):
    nb = json.loads(path.read_text())
    for c in nb['cells']:
        if c['id'] in times: c['source'] = with_time(''.join(c['source']), times[c['id']]).splitlines(keepends=True)
    path.write_text(json.dumps(nb, ensure_ascii=False, indent=1)+'\n')

def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('words', nargs='*', help='only notebooks with one of these in their name')
    p.add_argument('--write', action='store_true', help="write the times into the notebooks' cells")
    p.add_argument('--json', help='write all times to this file too')
    a = p.parse_args()
    found = {}
    first = lambda p: ([i for i, w in enumerate(a.words) if w in p.stem] or [0])[0]
    for path in sorted((root/'nbs').rglob('*.ipynb'), key=lambda p: (first(p), p)):
        if '.ipynb_checkpoints' in path.parts or a.words and not any(w in path.stem for w in a.words): continue
        if not any(map(is_slow, nbformat.read(path, 4).cells)): continue
        found[path.stem] = measure(path)
        if a.write: write(path, found[path.stem])
        if a.json: Path(a.json).write_text(json.dumps(found, indent=1)+'\n')

if __name__ == '__main__': main()
