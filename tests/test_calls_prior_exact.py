"Wrong calls of the exact priors, the schedule, guidance and training: the answer has the value, what is allowed, the nearest option"
import math

import numpy as np
import pytest
import torch

from lucidteach.prior import schedule as S
from lucidteach.prior.cond import Cond, as_texts
from lucidteach.prior.exact import GaussianPrior, ImageSetPrior, MixturePrior, grid2d, show_images, toy_images, toy_mixture
from lucidteach.prior.guidance import as_cond, cfg, guided_eps, perp, perp_neg, perp_neg_weights, view_cond, view_weights
from lucidteach.prior.ideal import IdealPrior, from_patches, speckle_patterns, to_patches, true_renders
from lucidteach.prior.patches import PatchPrior, contrast, cut_blocks, dot_patterns, dot_world, off_pattern

sd, zoo, bell = S.Schedule.stable_diffusion(), toy_mixture(), GaussianPrior(0.5, 0.2)
ideal, dots = IdealPrior(renders=1, wide=0, size=16), dot_world(8)
x, pictures = torch.zeros(2, 2, 1, 1), torch.zeros(1, 3, 16, 16)
blocks = MixturePrior(torch.zeros(2, 1, 4, 4), 0.1)
views = MixturePrior(torch.zeros(3, 2, 1, 1), 0.3, labels=[f"toy, {v} view" for v in ("front", "side", "back")])
flat = np.zeros((1, 3, 16, 16))

