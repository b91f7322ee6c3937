"""What the fuzz modules share: mutated inputs, a process that reads them, and the books.

Every input is read in a process of its own, so that a crash of native code, an endless loop and gigabytes are findings like any other. A reader may return,
or refuse with one of its errors (`readers.ALLOWED`); anything else is kept, input and traceback, in $FUZZ_FOUND and fails the test.

To add a reader: a function of a folder in readers.py, and a test in a module `test_fuzz_<theme>.py` that draws its files and calls `check`.
`make test` runs each test on a few inputs, always the same; `make fuzz MINUTES=30` goes on with new ones until the time is over: python tests/fuzz/fuzz.py --minutes 30"""
import argparse, atexit, collections, copy, hashlib, json, os, random, re, select, struct, subprocess, sys, time
from pathlib import Path
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

HERE = Path(__file__).parent
FOUND = Path(os.environ.get("FUZZ_FOUND") or HERE.parents[1]/"fuzz-found")
LONG = "FUZZ_STATS" in os.environ                    # make fuzz

def inputs(few: int, many: int = 0):
    "How many inputs a test draws: `few`, the same ones each time, in `make test`; `many` new ones in each round of `make fuzz`"
    kw = dict(deadline=None, suppress_health_check=list(HealthCheck))
    if not LONG: return settings(max_examples=few, derandomize=True, database=None, **kw)
    return settings(max_examples=many or 10*few, database=DirectoryBasedExampleDatabase(FOUND/"examples"), print_blob=True, **kw)

# ---------------------------------------------------------------- inputs
NUMBERS = (0, 1, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1)
WORDS = (b"-1", b"0", b"1e999", b"nan", b"inf", b"9"*30, b"9"*400, b"1.5", b"x", b"", b"2147483648", b"\xff\xfe", b"../../x", b"\0")
VALUES = (None, True, -1, 0, 10**9, 10**17, 1e308, float("nan"), "", "x", "../../x", "a"*300, [], {}, [[]], ["x"], {"x": 1}, [1, 2], [[1e308]*4]*4)

@st.composite
def mutated(draw, data: bytes, at_most: int = 4):
    "Bytes with one to four things done to them: cut, a byte or a number overwritten, something put in, taken out or doubled, a word of the text exchanged"
    b = bytearray(data)
    for _ in range(draw(st.integers(1, at_most))):
        if not b: break
        near = draw(st.booleans())                                     # headers are where it hurts
        at = draw(st.integers(0, min(len(b), 200 if near else len(b)) - 1))
        match draw(st.sampled_from(["cut", "byte", "flip", "number", "insert", "remove", "double", "word", "word"])):
            case "cut": del b[at:]
            case "byte": b[at] = draw(st.integers(0, 255))
            case "flip": b[at] ^= 1 << draw(st.integers(0, 7))
            case "number": b[at:at + 4] = struct.pack("<I", draw(st.sampled_from(NUMBERS)))
            case "insert": b[at:at] = draw(st.binary(max_size=8))
            case "remove": del b[at:at + draw(st.integers(1, 40))]
            case "double": b[at:at] = b[at:at + draw(st.integers(1, 40))]
            case "word":
                words = [m.span() for m in re.finditer(rb"[\w.+-]+", bytes(b[:20_000]))]
                if words: i, j = draw(st.sampled_from(words)); b[i:j] = draw(st.sampled_from(WORDS))
    return bytes(b)

def places(value, path=()):
    "The paths of all values in a nest of dicts and lists"
    yield path
    for k, v in (value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()): yield from places(v, (*path, k))

@st.composite
def mutated_json(draw, value, at_most: int = 3):
    "JSON text of which some values are exchanged, gone or doubled, and now and then some bytes are wrong"
    value = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, at_most))):
        path = draw(st.sampled_from(list(places(value))))
        if not path: value = copy.deepcopy(draw(st.sampled_from(VALUES))) if draw(st.integers(0, 9)) == 0 else value; continue
        inside = value
        for k in path[:-1]: inside = inside[k]
        match draw(st.sampled_from(["value", "value", "value", "gone", "more", "deep"])):
            case "value": inside[path[-1]] = copy.deepcopy(draw(st.sampled_from(VALUES)))      # it may be changed next
            case "gone": del inside[path[-1]]
            case "more" if isinstance(inside, dict): inside[draw(st.sampled_from(["x", "extra", "_class_name", "k1"]))] = copy.deepcopy(draw(st.sampled_from(VALUES)))
            case "deep": inside[path[-1]] = "@@deep@@"
        if not isinstance(value, (dict, list)): break
    text = json.dumps(value).encode().replace(b'"@@deep@@"', b"["*100_000 + b"]"*100_000)
    return draw(mutated(text, 2)) if draw(st.integers(0, 4)) == 0 else text

