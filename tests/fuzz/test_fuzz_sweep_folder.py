"A sweep's folder after any accident: reading it tells the whole or says what is damaged, and sweeping makes it whole again"
import json, shutil
from pathlib import Path
import pytest, torch
from hypothesis import given, strategies as st
from fuzz import inputs
from lucidteach.lab import sweep as S
from lucidteach.prior.exact import GaussianPrior

PRIOR = GaussianPrior(torch.full((3, 8, 8), .5), .3)
JOBS = [S.Job("rate", arm, steps=1, canvas="pixels") for arm in ("sds", "csd")]
PROMPTS = ["a blue car", "a red mug"]

def score(images, prompts, stage): return [dict(bright=float(i.mean()), colour_a=.5) for i in images]

def finish(folder):
    S.sweep(folder, JOBS, PRIOR, PROMPTS, mode="quiet")
    S.score_all(folder, score, mode="quiet")
    return S.results(folder)

@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    finish(folder)
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix != ".lock"}

@pytest.fixture(scope="module")
def work(tmp_path_factory): return tmp_path_factory.mktemp("work")

def laid_out(whole, folder) -> Path:
    shutil.rmtree(folder)
    folder.mkdir()
    for name, data in whole.items(): (folder/name).write_bytes(data)
    return folder

values = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([]), st.just({}),
                   st.just(10**400), st.lists(st.integers(), max_size=3), st.just(["x", 1]))

@st.composite
def accidents(draw):
    "A change of a file's bytes: cut short, emptied, a byte changed, a key gone, a value of another kind, nested without end"
    kind = draw(st.sampled_from(("cut", "gone", "byte", "key", "value", "row", "deep", "other")))
    a, b, v = draw(st.floats(0, 1)), draw(st.integers(0, 255)), draw(values)

    def damage(data):
        at = min(int(a * len(data)), len(data) - 1)
        if kind == "gone": return None
        if kind == "cut": return data[:at]
        if kind == "byte": return data[:at] + bytes([b]) + data[at + 1:]
        if kind == "deep": return b"[" * 100_000
        if kind == "other": return json.dumps(v).encode()
        try: told = json.loads(data)
        except ValueError: return data[::-1]                               # a picture
        if kind == "row" and isinstance(told, list): return json.dumps(told[1:]).encode()
        part = told[0] if isinstance(told, list) else told
        name = sorted(part)[int(a * (len(part) - 1))]
        if kind == "value": part[name] = v
        else: part.pop(name)
        return json.dumps(told).encode()
    return damage

@inputs(120)
@given(which=st.integers(0, 5), damage=accidents())
def test_a_damaged_folder_is_told_and_mended(whole, work, which, damage):
    folder = laid_out(whole, work)
    path = folder/sorted(n for n in whole if n.endswith((".json", ".png", ".scores")))[which]
    data = damage(path.read_bytes())
    if data is None: path.unlink()
    else: path.write_bytes(data)
    try: rows = S.results(folder)
    except ValueError as e: assert "damaged files" in str(e) and path.stem in str(e)
    else: assert len(rows) == 4 or len(rows) == 2 and data is None                           # scores not made yet
    try: rows = finish(folder)
    except FileExistsError as e: return e.args[0].index("other prompts")                     # a letter of a prompt has changed
    assert [(r["arm"], r["prompt"]) for r in rows] == [(a, p) for a in ("csd", "sds") for p in PROMPTS]     # none is missing
    assert all(set(r) | {"prior"} == set(rows[0]) | {"prior"} for r in rows)     # that was not kept at first
    assert all(isinstance(r["bright"], (int, float)) for r in rows) and not S.mend(folder)
