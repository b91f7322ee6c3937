"""Speed of the toy world's renderer: one 64 by 64 picture with 2 by 2 subsamples, on one core.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python tests/bench/bench_world.py

Times are CPU milliseconds, the least of several passes, and stand beside a plain multiply-add loop and a plain sphere tracer
(every ray walked by itself, every part looked at, mask and depth only) of the same run: those two ratios can be compared between machines.
The aim is 3 ms a picture."""
import sys, time
import numpy as np
from math import radians, sqrt, tan
from numba import njit
from lucidteach.prior import world

@njit(fastmath=True)
def _multiply_add(x, n):
    for _ in range(n):
        for i in range(len(x)): x[i] = x[i]*np.float32(.999) + np.float32(.001)

@njit(fastmath=True)
def _plain(parts, every, cam, px, N, ss, out):
    o = cam[3]; far = sqrt(o[0]**2+o[1]**2+o[2]**2)
    for i in range(N*ss):
        for j in range(N*ss):
            u, v = ((j+.5)/ss-.5*N)*px, ((i+.5)/ss-.5*N)*px
            q = 1/sqrt(1+u*u+v*v)
            dx, dy, dz = (cam[0,0]*u+cam[1,0]*v+cam[2,0])*q, (cam[0,1]*u+cam[1,1]*v+cam[2,1])*q, (cam[0,2]*u+cam[1,2]*v+cam[2,2])*q
            t = far-1.25
            for _ in range(90):
                d = 1e3
                for k in range(len(every)):
                    e = world.part_distance(parts, k, o[0]+t*dx, o[1]+t*dy, o[2]+t*dz)
                    d = max(d, -e) if parts[k,1] > 0 else min(d, e)
                if d < .1*px*far: out[i,j] = t*q; break
                t += d
                if t > far+1.25: break

def plain(thing, cam, size=64, ss=2):
    "Depth at every subsample, 0 where nothing is hit: the slow way"
    parts, out = world.parts_of(thing), np.zeros((size*ss, size*ss))
    _plain(parts, np.arange(len(parts)), np.concatenate([cam.axes, cam.position[None]]), 2*tan(radians(cam.fov)/2)/size, size, ss, out)
    return out

def least(f, n):
    f(); out = []
    for _ in range(n): t = time.process_time(); f(); out.append(time.process_time()-t)
    return min(out)*1e3

def main(runs=5):
    rng, x = np.random.default_rng(0), np.ones(4096, np.float32)
    todo = [(world.sample_thing(rng, depth=0, corruption=0), world.sample_camera(rng)) for _ in range(120)]
    both = lambda t, c: (world.render(t, c).alpha > .5).mean(), lambda t, c: (plain(t, c) > 0).mean()
    seen = [[f(t, c) for t, c in todo[:20]] for f in both]
    assert abs(np.subtract(*seen)).max() < .01, f'the plain tracer sees another picture: {abs(np.subtract(*seen)).max():.3f} of the pixels'
    unit = least(lambda: _multiply_add(x, 4000), runs)
    ms = least(lambda: [world.render(t, c) for t, c in todo], runs)/len(todo)
    slow = least(lambda: [plain(t, c) for t, c in todo[:20]], 3)/20
    fast = least(lambda: [world.render(t, c) for t, c in todo[:20]], runs)/20
    print(f'{ms:.2f} ms a picture, the mean of {len(todo)} random things ({"within" if ms < 3 else "ABOVE"} 3 ms); {ms/unit:.2f} multiply-add loops of {unit:.2f} ms')
    print(f'{slow/fast:.1f} times as fast as the plain tracer, which paints nothing ({slow:.1f} ms)')
    each = {n: least(lambda: [world.render(world.Thing(n), world.Camera(a)) for a in (20, 110, 200, 290)], runs)/4 for n in world.CATEGORIES}
    print('slowest: '+', '.join(f'{n} {t:.1f} ms' for n, t in sorted(each.items(), key=lambda r: -r[1])[:4]), f'; fastest: {min(each, key=each.get)} {min(each.values()):.1f} ms')

if __name__ == '__main__': main(*map(int, sys.argv[1:]))
