"A folder of compare whose files were cut, mixed up or written by somebody else: the run is taken up, or the file is named; nothing else"
import json, sys, tempfile
from pathlib import Path
import pytest, torch
from hypothesis import given, strategies as st
sys.path.insert(0, str(Path(__file__).parent))
from fuzz import inputs
from lucidteach.lab import compare as C
from lucidteach.prior.exact import GaussianPrior
from lucidteach.run.files import read_with_numbers, with_numbers
from lucidteach.run.folders import claim, occupied

PRIOR = GaussianPrior(torch.full((3, 16, 16), .5), .3)
quickly = inputs(100)

def prepared(): return C.prepare("x", ["sds", "vsd"], prior=PRIOR, canvases=("pixels", "latents"), truth=None, steps=4, every=2)[0]

@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    "The files of a run of which the first half is done: (tensors, numbers, folder)"
    folder = tmp_path_factory.mktemp("run")
    class Interrupts(GaussianPrior):
        left = 24
        def eps(self, *a):
            self.left -= 1
            if self.left == 0: raise KeyboardInterrupt
            return super().eps(*a)
    with pytest.MonkeyPatch.context() as m:
        m.setattr(C.run, "__defaults__", (None, None, 0.))                # a checkpoint after every step
        with occupied(folder, prepared().config(), False): C.execute(prepared(), Interrupts(torch.full((3, 16, 16), .5), .3), "quiet", folder)
    assert prepared() and C.resume(again := prepared(), folder, PRIOR) and 0 < again.step < 4
    return *read_with_numbers(folder/"state.safetensors"), folder

def taken_up(data: bytes):
    "What `resume` makes of a checkpoint: whether there was one, or the sentence of its refusal"
    with tempfile.TemporaryDirectory() as t:
        (Path(t)/"state.safetensors").write_bytes(data)
        try: return C.resume(prepared(), t, PRIOR)
        except ValueError as e:
            assert "no whole checkpoint" in str(e) and "state.safetensors" in str(e) and "delete it" in str(e)
            return str(e)

values = st.none() | st.booleans() | st.integers(-3, 10**20) | st.floats() | st.text(max_size=5) | st.lists(st.integers(0, 3), max_size=3) | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)

@quickly
@given(data=st.data())
def test_tensors_are_there_and_have_their_shape(whole, data):
    named, head, _ = whole
    name, how = data.draw(st.sampled_from(sorted(named))), data.draw(st.sampled_from(["gone", "wider", "flat", "empty", "other type"]))
    other = {k: v for k, v in named.items() if k != name}
    v = named[name]
    changed = {"gone": None, "wider": torch.cat([v, v]) if v.ndim else v[None].repeat(2), "flat": v.reshape(1, -1) if v.ndim != 2 else v.flatten(),
               "empty": v.flatten()[:0], "other type": v.double() if v.dtype != torch.float64 else v.half()}[how]
    said = taken_up(with_numbers(other if changed is None else other | {name: changed}, head))
    if how != "other type": assert isinstance(said, str), (name, how)             # a float in another precision is a float

@quickly
@given(data=st.data())
def test_numbers_are_those_of_a_run(whole, data):
    named, head, _ = whole
    head = json.loads(json.dumps(head))
    where = data.draw(st.sampled_from(["top", "row", "rows", "field", "list"]))
    rows = head["rows"]
    if where == "top": head[data.draw(st.sampled_from(sorted(head)))] = data.draw(values)
    elif where == "rows": rows.pop() if data.draw(st.booleans()) else rows.append([])
    elif where == "row": rows[data.draw(st.integers(0, 3))] = data.draw(values)
    elif where == "list": rows[data.draw(st.integers(0, 3))].pop()
    else:
        row = rows[data.draw(st.integers(0, 3))][0]
        key = data.draw(st.sampled_from(sorted(row)))
        if data.draw(st.booleans()): del row[key]
        else: row[key] = data.draw(values)
    try: blob = with_numbers(named, head)
    except ValueError: return
    said = taken_up(blob)
    if where in ("rows", "list"): assert isinstance(said, str)

@quickly
@given(data=st.data())
def test_bytes_are_cut_or_changed(whole, data):
    blob = bytearray((whole[2]/"state.safetensors").read_bytes())
    cut = data.draw(st.booleans())
    if cut: blob = blob[:data.draw(st.integers(0, len(blob) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 4))): blob[data.draw(st.integers(0, min(4000, len(blob) - 1)))] = data.draw(st.integers(0, 255))
    said = taken_up(bytes(blob))
    if cut: assert isinstance(said, str)

@quickly
@given(config=st.binary(max_size=200) | st.text(max_size=200).map(str.encode) | values.map(lambda v: json.dumps(v).encode()), metrics=st.binary(max_size=100))
def test_a_folder_of_other_files_is_answered(config, metrics):
    with tempfile.TemporaryDirectory() as t:
        (Path(t)/"config.json").write_bytes(config); (Path(t)/"metrics.jsonl").write_bytes(metrics)
        with pytest.raises(FileExistsError, match="another run|no run"): claim(t, prepared().config(), promised=["report.html"])

def test_what_is_taken_up_ends_as_if_never_stopped(whole):
    "The checkpoint that all of these were made of, gone on with"
    end, alone = prepared(), prepared()
    C.resume(end, whole[2], PRIOR)
    for r in (end, alone): C.execute(r, PRIOR, "quiet")
    for arm in alone.arms: assert torch.equal(end.records[arm][-1].image, alone.records[arm][-1].image)
