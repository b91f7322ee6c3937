"Meshes and clouds of points"
import json, sys
from pathlib import Path
import pytest
from hypothesis import given, strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from fuzz import check, inputs, mutated, mutated_json

CORNERS = "0 0 0\n1 0 0\n0 1 0\n0 0 1\n"
HEAD = "element vertex 4\nproperty float x\nproperty float y\nproperty float z\nelement face 2\nproperty list {} int vertex_indices\nend_header\n"
OBJ = "mtllib a.mtl\nusemtl m\n" + "".join(f"v {c}\n" for c in CORNERS.splitlines()) + "vt 0 0\nvt 1 1\nf 1/1 2/2 3/1\nf -1 -2 -3\n"

@pytest.fixture(scope="module")
def meshes(tmp_path_factory):
    import struct, trimesh
    box, folder = trimesh.creation.box((1, 2, 3)), tmp_path_factory.mktemp("meshes")
    box.visual.vertex_colors = [[10*i, 0, 51, 255] for i in range(8)]
    for kind in ("stl", "off", "glb"): box.export(folder/f"a.{kind}")
    found = {kind: (folder/f"a.{kind}").read_bytes() for kind in ("stl", "off", "glb")}
    found["ply"] = ("ply\nformat ascii 1.0\n" + HEAD.format("uchar") + CORNERS + "3 0 1 2\n3 1 2 3\n").encode()
    body = struct.pack("<12f", *map(float, CORNERS.split())) + struct.pack("<iiii", 3, 0, 1, 2) + struct.pack("<iiii", 3, 1, 2, 3)
    found["binary.ply"] = ("ply\nformat binary_little_endian 1.0\n" + HEAD.format("int")).encode() + body
    found["obj"] = OBJ.encode()
    return found

@pytest.mark.parametrize("kind", ["ply", "binary.ply", "obj", "stl", "off", "glb"])
@inputs(15)
@given(data=st.data())
def test_mesh(meshes, kind, data):
    more = {"a.mtl": data.draw(mutated(b"newmtl m\nmap_Kd a.png\nKd 0 1 0\n"))} if kind == "obj" else {}
    check("mesh", **{f"a.{kind.split('.')[-1]}": data.draw(mutated(meshes[kind]))}, **more)

GLTF = dict(asset=dict(version="2.0"), scene=0, scenes=[dict(nodes=[0])], nodes=[dict(mesh=0)], meshes=[dict(primitives=[dict(attributes=dict(POSITION=0))])],
            accessors=[dict(bufferView=0, componentType=5126, count=4, type="VEC3", max=[1, 1, 1], min=[0, 0, 0])], bufferViews=[dict(buffer=0, byteOffset=0, byteLength=48)], buffers=[dict(uri="a.bin", byteLength=48)])

@inputs(15)
@given(data=st.data())
def test_gltf(data):
    check("mesh", **{"a.gltf": data.draw(mutated_json(GLTF)), "b.bin": bytes(48)})