# name, call, words of the answer
CALLS = [
    ("schedule of a str", lambda: S.Schedule("x"), ["alphas_cumprod must be a list of numbers", "got 'x'"]),
    ("schedule of None", lambda: S.Schedule(None), ["alphas_cumprod", "None"]),
    ("rising schedule", lambda: S.Schedule(sd.alphas_cumprod.flip(0)), ["strictly falling", "shape (1000,)"]),
    ("schedule of a number", lambda: S.Schedule(0.5), ["strictly falling", "shape ()"]),
    ("no scheduler", lambda: S.Schedule.from_diffusers("ddim"), ["str has no alphas_cumprod"]),
    ("a billion times", lambda: S.scaled_linear(10**9), ["T must be a number of times, 1 to 1,000,000", "1000000000"]),
    ("beta as a str", lambda: S.scaled_linear(beta_start="0.1"), ["beta_start", "'0.1'"]),
    ("time as a float", lambda: sd.gamma(0.5), ["None (clean data)", "0.5"]),
    ("time too late", lambda: sd.gamma(1000), ["0..999", "1000"]),
    ("an int below 0", lambda: sd.abar(-1), ["0..999", "None is clean data"]),
    ("a tensor below -1", lambda: sd.abar(torch.tensor([3, -2])), ["in a LongTensor -1", "LongTensor [2] from -2 to 3"]),
    ("times as floats", lambda: sd.abar(torch.zeros(10_000)), ["LongTensor [B]", "float32 [10000]"]),
    ("noise as numpy", lambda: sd.add_noise(x, np.zeros((2, 2, 1, 1)), 5), ["eps must be a float tensor", "torch.as_tensor"]),
    ("picture as numpy", lambda: sd.x0_hat(flat, pictures, 5), ["x_t must be a float tensor", "torch.as_tensor"]),
    ("step of None", lambda: sd.step(None, x, 5, 3), ["x must be a float tensor", "None"]),
    ("weight", lambda: S.weight("gama", sd, 3), ["did you mean 'gamma'?", "known: gamma, sigma2"]),
    ("weight as a number", lambda: S.weight(5, sd, 3), ["unknown weight 5"]),
    ("lo above 1", lambda: S.UniformT(lo=2), ["lo must be a share within 0..1", "got 2"]),
    ("hi above 1", lambda: S.UniformT(hi=1.2), ["hi must be a share", "1.2"]),
    ("empty range", lambda: S.UniformT(lo=0.5, hi=0.3)(1000), ["leaves t from 500 to 299"]),
    ("misspelt setting", lambda: S.AnnealedT(warmpu=0.2), ["AnnealedT has no setting 'warmpu'", "did you mean 'warmup'?"]),
    ("power 0", lambda: S.DescendT(power=0), ["power must be a number above 0"]),
    ("width of 0", lambda: S.DreamTimeT(s1=0), ["s1 must be a number above 0"]),
    ("progress above 1", lambda: S.UniformT()(1000, progress=1.5), ["progress must be a share", "1.5"]),
    ("generator as a seed", lambda: S.UniformT()(1000, generator=0), ["generator must be a torch.Generator, or None", "got 0"]),
    ("batch as a str", lambda: S.UniformT()(1000, "4"), ["B must be a whole number", "'4'"]),
    ("rows that disagree", lambda: Cond(torch.zeros(2, 3), "abc"), ["emb has 2 rows and texts has 3"]),
    ("emb as numpy", lambda: Cond(np.zeros((2, 3))), ["emb must be a tensor [B, ...]", "float64 [2, 3]"]),
    ("emb without rows", lambda: Cond(torch.zeros(())), ["emb must be a tensor [B, ...]"]),
    ("lerp by a str", lambda: Cond.lerp(zoo.embed("cat"), zoo.embed("dog"), "x"), ["w must be a finite number", "'x'"]),
    ("lerp by nan", lambda: Cond.lerp(zoo.embed("cat"), zoo.embed("dog"), math.nan), ["w must be a finite number", "nan"]),
    ("lerp of texts", lambda: Cond.lerp("cat", "dog", 0.5), ["a must be of type Cond", "'cat'"]),
    ("cat of texts", lambda: Cond.cat("cat", "dog"), ["Cond.cat takes conditions", "str"]),
    ("cat of nothing", lambda: Cond.cat([]), ["Cond.cat takes conditions", "none"]),
    ("prompt as a number", lambda: zoo.embed(5), ["a prompt is a str", "got int 5"]),
    ("prompt None", lambda: ideal.embed(None), ["a prompt is a str", "NoneType"]),
    ("prompts as numbers", lambda: bell.embed([1, 2]), ["a prompt is a str", "list [1, 2]"]),
    ("texts", lambda: as_texts(torch.zeros(3)), ["a prompt is a str", "Tensor"]),
    ("unknown name", lambda: zoo.embed("cow"), ["unknown prompt 'cow'", "'bird', 'cat', 'dog' and ''"]),
    ("mean as a str", lambda: GaussianPrior("x", 1), ["mean must be a number or a tensor", "'x'"]),
    ("std below 0", lambda: GaussianPrior(0, -torch.ones(3, 50, 50)), ["std must be >= 0", "float32 [3, 50, 50]"]),
    ("std nan", lambda: GaussianPrior(0, math.nan), ["std must be finite", "nan"]),
    ("schedule as a str", lambda: GaussianPrior(0, 1, schedule="sd"), ["schedule must be a Schedule, or None", "'sd'"]),
    ("means in a row", lambda: MixturePrior(torch.zeros(5, 2), 0.1), ["[K,2,1,1]", "(5, 2)"]),
    ("means None", lambda: MixturePrior(None, 0.1), ["means must be a number or a tensor", "None"]),
    ("std 0", lambda: MixturePrior(torch.zeros(2, 2, 1, 1), [0.1, 0.0]), ["must be positive"]),
    ("three stds", lambda: MixturePrior(torch.zeros(2, 2, 1, 1), [0.1] * 3), ["one number or 2", "[0.1, 0.1, 0.1]"]),
    ("weight 0", lambda: MixturePrior(torch.zeros(9, 2, 1, 1), 1, [0.0] * 9), ["9 positive numbers", "list of 9"]),
    ("three labels", lambda: MixturePrior(torch.zeros(2, 2, 1, 1), 0.1, labels="abc"), ["2 components need 2 labels, got 3"]),
    ("images in [-1,1]", lambda: ImageSetPrior(2 * toy_images()[0] - 1), ["in [0,1], got (36, 3, 16, 16) from -0.8"]),
    ("images as a str", lambda: ImageSetPrior("cats/"), ["images must be a tensor [N,3,H,W]", "'cats/'"]),
    ("two captions", lambda: ImageSetPrior(toy_images()[0], ["red", "green"]), ["36 images need 36 captions, got 2"]),
    ("std below 0 of images", lambda: ImageSetPrior(toy_images()[0], std=-1), ["std must be a number, 0 or more", "-1"]),
    ("chunk 0", lambda: ImageSetPrior(toy_images()[0], chunk=0), ["chunk must be a whole number, 1 or more"]),
    ("misspelt", lambda: ImageSetPrior(toy_images()[0], chunks=8), ["no option 'chunks'", "did you mean 'chunk'?"]),
    ("encode numpy", lambda: zoo.encode(flat), ["images must be a float tensor", "torch.as_tensor"]),
    ("encode numpy, ideal", lambda: ideal.encode(flat), ["images must be a float tensor", "torch.as_tensor"]),
    ("decode a str", lambda: ideal.decode("x"), ["latents must be a float tensor", "'x'"]),
    ("eps of numpy", lambda: zoo.eps(np.zeros((2, 2, 1, 1)), 3, zoo.embed("")), ["x_t must be a float tensor", "torch.as_tensor"]),
    ("eps of a text", lambda: zoo.eps(x, 3, "cat"), ["cond must be a Cond", "prior.embed"]),
    ("three conditions", lambda: zoo.eps(x, 3, zoo.embed(["cat"] * 3)), ["B (or 1) conditions", "got 3"]),
    ("another prior", lambda: zoo.eps(x, 3, bell.embed("cat")), ["another prior"]),
    ("outside of two prompts", lambda: zoo.eps(x, 3, Cond.lerp(zoo.embed("cat"), zoo.embed("dog"), 1.5)), ["w in [0,1]"]),
    ("clean point", lambda: GaussianPrior(0, 0.0).score(x, torch.tensor([3, -1])), ["no density at t=None"]),
    ("clean image", lambda: ImageSetPrior(toy_images()[0]).score(pictures, torch.tensor([-1]), None), ["no density at t=None"]),
    ("grid of a billion", lambda: grid2d(n=10**9), ["n must be a whole number, 1 to 4,096"]),
    ("images of numpy", lambda: show_images(None, flat), ["images must be a float tensor"]),
    ("tiny images", lambda: toy_images("16"), ["size must be a whole number", "'16'"]),
    ("size as a str", lambda: PatchPrior(blocks, "8"), ["size must be a whole number", "'8'"]),
    ("size of a billion", lambda: PatchPrior(blocks, 10**9), ["size must be a whole number, 1 to 4,096"]),
    ("size off the blocks", lambda: PatchPrior(blocks, 42), ["multiple of the blocks' side 4", "40 would do"]),
    ("no mixture", lambda: PatchPrior(bell, 8), ["mixture must be of type MixturePrior"]),
    ("negative dots", lambda: dot_patterns(-1), ["strength must be a number above 0"]),
    ("haze as a str", lambda: dot_world(haze="x"), ["haze must be a number above 0", "'x'"]),
    ("misspelt haze", lambda: dot_world(haze_wieght=1), ["no option 'haze_wieght'", "did you mean 'haze_weight'?"]),
    ("dots of another size", lambda: dots.eps(torch.zeros(1, 1, 4, 4), 3, dots.embed("")), ["must be [B,1,8,8]"]),
    ("contrast of numpy", lambda: contrast(dots, np.zeros((1, 1, 8, 8)), "dots"), ["x must be a float tensor", "torch.as_tensor"]),
    ("contrast of a mixture", lambda: contrast(zoo, x, "dog"), ["prior must be of type PatchPrior"]),
    ("pattern unknown", lambda: off_pattern(dots, torch.zeros(1, 1, 8, 8), "fur"), ["unknown prompt 'fur'"]),
    ("blocks of 0", lambda: cut_blocks(pictures, 0), ["b must be a whole number"]),
    ("detail as a str", lambda: IdealPrior(detail="x"), ["detail must be a number, 0 or more", "'x'"]),
    ("std 0, ideal", lambda: IdealPrior(std=0), ["std must be a number above 0", "got 0"]),
    ("size 30", lambda: IdealPrior(size=30), ["a multiple of 4 pixels", "30"]),
    ("renders of a billion", lambda: IdealPrior(renders=10**9), ["renders must be a whole number, 1 to 100,000"]),
    ("misspelt detail", lambda: IdealPrior(detials=0.5), ["no option 'detials'", "did you mean 'detail'?"]),
    ("unknown object", lambda: ideal.embed("a red zebra"), ["unknown word 'zebra'"]),
    ("renders of a text", lambda: true_renders("a mug", 2), ["told must be of type Attributes", "'a mug'"]),
    ("speckles as a str", lambda: speckle_patterns("x"), ["strength must be a number, 0 or more"]),
    ("patches of numpy", lambda: to_patches(flat), ["x must be a float tensor"]),
    ("patches of None", lambda: from_patches(None, 8, 8), ["u must be a float tensor", "None"]),
    ("measure numpy", lambda: ideal.measure(flat, "a mug"), ["x must be a float tensor", "torch.as_tensor"]),
    ("truth of a batch", lambda: ideal.truth(pictures, "a mug"), ["image must be a float tensor [3, H, W]", "[1, 3, 16, 16]"]),
    ("ideal of another size", lambda: ideal.eps(torch.zeros(1, 3, 8, 8), 5, ideal.embed("")), ["must be [B,3,16,16]"]),
    ("guidance as a str", lambda: guided_eps(zoo, x, 3, "dog", "7"), ["scale must be a finite number", "'7'"]),
    ("guidance nan", lambda: guided_eps(zoo, x, 3, "dog", math.nan), ["scale must be a finite number", "nan"]),
    ("base", lambda: guided_eps(zoo, x, 3, "dog", 7, base="uncnd"), ["'uncond', 'cond'", "did you mean 'uncond'?"]),
    ("misspelt negative", lambda: guided_eps(zoo, x, 3, "dog", 7, negativ="cat"), ["did you mean 'negative'?"]),
    ("guided numpy", lambda: guided_eps(zoo, x.numpy(), 3, "dog", 7), ["x_t must be a float tensor"]),
    ("two prompts for three", lambda: as_cond(zoo, ["cat", "dog"], 3), ["2 prompts for a batch of 3"]),
    ("no prompt", lambda: as_cond(zoo, None, 3), ["a prompt is a str", "NoneType"]),
    ("cfg of numbers", lambda: cfg(1.0, 0.0, 7.5), ["eps_c must be a float tensor"]),
    ("cfg scale", lambda: cfg(x, x, "7"), ["scale must be a finite number", "'7'"]),
    ("perp of numpy", lambda: perp(x, x.numpy()), ["v must be a float tensor"]),
    ("perp_neg of one", lambda: perp_neg(x, x, x, 7), ["negatives must be of type list or of type tuple"]),
    ("azimuth as a str", lambda: view_weights("x"), ["azimuth must be a finite number", "'x'"]),
    ("azimuth inf", lambda: view_weights([0, math.inf]), ["azimuth must be a finite number", "inf"]),
    ("azimuth None", lambda: perp_neg_weights(None), ["azimuth must be a finite number", "None"]),
    ("several prompts", lambda: view_cond(views, ["toy"], 0), ["one prompt, a str"]),
    ("two elevations", lambda: view_cond(views, "toy", [0, 1, 2], [1, 2]), ["elevation has 2 numbers and azimuth 3"]),
    ("weights of two", lambda: view_cond(views, "toy", 0, negatives=True, weights=(1, 2)), ["weights is a tuple of 3"]),
]


