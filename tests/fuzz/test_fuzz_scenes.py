"Scenes of Gaussians in every format"
import gzip, io, json, sys, zipfile
from pathlib import Path
import pytest, torch
from hypothesis import given, strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from fuzz import check, inputs, mutated, mutated_json

KINDS = ("ply", "compressed.ply", "splat", "ksplat", "spz", "sog")

@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    "Two scenes in each format, with harmonics and without"
    pytest.importorskip("gaussforge")
    from lucidteach.splat.gaussians import Gaussians
    folder, g = tmp_path_factory.mktemp("scenes"), Gaussians.primitive("torus", 300, sh_degree=2)
    g.sh.normal_(generator=torch.Generator().manual_seed(0))
    return {kind: [s.save(folder/f"a.{kind}").read_bytes() for s in (g, g[:5].with_degree(0))] for kind in KINDS}

@pytest.mark.parametrize("kind", KINDS)
@inputs(20)
@given(data=st.data())
def test_scene(scenes, kind, data):
    check("scene", **{f"a.{kind}": data.draw(mutated(data.draw(st.sampled_from(scenes[kind]))))})

@inputs(20)
@given(data=st.data())
def test_inside_the_stream_of_a_spz(scenes, data):
    "A whole gzip stream, with a wrong content"
    raw = gzip.decompress(data.draw(st.sampled_from(scenes["spz"])))
    check("scene", **{"a.spz": gzip.compress(data.draw(mutated(raw)), 1)})

@inputs(20)
@given(data=st.data())
def test_inside_the_zip_of_a_sog(scenes, data):
    "A whole zip, one of whose parts is wrong, most often what it says of the others"
    z = zipfile.ZipFile(io.BytesIO(data.draw(st.sampled_from(scenes["sog"]))))
    parts = {name: z.read(name) for name in z.namelist()}
    name = data.draw(st.sampled_from(["meta.json"]*len(parts) + sorted(parts)))
    parts[name] = data.draw(mutated_json(json.loads(parts[name])) if name == "meta.json" else mutated(parts[name]))
    with zipfile.ZipFile(out := io.BytesIO(), "w") as z:
        for k, v in parts.items(): z.writestr(k, v)
    check("scene", **{"a.sog": out.getvalue()})
