"The house: no arrow points up, every line fits on a page, old paths still lead somewhere, names have types"
import ast
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lucidteach
from lucidteach._moved import LEFT, MOVED
from lucidteach.lab.house import arrows, rooms, upward

root = Path(__file__).parent.parent


def test_no_arrow_points_up():
    "A room imports only from rooms before it, late imports included"
    house = rooms(root / "nbs")
    assert len(arrows(house)) > 50
    assert upward(house) == []


def test_modules_of_the_library_are_those_of_the_notebooks():
    "What is written by hand is small and named in CONTRIBUTING"
    by_hand = {"__init__", "__main__", "_before", "_moved", "_modidx", "cli", "doctor"}
    of_notebooks = {r.module for r in rooms(root / "nbs")} - {""}
    files = {p.relative_to(root / "lucidteach").with_suffix("") for p in (root / "lucidteach").rglob("*.py")}
    found = {".".join(p.parts) for p in files if p.name != "__init__" or len(p.parts) == 1}
    assert found - by_hand == of_notebooks
    text = (root / "CONTRIBUTING.md").read_text()
    assert all(f"{name}.py" in text for name in by_hand - {"_modidx"})


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=lambda c: c[0])
def test_ruff(command):
    pytest.importorskip("ruff")
    ruff = [sys.executable, "-m", "ruff", *command, "--no-cache"]
    by_hand = [f"lucidteach/{name}.py" for name in ("__init__", "__main__", "_before", "_moved", "cli", "doctor")]
    r = subprocess.run([*ruff, "nbs", *by_hand], cwd=root, capture_output=True, text=True)
    assert r.returncode == 0, r.stdout[-3000:]


def test_stored_results_are_few_files():
    "A clone is small: packed studies, not a file a job"
    files = [p for p in (root / "nbs").glob("*/results/**/*") if p.is_file()]
    assert 5 < len(files) < 60


OLD = {  # what a user of the version before may have written
    "distill.compare": ("compare", "Settings", "Comparison", "sharpness_ratio", "saturation_ratio", "optimise", "foreground"),
    "create.text_to_3d": ("create", "Config", "config", "generate", "Creation"),
    "create.init": ("initial_gaussians", "read_mesh", "points_from_text", "true_points"),
    "create.field": ("Field",),
    "show.viewer": ("show", "viewer_html"),
    "show.live": ("Live", "strip"),
    "show.explorers": ("stepper",),
    "show.report": ("report_html",),
    "judge.sweep": ("sweep", "ledger"),
    "judge.metrics": ("load_judge", "kid", "holm"),
    "prior.world": ("parse", "caption", "nearest_truth", "render", "CATEGORIES"),
    "prior.latent": ("load_prior", "LatentPrior"),
    "prior.schedule": ("brief", "Schedule"),
    "splat.gaussians": ("Gaussians", "rotation_matrix", "to_ply", "from_ply"),
    "splat.fit": ("fit", "load_colmap", "load_transforms"),
    "splat.rasterize": ("rasterization", "render", "project"),
    "distill.ism": ("ism", "OFFICIAL_CODE"),
    "distill.zoo": ("vsd", "sdi", "METHODS"),
    "distill.sds": ("METHODS", "Step", "surrogate", "checked"),
}


LEADS = """
import importlib, json, sys, warnings
for module, names in json.loads(sys.argv[1]).items():
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = importlib.import_module(f"lucidteach.{module}")
        for name in names: assert getattr(found, name) is not None
    if module in json.loads(sys.argv[2]): assert any(w.category is FutureWarning for w in told), module
"""


def test_old_paths_lead_somewhere():
    "Where names of the version before live now, with a warning where the module is gone"
    lists = json.dumps(OLD), json.dumps([*MOVED])
    r = subprocess.run([sys.executable, "-c", LEADS, *lists], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr[-800:]
    for home in {h for homes in (*MOVED.values(), *LEFT.values()) for h in homes}:
        assert importlib.util.find_spec(f"lucidteach.{home}"), f"lucidteach._moved names {home}, which is not there"


def test_functions_stay_functions_beside_old_paths():
    "Importing `lucidteach.create.text_to_3d` puts the old package in the place of the function: it can still be called"
    code = """
import warnings; warnings.simplefilter("ignore")
import lucidteach as lt
import lucidteach.create.text_to_3d as old, lucidteach.show.viewer
assert old.create and lt.create.text_to_3d is old
try: lt.create("a red mug", "no such method")
except (ValueError, KeyError) as e: assert "no such method" in str(e)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_functions_are_copied_and_pickled():
    import copy
    import pickle

    for f in (lucidteach.create, lucidteach.show, lucidteach.compare):
        assert pickle.loads(pickle.dumps(f)) is copy.copy(f) is copy.deepcopy(f) is f


def test_the_lists_of_names_are_one():
    "What `lt.` offers, and what an editor and a type checker are told of"
    tree = ast.parse((root / "lucidteach" / "__init__.py").read_text())
    block = next(n for n in tree.body if isinstance(n, ast.If) and getattr(n.test, "attr", "") == "TYPE_CHECKING")
    told = {name.asname: node.module for node in block.body for name in node.names}
    assert told == lucidteach._names


USER = """
import torch

import lucidteach as lt

prior = lt.load_prior("toy")
x = prior.encode(torch.full((1, 3, 64, 64), 0.8))
step = lt.METHODS["ism"](prior, x, "a red mug", t=500, guidance=7.5)
loss = lt.surrogate(x, step.grad)
result = lt.compare("a red mug", methods=("sds", "ism"), steps=4)
scene = lt.create("a red mug", "ism", steps=4)
camera = lt.Camera.orbit(30.0)
picture = lt.Gaussians.ball(100).render(camera).rgb
lt.show(scene)
"""


def test_types_of_a_users_script(tmp_path):
    "mypy finds nothing in what README teaches, and finds a wrong call"
    pytest.importorskip("mypy")
    mypy = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), "--follow-untyped-imports"]
    config = tmp_path / "mypy.ini"
    skipped = "".join(f"[mypy-{m}.*]\nfollow_imports = skip\nignore_missing_imports = true\n" for m in SKIPPED)
    config.write_text(f"[mypy]\nignore_errors = false\n[mypy-lucidteach.*]\nignore_errors = true\n{skipped}")
    (tmp_path / "user.py").write_text(USER)
    (tmp_path / "wrong.py").write_text("import lucidteach as lt\nlt.Camera.orbitt(30.0)\nlt.surogate\n")
    r = subprocess.run([*mypy, "--config-file", config, "user.py", "wrong.py"], cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "MYPYPATH": str(root)})
    errors = [line for line in r.stdout.splitlines() if ": error:" in line]
    assert [line.split(":")[0] for line in errors] == ["wrong.py"] * 2, r.stdout + r.stderr


SKIPPED = ("torch", "numpy", "numba", "diffusers", "transformers", "matplotlib", "PIL", "scipy", "IPython", "trimesh")
