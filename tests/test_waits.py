"""Where Python waits for a GPU, found without one: a step of `create` on the device "meta", which has no numbers. Every op passes through a dispatch mode that
sees who reads a number, and which copies to the device do not go through `beside`"""
import sys
from pathlib import Path
import lucidteach, pytest, torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from lucidteach.scene import run as R, text_to_3d as T
from lucidteach.prior import latent
sys.path.insert(0, str(Path(__file__).parent/"bench"))
from bench_sd import build

def whose() -> str:
    "The innermost function of lucidteach that is at work"
    frame = sys._getframe()
    while frame and "lucidteach" not in Path(frame.f_code.co_filename).parts: frame = frame.f_back
    return frame.f_code.co_name if frame else ""

class Watch(TorchDispatchMode):
    "Notes who waits for the device and who copies to it; where a number is read, says 1, or 0 for a count"
    def __init__(self): super().__init__(); self.waits, self.copies = [], []
    def __torch_dispatch__(self, op, types, args=(), kw=None):
        kw, name = kw or {}, op._schema.name.removeprefix("aten::")
        there = [a for a in torch.utils._pytree.tree_leaves((args, kw)) if isinstance(a, torch.Tensor) and a.device.type == "meta"]
        to = torch.device(kw.get("device") or "meta").type
        if there and name == "_local_scalar_dense": self.waits.append(whose()); return float(args[0].is_floating_point())
        if there and name == "_to_copy" and to == "cpu": self.waits.append(whose()); return torch.ones(args[0].shape, dtype=kw.get("dtype") or args[0].dtype)
        if there and name in ("nonzero", "masked_select"): self.waits.append(whose())
        if there and name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1]): self.waits.append(whose())
        if not there and name == "_to_copy" and to == "meta" and kw.get("device"): self.copies.append(whose())
        return op(*args, **kw)

class Made(TorchFunctionMode):
    "What is made on the device from Python's numbers is copied there too"
    def __init__(self, copies): super().__init__(); self.copies = copies
    def __torch_function__(self, f, types, args=(), kw=None):
        given = isinstance(args[0], torch.Tensor) if args else True
        if getattr(f, "__name__", "") in ("tensor", "as_tensor") and not given and torch.device((kw or {}).get("device") or "cpu").type == "meta" or getattr(f, "__name__", "") == "new_tensor" and args[0].is_meta: self.copies.append(whose())
        return f(*args, **kw or {})

class Rasterize(torch.autograd.Function):
    "The shapes of a rasterization"
    @staticmethod
    def forward(ctx, size, *parts): ctx.save_for_backward(*parts); return parts[-1].new_empty(*size, parts[-1].shape[-1]), parts[-1].new_empty(*size, 1)
    @staticmethod
    def backward(ctx, *grads): return None, *(torch.empty_like(p) for p in ctx.saved_tensors)

def rasterization(means, quats, scales, opacities, colors, viewmats, Ks, width, height, backgrounds, packed):
    means2d = (means[..., None, :, :] @ viewmats[..., :2, :3].mT) + viewmats[..., None, :2, 3]
    image, alpha = Rasterize.apply((*viewmats.shape[:-2], height, width), quats, scales, opacities, means2d, colors)
    return image, alpha, dict(means2d=means2d, radii=torch.ones_like(means2d), width=width, height=height, n_cameras=viewmats.shape[-3], gaussian_ids=None)

@pytest.fixture
def prior(monkeypatch):
    monkeypatch.setattr(latent, "pick_device", lambda device, dtype: (torch.device("meta"), torch.float16))
    monkeypatch.setattr(T, "rasterization", rasterization)
    return R.Timed(latent.LatentPrior(build("sd21base", device="meta")))

@pytest.mark.parametrize("method", ["ism", "sds"])
def test_a_step_waits_twice(prior, method):
    "For the numbers of the latents (on a CUDA device only after the network has been asked), and once for the sizes of all gradients"
    c = T.config("paper", size=64, points=100, perp_neg=True)
    state = T.State(T.Splats(T.start(c), c, "meta"))
    with Watch(): R.advance(prior, "a red mug", method, c, state)         # texts are read once a run
    with Watch() as seen, Made(seen.copies): R.advance(prior, "a red mug", method, c, state)
    assert state.step == 2, state.stopped
    assert seen.waits == ["check_x", "why_stop"]
    assert seen.copies and set(seen.copies) == {"beside"}
