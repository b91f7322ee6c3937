"""Speed of the CPU rasterizer, forward and backward, as ratios that can be compared between machines.

    OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1 python tests/bench/bench_rasterize.py

Times are CPU milliseconds (one thread), the least of several runs, and are divided by the time of a plain multiply-add loop measured in the same run.
PROTOTYPE holds the first prototype's times in the same unit, measured with the same scenes; a ratio below 1 is faster than it was.
On a shared machine even the ratios move by a fifth: repeat before believing."""
import os
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
import math, time
import numba, numpy as np, torch
from numba import njit
from lucidteach.splat.rasterize import rasterization

PROTOTYPE = {(5000, 64): 5.6, (5000, 128): 8.1, (20000, 256): 27., (20000, 512): 62., (100000, 512): 157.}    # in multiply-add loops, the least seen

@njit(fastmath=True)
def _multiply_add(x, n):
    for _ in range(n):
        for i in range(len(x)): x[i] = x[i]*np.float32(.999) + np.float32(.001)

def least(f, n):
    f(); out = []
    for _ in range(n): t = time.process_time(); f(); out.append(time.process_time() - t)
    return min(out)*1e3

def unit(): x = np.ones(4096, np.float32); return least(lambda: _multiply_add(x, 4000), 5)

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

def step(n, size, cameras=1):
    p, (V, K) = scene(n), camera(size, cameras)
    G = torch.randn(cameras, size, size, 3, generator=torch.Generator().manual_seed(7))
    return lambda: (rasterization(*p, V, K, size, size)[0]*G).sum().backward()

def main():
    runs = int(os.sys.argv[1]) if len(os.sys.argv) > 1 else 7
    numba.set_num_threads(1); torch.set_num_threads(1)
    print(f'{"Gaussians":>9} {"px":>4} {"ms":>8} {"in loops":>9} {"of prototype":>12}')
    for (n, size), before in PROTOTYPE.items():
        u, t = unit(), least(step(n, size), runs)
        print(f'{n:9} {size:4} {t:8.1f} {t/u:9.2f} {t/u/before if before else float("nan"):12.2f}', flush=True)
    one, four = least(step(5000, 128), runs), least(step(5000, 128, 4), runs)
    print(f'four cameras in one call: {four/one:.2f} times one camera')
    if numba.config.NUMBA_NUM_THREADS > 1: threads(runs)

def threads(runs):
    "Wall time: gain of two threads"
    def wall(f):
        f(); ts = []
        for _ in range(runs): t = time.perf_counter(); f(); ts.append(time.perf_counter() - t)
        return min(ts)
    f = step(20000, 256); one = wall(f); numba.set_num_threads(2); print(f'two threads: {one/wall(f):.2f} times as fast as one')

if __name__ == '__main__': main()
