"""Speed and memory of the CPU rasterizer, forward and backward, as ratios that can be compared between machines.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=2 python tests/bench/bench_rasterize.py --prototype PATH/numba_rasterizer.py --save nbs/3_splat/results/rasterizer.json

Times are CPU milliseconds of one thread, the least of several runs, and are also given in units of a plain multiply-add loop timed in the same run.
With --prototype the first prototype draws the same scenes from the same camera in turns with ours; without it, its ratios of an earlier run stand in.
A ratio below 1 is faster than it was. On a shared machine even the ratios move by a fifth: the file says how busy it was."""
import lucidteach     # before torch
import argparse, importlib.util, json, math, os, platform, subprocess, sys, tempfile, time
from pathlib import Path
import numba, numpy as np, torch
from numba import njit, prange
from lucidteach.splat.rasterize import rasterization

PROTOTYPE = {(5000, 64): 5.6, (5000, 128): 8.1, (20000, 256): 27., (20000, 512): 62., (100000, 512): 157.}    # in multiply-add loops, the least seen

@njit(fastmath=True)
def _multiply_add(x, n):
    for _ in range(n):
        for i in range(len(x)): x[i] = x[i]*np.float32(.999) + np.float32(.001)

@njit(parallel=True, fastmath=True)
def _multiply_add_all(x, n):
    "Each row by whoever is free"
    for r in prange(len(x)): _multiply_add(x[r], n)

def least(fs, n, clock=time.process_time):
    "Milliseconds of each function, the least of n turns"
    for f in fs: f()
    out = [[] for _ in fs]
    for _ in range(n):
        for f, ts in zip(fs, out): t = clock(); f(); ts.append(clock() - t)
    return [min(ts)*1e3 for ts in out]

def unit():
    x = torch.ones(4096).numpy()                   # torch's memory begins at a cache line: else the loop takes twice as long in some runs
    return lambda: _multiply_add(x, 4000)

def scene(n, seed=0):
    "A ball of radius .5: random sizes .01 to .03, rotations, opacities .1 to .9, colours"
    r = np.random.default_rng(seed)
    d = r.normal(size=(n, 3)); d /= np.linalg.norm(d, axis=1, keepdims=True)
    arrays = .5*d*r.random((n, 1))**(1/3), r.normal(size=(n, 4)), r.uniform(.01, .03, (n, 3)), r.uniform(.1, .9, n), r.random((n, 3))
    return [torch.tensor(a, dtype=torch.float32, requires_grad=True) for a in arrays]

def camera(size, cameras=1, distance=2.5, fov=50):
    V = torch.eye(4).repeat(cameras, 1, 1); V[:, 2, 3] = distance; V[:, 0, 3] = .05*torch.arange(cameras)
    f = .5*size/math.tan(math.radians(fov)/2)
    return V, torch.tensor([[f, 0, size/2], [0, f, size/2], [0, 0, 1.]]).repeat(cameras, 1, 1)

def probe(size, cameras=1): return torch.randn(cameras, size, size, 3, generator=torch.Generator().manual_seed(7))

def step(n, size, cameras=1):
    p, (V, K), G = scene(n), camera(size, cameras), probe(size, cameras)
    return lambda: (rasterization(*p, V, K, size, size)[0]*G).sum().backward()

def prototype(path):
    "step(n, size) by the prototype's fused kernels"
    spec = importlib.util.spec_from_file_location('prototype_rasterizer', path)
    module = importlib.util.module_from_spec(spec); sys.modules[spec.name] = module; spec.loader.exec_module(module)
    def step(n, size):
        p, (V, K), G, black = scene(n), camera(size), probe(size)[0], np.zeros(3, np.float32)
        return lambda: (module.Fused.apply(*p, V[0].numpy(), float(K[0, 0, 0]), size/2, size/2, size, size, black)[0]*G).sum().backward()
    return step

def speed(runs, path=None):
    "One row for each scene"
    before, rows = prototype(path) if path else None, []
    for (n, size), stored in PROTOTYPE.items():
        [loop] = least([unit()], runs)                 # by itself: the processor clocks lower for a while after it, and whoever came next would pay
        ours, *theirs = least([step(n, size), *([before(n, size)] if before else [])], runs)
        theirs = theirs[0] if before else stored*loop
        rows.append(dict(gaussians=n, pixels=size, ms=ours, loops=ours/loop, prototype_loops=theirs/loop, ratio=ours/theirs))
        print('{gaussians:9} {pixels:4} {ms:8.1f} {loops:9.2f} {ratio:12.2f}'.format(**rows[-1]), flush=True)
    return rows