# ---------------------------------------------------------------- the process that reads
class Reader:
    "A child process that reads inputs one after the other, in little memory; started anew after a crash"
    def __init__(self): self.process = None
    def start(self):
        env = os.environ | dict(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1", HF_HUB_OFFLINE="1", PYTHONPATH=os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]))
        self.process = subprocess.Popen([sys.executable, "-W", "ignore", HERE/"readers.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env)
        self.answer(300)
    def answer(self, seconds):
        if not select.select([self.process.stdout], [], [], seconds)[0]: self.process.kill(); self.process.wait(); self.process = None; return dict(outcome="hang", text=f"no answer in {seconds} s")
        line = self.process.stdout.readline()
        if line: return json.loads(line)
        code = self.process.wait(); self.process = None
        return dict(outcome="crash", text=f"the process ended with {code}")
    def ask(self, reader: str, files: dict, seconds: float):
        if self.process is None: self.start()
        head = json.dumps(dict(reader=reader, files={k: len(v) for k, v in files.items()})).encode() + b"\n"
        self.process.stdin.write(head + b"".join(files.values())); self.process.stdin.flush()
        return self.answer(seconds)

READER, BOOKS = Reader(), collections.defaultdict(lambda: dict(read=0, refused=0, found=0, seconds=0.))

def check(reader: str, seconds: float = 60, **files: bytes):
    "Read the files, by name; AssertionError for anything but a result or one of the reader's errors. `seconds`: generous, for machines that are busy"
    start = time.perf_counter()
    told = READER.ask(reader, {k.replace("__", "/"): v for k, v in files.items()}, seconds)
    book = BOOKS[reader]
    book["seconds"] += time.perf_counter() - start
    if told["outcome"] in ("read", "refused"): book[told["outcome"]] += 1; return told
    book["found"] += 1
    raise AssertionError(f"{reader}: {told['outcome']}: {told.get('text', '')}\nkept in {keep(reader, told, files)}\n{told.get('trace', '')}")

def keep(reader, told, files) -> Path:
    "The input, in a folder named after what it does: of many that do the same the last, which hypothesis has made smallest"
    mark = hashlib.sha256((told["outcome"] + told.get("place", "")).encode()).hexdigest()[:8]
    folder = FOUND/f"{reader}-{told['outcome']}-{mark}"
    for name, data in files.items():
        (folder/name.replace("__", "/")).parent.mkdir(parents=True, exist_ok=True)
        (folder/name.replace("__", "/")).write_bytes(data)
    (folder/"what.txt").write_text(f"{reader}: {told['outcome']}: {told.get('text', '')}\n{told.get('trace', '')}")
    return folder

@atexit.register
def _books():
    if LONG and BOOKS:
        with open(os.environ["FUZZ_STATS"], "a") as f: f.write(json.dumps(BOOKS) + "\n")

# ---------------------------------------------------------------- make fuzz
def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--minutes", type=float, default=5.)
    p.add_argument("--only", default="", help="of the modules, those whose name holds this")
    a = p.parse_args()
    modules = sorted(f for f in HERE.glob("test_fuzz_*.py") if a.only in f.name)
    if not modules: p.error(f"no module of {HERE} is named *{a.only}*")
    FOUND.mkdir(exist_ok=True)
    stats, start, failed, rounds = FOUND/"books.jsonl", time.time(), set(), 0
    stats.unlink(missing_ok=True)
    env = os.environ | dict(FUZZ_STATS=str(stats), FUZZ_FOUND=str(FOUND))
    while rounds < len(modules) or time.time() - start < 60*a.minutes:
        module = modules[rounds % len(modules)]; rounds += 1
        r = subprocess.run([sys.executable, "-m", "pytest", "-o", "addopts=", "-q", "-p", "no:cacheprovider", "--timeout=0", f"--hypothesis-seed={(seed := random.randrange(2**32))}", str(module)], env=env, capture_output=True, text=True)
        failed |= set(re.findall(r"^FAILED (\S+)", r.stdout, re.M))
        if r.returncode > 1: print(r.stdout[-2000:], r.stderr[-2000:])
        print(f"{time.time() - start:6.0f} s  {module.stem:24} seed {seed:10}  {r.stdout.strip().splitlines()[-1]}", flush=True)
    total = collections.defaultdict(collections.Counter)
    for line in stats.read_text().splitlines():
        for reader, book in json.loads(line).items(): total[reader].update(book)
    print(f"\n{'reader':22}{'inputs':>8}{'read':>8}{'refused':>9}{'found':>7}{'seconds':>9}")
    for reader, b in sorted(total.items()): print(f"{reader:22}{b['read'] + b['refused'] + b['found']:8}{b['read']:8}{b['refused']:9}{b['found']:7}{b['seconds']:9.0f}")
    print(f"{'all':22}{sum(b['read'] + b['refused'] + b['found'] for b in total.values()):8}")
    if failed: print(f"\nFound something, the inputs are in {FOUND}:", *sorted(failed), sep="\n  ")
    return bool(failed)

if __name__ == "__main__": sys.exit(main())
