"""How long every control of every explorer takes: python tests/bench/bench_explorers.py [EXPLORER ...]

Each dial is set to values that nobody has asked for (the explorer begins as `lt.explore()` opens it), each button is pressed, and the time until the
new picture is there is measured, PNG included: milliseconds by the clock (median and largest) and of the processor, which others on the machine
lengthen less; and the ratio of the latter to one call of the ideal-detail prior without a prompt (four samples), timed beside it in the same run, so
that a slow machine can be told from a slow dial. The limit is that of a quiet core: processor time on one thread. THREADS="1 2" is the default."""
import contextlib, io, os, platform, statistics, sys, time
import torch
import lucidteach as lt

LIMIT, TOY = 200, 1500                                               # ms of a quiet core: for exact priors, and for the toy prior's network
OPENED = {e.name: e.call for e in lt.explore()} | {"guidance, exact": 'lt.guidance_explorer("ideal", prompt="a red mug")'}   # lt.explore() asks the network
LIMITS = {"guidance_explorer": TOY, "live_create": TOY}

def values(dial, now, n=3):
    "New values of a dial, near and far from the present one"
    if dial.is_tick: return [not now]
    if dial.is_text: return []
    if dial.choices: return [c for c in dial.choices if c != now][:n]
    if getattr(dial, "is_log", False): return [dial.low*(dial.high/dial.low)**s for s in (.31, .54, .83)][:n]
    low, high = max(dial.low, -1000), min(dial.high, 1000)             # a dial that goes to a million is moved by little
    return [v for s in (.31, .54, .83) if (v := type(dial.step)(low + round(s*(high - low)/dial.step)*dial.step)) != now][:n]

def press(explorer, act):
    "Milliseconds (clock, processor) until the picture after `act` is there; None where the value is refused, or nothing is drawn anew"
    clock, cpu, known = time.perf_counter(), time.process_time(), set(explorer.known)
    try: act()
    except ValueError: return None
    explorer.answer()
    spent = 1e3*(time.perf_counter() - clock), 1e3*(time.process_time() - cpu)
    return spent if set(explorer.known) - known else None

def rows(name, explorer):
    "(control, times) of every control"
    explorer.answer()
    for dial in explorer.dials():
        now, times = explorer.state[dial.name], []
        for v in values(dial, now):
            times.append(press(explorer, lambda: explorer.set(**{dial.name: v})))
            explorer.set(**{dial.name: now}); explorer.answer()
        yield dial.name, times
    for label, act in explorer.buttons().items():
        if name != "live_create": yield f"[{label}]", [press(explorer, act) for _ in range(2)]      # a run's step takes what it takes

def yardstick():
    "Milliseconds of the processor for one null call"
    prior = lt.load_prior("ideal-detail"); prior.embed("a red mug")
    x, null = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)), prior.embed("").repeat(4)
    def once():
        start = time.process_time(); prior.eps(x, 500, null)
        return 1e3*(time.process_time() - start)
    return lambda: statistics.median(once() for _ in range(7))

if __name__ == "__main__":
    print(f"{platform.machine()}, torch {torch.__version__}, load {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores")
    one, slow, counted = yardstick(), [], 0
    for threads in map(int, os.environ.get("THREADS", "1 2").split()):
        torch.set_num_threads(threads)
        for name, code in OPENED.items():
            if sys.argv[1:] and name not in sys.argv[1:]: continue
            with contextlib.redirect_stderr(io.StringIO()): explorer = eval(code, dict(lt=lt))
            yard = one()
            print(f"\n{name}, {threads} thread(s); one null call {yard:.1f} ms, load {os.getloadavg()[0]:.1f}\n  {'control':18s} clock: median largest  processor: median largest   null calls", flush=True)
            for control, times in rows(name, explorer):
                if not (times := [v for v in times if v]): continue
                (mid, top), (cpu, most) = [(statistics.median(v), max(v)) for v in zip(*times)]
                over = threads == 1 and most > LIMITS.get(name, LIMIT)
                print(f"  {control:18s} {mid:13.0f} {top:7.0f}  {cpu:17.0f} {most:7.0f}   x {cpu/yard:8.1f}{'   over' if over else ''}", flush=True)
                counted += threads == 1
                slow += [f"{name} {control} {most:.0f}"]*over
    print(f"\n{counted - len(slow)} of {counted} controls within their limit ({LIMIT} ms of one core, {TOY} where the network is asked)" + (f"; over: {', '.join(slow)}" if slow else ""))