def threads(runs):
    "Wall time: what two threads gain, here and on a plain loop. Many short turns, since on a busy machine both cores are seldom free at once"
    x, out = np.ones((16, 4096), np.float32), {}
    for k, f, turns in (('loop', lambda: _multiply_add_all(x, 200), 60*runs), ('rasterizer', step(20000, 256), 12*runs)):
        def with_threads(n): return lambda: (numba.set_num_threads(n), f())
        one, two = least([with_threads(1), with_threads(2)], turns, time.perf_counter)
        out[k] = one/two
    numba.set_num_threads(1)
    return out

def child(code, **env):
    "What a fresh Python prints last, as JSON, and all that it prints"
    r = subprocess.run([sys.executable, '-c', code, str(Path(__file__).parent)], env={**os.environ, 'OMP_NUM_THREADS': '1', 'NUMBA_NUM_THREADS': '1', **env}, capture_output=True, text=True, check=True)
    return json.loads(r.stdout.splitlines()[-1]), r.stdout

_HEAD = "import sys, json, time, gc; sys.path.insert(0, sys.argv[1]); import bench_rasterize as b\n"

def memory():
    "MB above what the process held before, at the peak of forward and backward of 100,000 Gaussians at 512 px (Linux)"
    return child(_HEAD + """
b.step(500, 64)(); f = b.step(100_000, 512); gc.collect()
read = lambda k: int(next(l for l in open('/proc/self/status') if l.startswith(k)).split()[1])/1024
open('/proc/self/clear_refs', 'w').write('5'); start = read('VmRSS'); f(); print(json.dumps(read('VmHWM') - start))""")[0]

def first_call(**env):
    "Seconds of the first call less those of the second, CPU and wall, and whether compiling was announced"
    (cpu, wall), said = child(_HEAD + """
f, out = b.step(500, 64), []
for _ in range(2): t = time.process_time(), time.perf_counter(); f(); out.append((time.process_time() - t[0], time.perf_counter() - t[1]))
print(json.dumps([a - c for a, c in zip(*out)]))""", **env)
    return dict(cpu_s=cpu, wall_s=wall, announced='Compiling' in said)

def machine():
    info = Path('/proc/cpuinfo')
    name = next((l.split(':')[1].strip() for l in info.read_text().splitlines() if l.startswith('model name')), '') if info.exists() else ''
    return dict(cpu=name or platform.processor(), cores=os.cpu_count(), python=platform.python_version(), numba=numba.__version__, torch=torch.__version__, wait_policy=os.environ['OMP_WAIT_POLICY'])

def four(runs):
    one, four = least([step(5000, 128), step(5000, 128, 4)], runs)
    return four/one

def cold():
    with tempfile.TemporaryDirectory() as t: return first_call(NUMBA_CACHE_DIR=t)

def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--prototype', help='numba_rasterizer.py of the prototypes'); p.add_argument('--runs', type=int, default=7)
    p.add_argument('--save', help='JSON file to write; what --only leaves out stays in it')
    p.add_argument('--only', nargs='*', default=('speed', 'four_cameras', 'two_threads', 'memory_mb', 'warm', 'cold'))
    a = p.parse_args()
    numba.set_num_threads(1); torch.set_num_threads(1)
    parts = dict(speed=lambda: dict(rows=speed(a.runs, a.prototype), prototype_in_this_run=bool(a.prototype)), four_cameras=lambda: four(a.runs), two_threads=lambda: threads(a.runs) if numba.config.NUMBA_NUM_THREADS > 1 else None, memory_mb=memory, warm=first_call, cold=cold)
    out = json.loads(Path(a.save).read_text()) if a.save and Path(a.save).exists() else {}
    for k in a.only:
        if k == 'speed': print(f'{"Gaussians":>9} {"px":>4} {"ms":>8} {"in loops":>9} {"of prototype":>12}')
        load = os.getloadavg()[0]
        out[k] = dict(value=parts[k](), load=load)
        print(k, json.dumps(out[k]), flush=True)
        if a.save: Path(a.save).parent.mkdir(exist_ok=True); Path(a.save).write_text(json.dumps(out | dict(machine=machine()), indent=1) + '\n')

if __name__ == '__main__': main()
