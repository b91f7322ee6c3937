"""Seconds of every check of the course, with the solutions and with the stubs, and of each lesson's exercises in all.

python tests/bench/course_seconds.py [3 6 ...]: the lessons; one process, on however many threads OMP_NUM_THREADS says.
"""
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from test_course import COURSE, LESSONS, executed, read  # noqa: E402

from lucidteach.lab.exercises import exercises, student  # noqa: E402

wanted = {int(n) for n in sys.argv[1:]}
folder = Path(tempfile.mkdtemp())
paths = [p for p in LESSONS if not wanted or int(p.stem[1:3]) in wanted]
right = executed([(p.stem, read(p)["cells"], COURSE) for p in paths], folder)
stubs = executed([(p.stem, student(read(p))["cells"], COURSE) for p in paths], folder)
print(f"{'exercise':58}{'check':>7}{'hidden':>8}{'stub':>7}")
for path, a, b in zip(paths, right, stubs):
    nb = read(path)
    took, stub = ({c[0]: c[3] for c in found["cells"]} for found in (a, b))
    for e in exercises(nb):
        of = {tag: sum(took.get(nb["cells"][k]["id"], 0) for k in where) for tag, where in e.cells.items()}
        without = sum(stub.get(nb["cells"][k]["id"], 0) for k in e.cells["check"])
        print(f"{e.number + ' ' + e.title:58.57}{of['check']:7.2f}{of.get('hidden', 0):8.2f}{without:7.2f}")
    wrong = [c for c in a["cells"] if c[2]]
    print(f"{path.stem}: {a['seconds']} s solved, {b['seconds']} s with stubs", *wrong)
