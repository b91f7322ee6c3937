"""Times and sizes that the README states: python tests/bench/bench_house.py

Each time is the median of several runs; what starts a process stands beside a bare `python -c pass` of the same run."""
import platform, shutil, statistics, subprocess, sys, time
from pathlib import Path

root = Path(__file__).parents[2]

def median(f, n=7):
    def once():
        start = time.perf_counter(); f(); return time.perf_counter() - start
    once()
    return statistics.median(once() for _ in range(n))

def process(*args): return median(lambda: subprocess.run([sys.executable, *args], check=True, capture_output=True))
def megabytes(path): return sum(f.stat().st_size for f in Path(path).rglob('*') if f.is_file() and not f.is_symlink())/1e6

def start_up():
    bare = process('-c', 'pass')
    for name, args in (('import lucidteach', ('-c', 'import lucidteach')), ('lucidteach --help', ('-m', 'lucidteach.cli', '--help'))):
        t = process(*args)
        print(f'{name:<24} {t*1e3:7.0f} ms   {t/bare:.1f} x python -c pass ({bare*1e3:.0f} ms)')

def network():
    "One call of 8 samples (batch 4 with guidance), beside a plain convolution in the same run"
    import torch, torch.nn.functional as F, lucidteach as lt
    from torch.utils.flop_counter import FlopCounterMode
    prior = lt.load_prior('toy', device='cpu')
    x, cond = torch.randn(8, *prior.latent_shape), prior.embed(['a red mug']*4 + ['']*4)
    with FlopCounterMode(display=False) as count: prior.eps(x, 500, cond)
    t = median(lambda: prior.eps(x, 500, cond))
    a, w = (v.to(memory_format=torch.channels_last) for v in (torch.randn(8, 128, 16, 16), torch.randn(128, 128, 3, 3)))
    with torch.no_grad(): conv = median(lambda: F.conv2d(a, w, padding=1), 50)
    flops, rate = count.get_total_flops(), 2*8*128*128*9*256/conv
    print(f'eps of 8 samples         {t*1e3:7.0f} ms   {flops/1e9:.1f} GFLOP; {t*rate/flops:.1f} x the time of plain 3x3 convolutions of as many FLOP ({rate/1e9:.0f} GFLOP/s), {torch.get_num_threads()} threads')

def renderer():
    from lucidteach.prior import words, world
    t = median(lambda: words.sample(32, seed=1), 5)
    print(f'one 64 px render         {t/32*1e3:7.1f} ms   the mean of 32 random objects, captions included')

if __name__ == '__main__':
    print(f'{platform.machine()}, {platform.system()}, Python {platform.python_version()}')
    start_up(); renderer(); network()
    print(f'weights of the toy prior {megabytes(root/"lucidteach/prior/weights"):7.0f} MB')
    if (root/'.venv').is_dir(): print(f'.venv                    {megabytes(root/".venv"):7.0f} MB')
    print(f'free disk                {shutil.disk_usage(root).free/1e9:7.0f} GB')
