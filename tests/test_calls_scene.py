"Wrong calls of the scene's room, and what is answered: the value, what is allowed, the nearest option, before any work"
import argparse, time
import lucidteach as lt
import numpy as np, pytest, torch
from lucidteach import cli
from lucidteach.lab import create as lab
from lucidteach.prior.exact import GaussianPrior
from lucidteach.prior.world import Thing
from lucidteach.scene import field, meshes, points, run, sources, start, text_to_3d as t3
from lucidteach.splat.camera import Camera
from lucidteach.splat.gaussians import Gaussians

CAM, CLOUD, DICE = Camera.orbit(0, 0, 3., size=4, fov_deg=40), torch.rand(9, 3), torch.Generator()
F = field.Field((4,), samples=4)
PRIOR = GaussianPrior(torch.zeros(3, 16, 16), 1.)
go = lambda prompt="a red mug", **kw: lt.create(prompt, **{**dict(prior=PRIOR, mode="quiet", init="ball", size=16, points=20, view_prompts=False, overhead=False, steps=1), **kw})

# what is called, and words that the answer must hold
CALLS = [
    # start
    ("a str for a count of copies", lambda: start.replicated(CLOUD, "20"), "copies must be of type int, got '20'"),
    ("no copies", lambda: start.replicated(CLOUD, 0), "0 copies of every point: at least 1"),
    ("an array for a tensor", lambda: start.replicated(np.zeros((2, 3))), "torch.as_tensor(...)"),
    ("points of two numbers", lambda: start.fitted(torch.rand(5, 2), .9), "got float32 [5, 2]"),
    ("a radius below 0", lambda: start.fitted(CLOUD, -1), "radius must be a number above 0, got -1"),
    ("points that are NaN", lambda: start.fitted(CLOUD*torch.nan, 1.), "27 of 27 values NaN"),
    ("fewer colours than points", lambda: start.resampled(CLOUD, CLOUD[:4], 20, DICE), "colours must be a float tensor [N, 3]"),
    ("half a point", lambda: start.resampled(CLOUD, None, 2.5, DICE), "n must be a whole number, 1 or more, got 2.5"),
    ("a seed for a generator", lambda: start.resampled(CLOUD, None, 20, 0), "generator must be of type Generator, got 0"),
    ("a name for a thing", lambda: start.true_points("mug"), "thing must be of type Thing, got 'mug'"),
    ("points below 0", lambda: start.true_points(Thing("mug"), -5), "n must be a whole number, 1 or more, got -5"),
    # meshes
    ("a file that is not there", lambda: meshes.read_mesh("nowhere.ply"), "nowhere.ply"),
    ("an unknown ending", lambda: meshes.read_mesh("a.fbx"), ".obj"),
    ("no file", lambda: meshes.read_mesh(None), "path must be of type str or of type Path, got None"),
    ("an unknown axis", lambda: meshes.read_mesh("a.ply", up="x"), "up must be one of 'z', 'y'"),
    ("a cloud without triangles", lambda: meshes.on_triangles(meshes.Mesh(CLOUD), 5, DICE), "has no triangles"),
    ("a tensor for a mesh", lambda: meshes.on_triangles(CLOUD, 5, DICE), "mesh must be of type Mesh, got float32 [9, 3]"),
    # points
    ("no prompt", lambda: points.points_from_text(None), "prompt must be of type str, got None"),
    ("an empty prompt", lambda: points.points_from_text(" "), "say what to draw"),
    ("no steps", lambda: points.points_from_text("a mug", steps=0), "steps must be a whole number, 1 or more or None, got 0"),
    ("guidance that is infinite", lambda: points.points_from_text("a mug", guidance=float("inf")), "guidance must be a finite number"),
    ("a misspelt word", lambda: points.points_from_text("a red mog"), "mug"),
    ("a misspelt option", lambda: points.points_from_text("a mug", modle="toy"), "did you mean 'model'?"),
    ("a word for a batch", lambda: points.PointConfig(batch="x"), "batch must be a whole number, 1 or more, got 'x'"),
    ("a misspelt setting", lambda: points.PointConfig(stepps=3), "did you mean 'steps'?"),
    # sources
    ("a misspelt primitive", lambda: sources.initial_gaussians("bll"), "did you mean 'ball'?"),
    ("points of four numbers", lambda: sources.initial_gaussians(torch.rand(5, 4)), "[N, 6]"),
    ("nothing", lambda: sources.initial_gaussians(None), "a source must be a name, a file, a Mesh or an array [N, 3], got None"),
    ("no multiple", lambda: sources.initial_gaussians("ball", 1001, replicate=20), "multiple"),
    ("a radius of no size", lambda: sources.source_points("ball", 5, radius=0), "radius must be a number above 0, got 0"),
    ("a colour by its name", lambda: sources.initial_gaussians("ball", 5, colours="red and blue"), "colours must be True, False or one colour [3]"),
    ("an opacity of 2", lambda: sources.initial_gaussians("ball", 5, opacity=2), "opacity must be a share within 0..1, got 2"),
    # field
    ("no camera", lambda: F.render(None), "camera must be of type Camera, got None"),
    ("a background by its name", lambda: F.render(CAM, background="white"), "such as (1, 1, 1) for white"),
    ("a background in bytes", lambda: F.render(CAM, 255.), "background 255"),
    ("a seed for a generator", lambda: F.render(CAM, generator=0), "generator must be a torch.Generator, or None, got 0"),
    ("a misspelt option", lambda: F.render(CAM, sample=3), "did you mean 'samples'?"),
    ("a seed that is a word", lambda: field.Field(seed="x"), "seed must be a whole number, 0 or more, got 'x'"),
    ("one resolution", lambda: field.Field(16), "resolutions must be a tuple of whole numbers, 2 or more, got 16"),
    ("a tensor for Gaussians", lambda: field.field_like(CLOUD), "gaussians must be of type Gaussians, got float32 [9, 3]"),
    ("rays of two numbers", lambda: field.span(torch.zeros(4, 2), torch.zeros(4, 2), 1.), "o must be a float tensor [R, 3]"),
    ("other bins than rays", lambda: field.ray_weights(torch.ones(4, 8), torch.ones(5, 8)), "(where R = 4, S = 8)"),
    # Config
    ("a size of odd pixels", lambda: t3.Config(size=63), "got 63; the nearest are 60, 64"),
    ("a start that is none", lambda: t3.Config(init="q"), "init 'q'"),
    ("a misspelt start", lambda: t3.config("toy", init="sfere"), "did you mean 'sphere'?"),
    ("braces that nothing fills", lambda: t3.config("toy", disparity_prompt="{x}"), "disparity_prompt must be a text in which {} stands for the prompt"),
    ("a misspelt setting", lambda: t3.config("toy", lr_mean=1), "did you mean 'lr_means'?"),
    ("a misspelt preset", lambda: t3.config("toyy"), "there are paper, toy, ball"),
    ("a misspelt weight", lambda: t3.config("toy", weight="sigma"), "did you mean 'sigma2'?"),
    ("a part of it", lambda: t3.ViewConfig(flip=3), "flip must be a share within 0..1, got 3"),
    ("cameras that are a dict", lambda: t3.config("toy", cameras={}), "cameras must be of type LucidCameras or of type WorldCameras"),
    ("cameras of one angle", lambda: t3.WorldCameras(azimuth=5), "azimuth is a tuple of 2, got 5"),
    # run
    ("a scene that is a number", lambda: run.given(3), "Gaussians.from_points"),
    ("a file that is not there", lambda: run.given("missing.ply"), "missing.ply: no such file"),
    # create
    ("a misspelt start", lambda: go(init="bll"), "did you mean 'ball'?"),
    ("a scene that is not there", lambda: go(scene="missing.ply"), "missing.ply: no such file"),
    ("points that are not there", lambda: go(init="missing.ply"), "missing.ply: no such file"),
    ("a mode that is none", lambda: go(mode="loud"), "mode must be one of 'auto'"),
    ("a folder that is a number", lambda: go(out=5), "out must be the name of a folder"),
    ("a word for a bool", lambda: go(overwrite="yes"), "overwrite must be of type bool, got 'yes'"),
    ("a misspelt option", lambda: go(overwrit=True), "did you mean 'overwrite'?"),
    ("no prompt", lambda: go(None), "None"),
    ("a method that is none", lambda: go(method="isn"), "'ism'"),
    ("a number for a device", lambda: go(device=0), "device must be of type str, got 0"),
    ("an infinite guidance", lambda: go(guidance=float("nan")), "guidance must be a finite number, got nan"),
]

@pytest.mark.parametrize("what, call, words", CALLS, ids=[f"{i}: {c[0]}" for i, c in enumerate(CALLS)])
def test_a_wrong_call_is_answered(what, call, words):
    with pytest.raises((ValueError, TypeError, FileNotFoundError)) as e: call()
    assert words in str(e.value), str(e.value)

def test_of_a_missing_file_the_nearest_is_named(tmp_path):
    Gaussians.ball(3).save(tmp_path/"object.ply")
    with pytest.raises(FileNotFoundError, match="did you mean 'object.ply'?"): run.given(tmp_path/"objekt.ply")

@pytest.mark.parametrize("options, words", [(["--init", "bll"], "did you mean 'ball'?"), (["--scene", "missing.ply"], "missing.ply: no such file"), (["--size", "63"], "60, 64")])
def test_the_command_answers_before_any_work(options, words, tmp_path, monkeypatch, capsys):
    "In one line, without a folder, and before the prior is loaded"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lab, "opened", lambda *a: pytest.fail("the prior was loaded"))
    assert cli.main(["create", "a red mug", *options]) == 2
    said = capsys.readouterr()
    assert words in said.err and len(said.err.splitlines()) == 1 and not said.out and not list(tmp_path.iterdir())