@pytest.mark.parametrize("call, words", [c[1:] for c in CALLS], ids=[c[0] for c in CALLS])
def test_a_wrong_call_is_answered(call, words):
    with pytest.raises((ValueError, TypeError)) as e:
        call()
    said = str(e.value)
    assert all(w in said for w in words) and len(said) < 500, said


def test_wrong_calls_of_training():
    from lucidteach.prior import train as T
    from lucidteach.prior import training_run as R

    for call, *words in (
        (lambda: T.Config(lr="1e-3"), "lr must be a number above 0", "'1e-3'"),
        (lambda: T.Config(stpes=5), "Config has no setting 'stpes'", "did you mean 'steps'?"),
        (lambda: T.Config(size=63), "size must be a multiple of 8", "63"),
        (lambda: T.Config(channels=(17,)), "channels must be a tuple of multiples of 16"),
        (lambda: T.Config(precision="fp16"), "one of 'no', 'bf16'", "'fp16'"),
        (lambda: T.Config(noisy=1), "noisy must be a share within 0..1, below 1"),
        (lambda: T.make_tokenizer("red"), "words must be of type list"),
        (lambda: T.make_text_encoder("toy"), "tokenizer must be of type CLIPTokenizer"),
        (lambda: T.make_unet(size="16"), "size must be a whole number"),
        (lambda: T.Trainer(dict(steps=3)), "config must be of type Config"),
        (lambda: R.make_bank(T.Config(bank=3), None, workers=0), "workers must be a whole number, 1 or more"),
        (lambda: R.sample_sheet(None, rows="2"), "rows must be a whole number"),
        (lambda: R.train({}, "run"), "config must be of type Config"),
        (lambda: R.train(T.Config(), "run", worker=2), "did you mean 'workers'?"),
        (lambda: R.train(T.Config(), 5), "out must be"),
        (lambda: R.train(T.Config(pool=8), "run"), "--bank"),
    ):
        with pytest.raises((ValueError, TypeError)) as e:
            call()
        assert all(w in str(e.value) for w in words), e.value
