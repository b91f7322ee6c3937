"""What a second thread is worth on a quiet machine, and what it costs beside other work: python tests/bench/bench_threads.py --save nbs/3_splat/results/threads.json

Seconds of `lucidteach compare "a blue car" --prior toy --methods sds,ism`, and milliseconds of a step of fitting (notebook 35), by how torch's idle threads wait; alone, and with a process beside that never rests.
`late`: torch was imported before lucidteach, so its threads spin. Run it with nothing else on the machine."""
import argparse, json, os, subprocess, sys, tempfile, time
from pathlib import Path

HOW = {"two threads": {}, "two threads, asleep at once": dict(OMP_WAIT_POLICY="PASSIVE", GOMP_SPINCOUNT="0"), "one thread": dict(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1"), "late": {}}
FIT = """import time, itertools; from lucidteach.prior import world; from lucidteach.splat.fit import Posed, fit, spiral; from lucidteach.splat.gaussians import Gaussians
steps = fit(Posed.from_world(world.Thing("robot", "blue"), spiral(40), 128, 2000), Gaussians.ball(2000, radius=.8))
for _ in itertools.islice(steps, 200): pass
began = time.perf_counter()
for _ in itertools.islice(steps, 200): pass
print((time.perf_counter() - began)/200*1000)"""

def python(how, *args):
    "What a fresh Python prints last"
    env = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")} | HOW[how]
    return subprocess.run([sys.executable, *args], env=env, capture_output=True, text=True, check=True).stdout.split()[-1]

def fit_ms(how): return float(python(how, "-W", "ignore", "-c", ("import torch; " if how == "late" else "import lucidteach; ") + FIT))

COMPARE = ("compare", "a blue car", "--prior", "toy", "--methods", "sds,ism")        # two methods on the toy prior, as README says; without them it would be two worlds

def compare_s(how):
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as d: python(how, "-m", "lucidteach.cli", *COMPARE, "--out", d + "/run")
    return time.perf_counter() - began

def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0]); ap.add_argument("--save", type=Path)
    args, found = ap.parse_args(), dict(cores=os.cpu_count())
    fit_ms("one thread")                                                  # compiled from here on
    for beside in ("alone", "beside a busy process"):
        busy = None if beside == "alone" else subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            for how in HOW:
                found.setdefault(beside, {})[how] = dict(fit_ms=round(fit_ms(how), 1)) | ({} if how == "late" else dict(compare_s=round(compare_s(how), 1)))     # the command line is never late
                print(beside, how, found[beside][how], flush=True)
        finally:
            if busy: busy.kill()
    if args.save: args.save.write_text(json.dumps(found, indent=1) + "\n")

if __name__ == "__main__": main()
