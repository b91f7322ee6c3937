"""Where the time of `lucidteach create "a red mug"` goes: python tests/bench/bench_create_parts.py [--runs 3] [--profile FILE]

A fresh process for each run, one thread. Per part the processor's seconds (which other work on the machine disturbs
less) and those of the clock; the loop is the reference, what lies outside it is the last line. The first run compiles
the rasterizer where its kernels are not kept yet, and is not counted."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

CHILD = """
import contextlib, io, json, sys, time

began = time.process_time(), time.time()
spent, inside = {}, []


def now():
    return time.process_time(), time.time()


def timed(name, f):
    "f, whose time counts under its own name, without that of the parts that it calls"

    def g(*args, **kw):
        first = now()
        inside.append([0.0, 0.0])
        try:
            return f(*args, **kw)
        finally:
            took = [b - a for a, b in zip(first, now())]
            below = inside.pop()
            own = spent.setdefault(name, [0.0, 0.0])
            for i in range(2):
                own[i] += took[i] - below[i]
                if inside:
                    inside[-1][i] += took[i]

    return g


def load():
    import lucidteach.lab.create as create

    return create


def all_of_it():
    from lucidteach.cli import main

    create = timed("imports", load)()
    parts = dict(opened="prior", begun="points", estimate="estimate", run="loop", webp="turntable: webp")
    for name, part in (parts | dict(report_html="report")).items():
        setattr(create, name, timed(part, getattr(create, name)))
    for name, part in dict(save="files", turntable="turntable: frames", show="eight views").items():
        setattr(create.Creation, name, timed(part, getattr(create.Creation, name)))
    out, argv = sys.argv[1], sys.argv[2:]
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["create", *argv, "--out", out, "--device", "cpu"]) == 0


if PROFILE:
    import cProfile

    p = cProfile.Profile(time.process_time)
    p.runcall(all_of_it)
    p.dump_stats(PROFILE)
else:
    timed("rest", all_of_it)()
print(json.dumps(dict(parts=spent, start=began[0], wall=time.time())))
"""


def once(prompt, profile=None):
    "name -> [processor, clock] seconds of one run in a process of its own"
    from resource import RUSAGE_CHILDREN, getrusage

    env = os.environ | dict(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    before, began = getrusage(RUSAGE_CHILDREN), time.time()
    with tempfile.TemporaryDirectory() as d:
        command = [sys.executable, "-c", CHILD.replace("PROFILE", repr(profile)), f"{d}/run", prompt]
        done = subprocess.run(command, env=env, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    ended, after = time.time(), getrusage(RUSAGE_CHILDREN)
    total = [sum(getattr(after, k) - getattr(before, k) for k in ("ru_utime", "ru_stime")), ended - began]
    parts = json.loads(done.stdout)["parts"]
    if parts:
        parts["Python itself"] = [t - sum(v[i] for v in parts.values()) for i, t in enumerate(total)]
    return parts | {"all": total}


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--prompt", default="a red mug")
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--profile", help="instead: one run under cProfile, by the processor's clock, into this file")
    a = p.parse_args()
    if a.profile:
        return print(once(a.prompt, a.profile))
    once(a.prompt)
    runs = [once(a.prompt) for _ in range(a.runs)]
    middle = lambda k, i: statistics.median(r.get(k, [0, 0])[i] for r in runs)
    print(f"{a.prompt}: median of {a.runs} runs, one thread, load {os.getloadavg()[0]:.1f}")
    print(f"{'part':20} {'cpu s':>7} {'clock s':>8}")
    for k in runs[0]:
        print(f"{k:20} {middle(k, 0):7.2f} {middle(k, 1):8.2f}")
    print(
        f"{'outside the loop':20} {middle('all', 0) - middle('loop', 0):7.2f} {middle('all', 1) - middle('loop', 1):8.2f}"
    )


if __name__ == "__main__":
    main()
