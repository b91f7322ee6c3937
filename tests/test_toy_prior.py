"The shipped toy prior as a stranger meets it: a fresh process, diffusers' own pipeline, nothing but `import lucidteach` before it"
import json, subprocess, sys
from pathlib import Path

import lucidteach

TOY = Path(lucidteach.__file__).parent / "prior" / "weights" / "toy"

def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout

def test_stock_pipeline_loads_and_samples():
    out = run(f"""
import lucidteach
from diffusers import StableDiffusionPipeline
pipe = StableDiffusionPipeline.from_pretrained({str(TOY)!r})
pipe.set_progress_bar_config(disable=True)
image = pipe("a red mug", num_inference_steps=2, guidance_scale=3., output_type="np").images[0]
print(image.shape, image.min() >= 0, image.max() <= 1, image.std() > .01)
""")
    assert out.split() == "(64, 64, 3) True True True".split()

def test_package_data_is_small_and_has_no_pickles_or_machine_paths():
    files = [f for f in TOY.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) < 45e6
    assert {f.suffix for f in files} <= {".json", ".safetensors", ".txt", ".csv", ".md"}
    for f in TOY.rglob("*.json"): assert not any(s in f.read_text() for s in ('"/tmp', '"/root', '"/work', '"/home')), f

def test_weights_are_half_precision():
    for part, name in (("unet", "diffusion_pytorch_model"), ("text_encoder", "model")):
        raw = (TOY / part / f"{name}.safetensors").read_bytes()
        header = json.loads(raw[8:8 + int.from_bytes(raw[:8], "little")])
        assert {v["dtype"] for k, v in header.items() if k != "__metadata__"} <= {"F16", "I64"}, part
