"Scenes of Gaussians in every format"
import sys
from pathlib import Path
import pytest, torch
from hypothesis import given, strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from fuzz import check, inputs, mutated

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
