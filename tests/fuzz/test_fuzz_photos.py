"Folders of photographs: COLMAP's, and those with a transforms.json"
import io, struct, sys
from pathlib import Path
from hypothesis import given, strategies as st
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from fuzz import check, inputs, mutated, mutated_json

def png(size=(8, 6), colour=(200, 30, 30)):
    Image.new("RGB", size, colour).save(out := io.BytesIO(), "PNG")
    return out.getvalue()

PNG, POSES = png(), [(1, 0, 0, 0, 0, 0, 3), (.9, .1, .2, .3, .1, .2, 3)]
TEXT = dict(cameras=b"# cameras\n1 PINHOLE 8 6 9 9 4 3\n", images="# images\n".encode() + "".join(f"{i + 1} {' '.join(map(str, p))} 1 {i}.png\n1.5 2.5 -1 3 4 7\n" for i, p in enumerate(POSES)).encode(),
            points3D=b"1 .1 .2 .3 9 9 9 .5 1 2\n2 .1 .5 .3 9 9 9 .5 1 2\n")
BINARY = dict(cameras=struct.pack("<QiiQQ4d", 1, 1, 1, 8, 6, 9, 9, 4, 3),
              images=struct.pack("<Q", 2) + b"".join(struct.pack("<i7di", i + 1, *p, 1) + f"{i}.png".encode() + b"\0" + struct.pack("<Qddq", 1, 1, 2, -1) for i, p in enumerate(POSES)),
              points3D=struct.pack("<Q", 1) + struct.pack("<Q3d3BdQ", 1, .1, .2, .3, 9, 9, 9, .5, 1) + struct.pack("<2i", 1, 2))

@inputs(30)
@given(data=st.data())
def test_colmap(data):
    end, files = data.draw(st.sampled_from([("txt", TEXT), ("bin", BINARY)]))
    files, which = dict(files), data.draw(st.sampled_from([*files, "picture"]))
    pictures = {"images/0.png": PNG, "images/1.png": PNG}
    if which == "picture": pictures["images/0.png"] = data.draw(st.one_of(mutated(PNG), st.just(png((6, 8)))))
    else: files[which] = data.draw(mutated(files[which]))
    check("colmap", **{f"sparse/0/{k}.{end}": v for k, v in files.items()}, **pictures)

EYE = [[1., 0, 0, 0], [0, 1., 0, 0], [0, 0, 1., 3], [0, 0, 0, 1.]]
SCENE = dict(camera_angle_x=.7, w=8, h=6, fl_x=9., fl_y=9., cx=4., cy=3., train_filenames=["r_0.png", "r_1.png"], frames=[dict(file_path=f"r_{i}.png", transform_matrix=EYE) for i in range(2)])

@inputs(30)
@given(data=st.data())
def test_transforms(data):
    check("transforms", **{"transforms.json": data.draw(mutated_json(SCENE)), "r_0.png": PNG, "r_1.png": PNG})
