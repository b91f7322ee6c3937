"""The command line: `lucidteach compare`, `create`, `edit`, `personalize`, `sweep`, `lab`, `course`, `export`, ....

Heavy imports stand only inside the command that needs them.
"""

import argparse
import atexit
import contextlib
import difflib
import errno
import gc
import os
import sys
from pathlib import Path


def parser():
    "All commands and their options"
    from . import __version__

    p = argparse.ArgumentParser(
        prog="lucidteach", description="A laboratory for score distillation where the truth is known."
    )
    p.add_argument("--version", action="version", version=f"lucidteach {__version__}")
    sub = p.add_subparsers(dest="command", metavar="command", required=True)
    make = add_compare, add_create, add_edit, add_personalize, add_avatar, add_sweep
    for add in (*make, add_lab, add_course, add_export, add_doctor):
        add(sub)
    return p


PRIORS = "toy, toy-detail, ideal, ideal-detail, a diffusers folder or a hub id"


def add_run_options(p, steps, seed, out, guidance, prior="toy", priors=PRIORS):
    "The options that every command that makes something has"
    p.add_argument("--steps", type=int, help=steps)
    p.add_argument("--seed", type=int, default=0, help=f"{seed} (default: %(default)s)")
    p.add_argument("--guidance", type=float, help=f"scale of classifier-free guidance (default: {guidance})")
    p.add_argument("--out", help=f"output folder (default: {out}")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, mps (default: %(default)s)")
    p.add_argument("--prior", default=prior, help=f"{priors} (default: {prior or 'ideal-detail and toy-detail'})")
    p.add_argument("--overwrite", action="store_true", help="begin anew, whatever run the output folder holds")


def add_lora(p):
    "The option of commands whose prior may be given a LoRA"
    p.add_argument(
        "--lora",
        metavar="FILE[@STRENGTH]",
        help="a LoRA for the prior, such as lucidteach personalize leaves: a .safetensors file, a folder or a hub id "
        "(default: none; of the toy prior where --prior is not given)",
    )


def add_compare(sub):
    p = sub.add_parser(
        "compare",
        help="SDS against ISM (or other methods) on one prompt, with the truth beside them",
        description="Optimise a canvas by each method from the same start; write report.html, comparison.png, "
        "metrics.jsonl, config.json and checkpoints; the same command goes on with an unfinished run. With neither "
        "--prior nor --methods: in two worlds, the ideal denoiser of renders with speckles and a small trained "
        "network that knows fine patterns (the prompt gets speckles there where it names no pattern), SDS and ISM at "
        "several guidances. With --methods or --guidance: a plain comparison on one prior.",
    )
    p.add_argument("text", nargs="?", metavar="prompt", help='what to draw, for example "a red mug"')
    p.add_argument("--prompt", help="the same as an option")
    p.add_argument(
        "--methods",
        help="names from lucidteach.METHODS, with commas; sds@100 is SDS at guidance 100, "
        "ism@3:head_start=0:delta_t=50 is ISM with options of its own (default: the arms of each world; "
        "with --guidance sds,ism)",
    )
    add_run_options(
        p,
        "optimisation steps per method (default: 80 in ideal-detail, 120 in toy-detail, 100 in toy; "
        "200 in a plain comparison)",
        "start canvas, times and noises",
        "runs/<prompt>)",
        "3 in a plain comparison; in the two worlds each arm has its own",
        prior=None,
    )
    add_lora(p)
    p.set_defaults(run=compare)


def add_create(sub):
    p = sub.add_parser(
        "create",
        help="text to 3D: a scene of Gaussians from a prompt",
        description="Writes object.ply, turntable.webp, report.html, metrics.jsonl, config.json and a checkpoint; "
        "the same command goes on with an unfinished run.",
    )
    p.add_argument(
        "text",
        nargs="+",
        metavar="prompt",
        help='what to make, for example "a red mug"; several prompts share the prior',
    )
    p.add_argument(
        "--method",
        default="ism",
        help="a name from lucidteach.METHODS (default: %(default)s, the article's; on the toy prior sds comes nearer)",
    )
    p.add_argument(
        "--preset",
        choices=("toy", "ball", "paper"),
        help="settings to begin from; ball is toy from nothing "
        "(default: toy for small pictures, ball where the prompt names none of the toy world's objects, else paper)",
    )
    p.add_argument("--size", type=int, help="pixels")
    p.add_argument("--points", type=int, help="Gaussians at the beginning")
    p.add_argument(
        "--init",
        help="where the Gaussians begin: text, ball, sphere, box, cylinder, torus, or a file of points or a mesh "
        "(default: the preset's)",
    )
    p.add_argument("--scene", help="a file of Gaussians to begin from")
    add_run_options(
        p,
        "updates (default: the preset's)",
        "of everything random",
        "runs/<prompt>-3d); of several prompts, the folder of their folders",
        "the preset's: toy 6.25, ball 3, paper 7.5",
    )
    add_lora(p)
    p.set_defaults(run=create)


def add_edit(sub):
    p = sub.add_parser(
        "edit",
        help="a picture or a scene changed from what one prompt says to what another says",
        description="Writes report.html with a slider between before and after, metrics.jsonl, config.json, a "
        "checkpoint, and after.png or object.ply; the same command goes on with an unfinished run.",
    )
    p.add_argument("what", help="a picture's file, a file of Gaussians, or the folder of a run")
    p.add_argument("source", help='what it shows, for example "a red mug"')
    p.add_argument("target", help='what it shall show, for example "a blue mug"')
    p.add_argument(
        "--method",
        default="dds",
        help="dds, contrastive, pds, dreamcatalyst, bridge, ism; of pictures also sdedit (default: %(default)s)",
    )
    p.add_argument(
        "--mask", help="where it may change: a picture of that size, white where it may; or found, by the two prompts"
    )
    add_run_options(
        p, "updates (default: 30 of a picture, 40 of a scene)", "of everything random", "runs/<target>-edit)", "3"
    )
    add_lora(p)
    p.set_defaults(run=edit)


def add_personalize(sub):
    p = sub.add_parser(
        "personalize",
        help="teach a prior an object from a folder with 4 to 8 pictures of it",
        description="Writes lora.safetensors, which --lora and diffusers' load_lora_weights read, report.html, "
        "metrics.jsonl, config.json and a checkpoint; the same command goes on with an unfinished run. A file "
        "metadata.jsonl beside the pictures may give each a text or a view: "
        '{"file_name": "a.png", "view": "front view"}.',
    )
    p.add_argument("folder", help="of square pictures of one object")
    p.add_argument("--token", default="sks", help="the word that will mean the object (default: %(default)s)")
    p.add_argument("--category", help="what the object is like, in words that the prior knows (default: nothing)")
    p.add_argument("--by", choices=("lora", "inversion"), help="what learns: a LoRA, or one word (default: lora)")
    p.add_argument("--rank", type=int, help="of the LoRA (default: 4)")
    p.add_argument("--lr", type=float, help="rate of learning (default: 1e-3)")
    p.add_argument("--layers", choices=("attention", "all"), help="of the UNet that learn (default: all)")
    p.add_argument("--text-encoder", action="store_true", help="let the text encoder learn too")
    p.add_argument("--no-view-words", action="store_true", help="leave the views out of the captions")
    p.add_argument("--preservation", type=int, help="pictures of other prompts to be kept; 0: none (default: 16)")
    p.add_argument("--background", metavar="COLOUR", help="what lies behind transparent pictures, such as white")
    p.add_argument("--steps", type=int, help="updates (default: 200)")
    p.add_argument("--seed", type=int, default=0, help="of everything random (default: %(default)s)")
    p.add_argument("--out", help="output folder (default: runs/<token>-personal)")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, mps (default: %(default)s)")
    p.add_argument("--prior", default="toy", help="toy, a diffusers folder or a hub id (default: %(default)s)")
    p.add_argument("--overwrite", action="store_true", help="begin anew, whatever run the output folder holds")
    p.set_defaults(run=personalize)


def add_avatar(sub):
    p = sub.add_parser(
        "avatar",
        help="a person in 3D in a pose that you ask for, and who moves",
        description="Writes object.ply, animation.webp, turntable.webp, report.html, metrics.jsonl, config.json and a "
        "checkpoint; the same command goes on with an unfinished run.",
    )
    p.add_argument("text", metavar="prompt", help='with a person, for example "a person in a green shirt"')
    p.add_argument(
        "--pose",
        default="t",
        help="t, a, y, stand, wave, goal, walk, reach, point, stride, salute or lunge, or angles in degrees such as "
        "left_arm=120,right_leg=20 (left_ and right_ with arm, elbow, swing, leg; or as JSON) (default: %(default)s)",
    )
    p.add_argument("--method", default="ism", help="a name from lucidteach.METHODS (default: %(default)s)")
    p.add_argument("--control", default="toy", help="toy, or the folder of a ControlNet (default: %(default)s)")
    p.add_argument("--scale", type=float, default=1.0, help="of what the ControlNet adds (default: %(default)s)")
    nets = "toy, a diffusers folder or a hub id"  # a ControlNet is for a network
    add_run_options(p, "updates (default: 100)", "of everything random", "runs/<prompt>-<pose>)", "3", priors=nets)
    p.set_defaults(run=avatar)


def add_sweep(sub):
    p = sub.add_parser(
        "sweep",
        help="the study: where the noise comes from and what is subtracted, all else equal",
        description="Seven arms on 8 development and 28 test prompts, in stages; each job is a file, and the same "
        "command goes on with what is missing, also beside itself.",
    )
    p.add_argument("--out", default="runs/sweep", help="folder of the jobs (default: %(default)s)")
    p.add_argument(
        "--stages",
        default="rate,guidance,test,calls,rungs",
        help="with commas, of rate, guidance, test, seeds, calls, unchosen, range, rungs, targets, detail "
        "(default: %(default)s)",
    )
    p.add_argument("--steps", type=int, default=150, help="updates of each canvas (default: %(default)s)")
    p.add_argument(
        "--canvas",
        choices=("latents", "pixels", "implicit"),
        default="latents",
        help="what is optimised (default: %(default)s)",
    )
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, mps (default: %(default)s)")
    p.add_argument(
        "--prior",
        default="toy",
        help="toy, ideal-detail (stages detail and targets), a diffusers folder or a hub id (default: %(default)s)",
    )
    p.set_defaults(run=sweep)


def add_lab(sub):
    p = sub.add_parser(
        "lab",
        help="JupyterLab on your own copy of the notebooks",
        description="Copies the notebooks of the clone that is installed into a folder of yours and opens JupyterLab "
        "there, at 00_start. What you wrote in that folder stays: where a notebook is new and you have changed "
        "yours, the new one is put beside it. Ctrl-C twice ends JupyterLab.",
    )
    p.add_argument(
        "--folder",
        default="lucidteach-lab",
        help="of your copy; made where it is missing (default: %(default)s in the current folder)",
    )
    p.add_argument("--copy-only", action="store_true", help="bring the copy up to date and open nothing")
    p.add_argument(
        "--originals",
        action="store_true",
        help="open the notebooks themselves, for contributors: what is saved there is the source of the library",
    )
    p.add_argument("--port", type=int, help="of the server (default: JupyterLab's, 8888)")
    p.add_argument("--no-browser", action="store_true", help="only print the address")
    p.add_argument(
        "options", nargs="*", metavar="option", help="after --, further options of JupyterLab, such as --ip=0.0.0.0"
    )
    p.set_defaults(run=lab)


def add_course(sub):
    p = sub.add_parser(
        "course",
        help="for a teacher: the lessons as student's, teacher's and graders' copies; a project's score",
        description="build: the course as folders. score: a submission of the project against SDS and ISM.",
    )
    jobs = p.add_subparsers(dest="job", metavar="job", required=True)
    b = jobs.add_parser(
        "build",
        help="student, solution and grader folders of the lessons",
        description="Writes student/ (stubs for solutions, no hidden tests), solution/, grader/nbgrader/ and "
        "grader/otter/. A file that was changed since it was built stays, and the new one comes beside it.",
    )
    b.add_argument("--out", default="lucidteach-course", help="folder; made where it is missing (default: %(default)s)")
    b.add_argument("--lesson", type=int, help="number of one lesson (default: all)")
    b.set_defaults(run=course_build)

    s = jobs.add_parser(
        "score",
        help="a project's submission against SDS and ISM, on held-out prompts, for the same network calls",
        description="Runs the file: read it first. It registers one loss with @method, or has a function "
        "paint(prior, prompt, generator) that returns a picture [3,H,W] in [0, 1]. Prints tables, then a line of JSON.",
    )
    s.add_argument("file", help="the submission, for example mine.py")
    s.add_argument("--quick", action="store_true", help="a try: two development prompts, a tenth of the budget")
    s.add_argument("--out", help="a file to which the whole result is added as one line of JSON")
    s.add_argument(
        "--keep",
        default="lucidteach-score",
        help="folder for what is done, numbers and pictures: the same command goes on there, and SDS and ISM are "
        "painted once for all submissions (default: %(default)s)",
    )
    s.add_argument(
        "--seed",
        type=int,
        default=20261203,
        help="draws the held-out prompts; another one is a board of its own (default: %(default)s)",
    )
    s.set_defaults(run=course_score)


def add_export(sub):
    p = sub.add_parser(
        "export",
        help="a scene as a page to turn it in, or in another format",
        description="Reads .ply, .compressed.ply, .splat, .ksplat, .spz or .sog; writes a self-contained page, other "
        "formats, or both.",
    )
    p.add_argument("file", help="the scene, for example object.ply")
    p.add_argument(
        "--html",
        metavar="PAGE",
        nargs="?",
        const=True,
        help="a page with an interactive viewer that loads nothing (default: the file's name with .html)",
    )
    p.add_argument("--to", metavar="FILE", action="append", help="another format, by its ending; may be repeated")
    p.add_argument(
        "--up",
        choices=("z", "y", "y-down", "-y"),
        default="z",
        help="the up axis of the given file (default: %(default)s)",
    )
    p.add_argument("--title", help="title of the page (default: the file's name)")
    p.add_argument("--overwrite", action="store_true", help="replace files that exist")
    p.set_defaults(run=export)


def add_doctor(sub):
    p = sub.add_parser(
        "doctor",
        help="what this machine has and what is missing",
        description="Exit status 0 when the main job can run.",
    )
    p.add_argument(
        "--prior",
        help="also this checkpoint: is it here, its licence and size, mirrors where the original is gone "
        "(toy, a folder, a hub id or a .safetensors file)",
    )
    p.add_argument("--online", action="store_true", help="also ask whether the model hub answers")
    p.set_defaults(run=doctor)


def doctor(args):
    "Versions, device, weights, disk, network"
    from .doctor import doctor

    return doctor(args.online, args.prior)


def with_lora(args):
    "The prior of the arguments, loaded with its LoRA where one is asked for"
    if not args.lora:
        return
    from .prior.checkpoints import load_prior
    from .prior.prompts import TOY
    from .scene.personalize_run import check_asked, lora_of

    lora = lora_of(args.lora)
    if (args.prior or "toy") in TOY:
        asked = [getattr(args, k, None) for k in ("text", "prompt", "source", "target")]
        check_asked([p for given in asked for p in ([given] if isinstance(given, str) else given or ())], *lora)
    args.prior = load_prior(args.prior or "toy", device=args.device, lora=lora)


def personalize(args):
    "An object from pictures; the path of what was learned is the last line printed"
    from .scene.personalize_run import run_personalize

    return run_personalize(args)


def compare(args):
    "The main job; its report's path is the last line printed"
    if None not in (args.text, args.prompt) and args.text != args.prompt:
        raise ValueError(f"two prompts were given, {args.text!r} and --prompt {args.prompt!r}: give one")
    args.prompt = next(p for p in (args.prompt, args.text, "a red mug") if p is not None)
    with_lora(args)
    from .lab.compare import run_compare

    return run_compare(args)


def create(args):
    "Text to 3D; the report's path is the last line printed"
    with_lora(args)
    from .lab.create import run_create

    return run_create(args)


def edit(args):
    "A picture or a scene, changed; the report's path is the last line printed"
    with_lora(args)
    from .lab.edit import run_edit

    return run_edit(args)


def avatar(args):
    "A person in a pose; the report's path is the last line printed"
    from .lab.avatar import run_avatar

    return run_avatar(args)


def sweep(args):
    "The study's stages; the paired table is printed last"
    from .lab.sweep import run_sweep

    return run_sweep(args)


def lab(args):
    "JupyterLab on a copy of the notebooks, or on the notebooks"
    from .lab.notebooks import deliver, present, summary

    clone = present().parent  # before anything else: without notebooks JupyterLab is no help
    if not args.copy_only:
        try:
            from jupyterlab.labapp import LabApp
        except ImportError as e:
            raise ImportError("JupyterLab is not installed: pip install 'lucidteach[lab]'") from e
    if args.originals:
        folder, first = clone, "nbs/00_start.ipynb"
    else:
        folder, first = Path(args.folder).expanduser().resolve(), "00_start.ipynb"
        print(summary(folder, deliver(folder)), flush=True)
    if args.copy_only:
        return 0
    options = [f"--ServerApp.root_dir={folder}", f"--LabApp.default_url=/lab/tree/{first}"]
    if getattr(os, "geteuid", lambda: 1)() == 0:
        options.append("--allow-root")  # in a container one is root, and Jupyter wants to be told
    if args.port is not None:
        options.append(f"--port={args.port}")
    if args.no_browser:
        options.append("--no-browser")

    # defaults of JupyterLab, which a user's own settings go before: no news, no look for updates
    quiet_start = str(Path(__file__).parent / "viz" / "jupyter")
    known = os.environ.get("JUPYTER_CONFIG_PATH")
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, [known, quiet_start]))
    return LabApp.launch_instance([*options, *args.options])


def course_build(args):
    "The course's folders"
    from .lab.course import run_build

    return run_build(args)


def course_score(args):
    "A submission's standing; a line of JSON is printed last"
    from .lab.score import run_score

    return run_score(args)


def export(args):
    "A page or other formats of a scene"
    from .lab.export import run_export

    return run_export(args)


class Pipe:
    """Standard output or error that goes quiet when its reader leaves (`| head -1`) or, under nohup, its terminal.

    The work goes on and ends with its own status.
    """

    def __init__(self, stream):
        self.stream = stream or open(os.devnull, "w")  # None where it was closed (`>&-`)

    def __getattr__(self, name):
        return getattr(self.__dict__["stream"], name)

    def write(self, text):
        return self.tell(self.stream.write, text)

    def flush(self):
        return self.tell(self.stream.flush)

    def tell(self, how, *what):
        try:
            return how(*what)
        except OSError as e:
            broken = (errno.EPIPE, errno.EIO, errno.EINVAL if os.name == "nt" else errno.EPIPE)
            if e.errno not in broken:
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())  # what is kept to be written goes there too


@contextlib.contextmanager
def piped():
    "Both streams as `Pipe`, empty at the end: Python's own flush at the exit would report a reader that has left"
    with contextlib.redirect_stdout(Pipe(sys.stdout)) as out, contextlib.redirect_stderr(Pipe(sys.stderr)) as err:
        try:
            yield
        finally:
            out.flush()
            err.flush()


def refuse(command, why) -> int:
    "One line that says what is wrong, and the status for it"
    print(f"lucidteach {command}: {why}", file=sys.stderr)
    return 2


def unknown_words(commands, command, unknown) -> str:
    "What to say of words that a command does not take: the nearest option, or that a prompt wants quotes"
    first = unknown[0].partition("=")[0]
    if not first.startswith("-"):
        return f"one prompt at a time, in quotes: got {' '.join(unknown)!r} besides it; see lucidteach {command} --help"
    choices = next(a for a in commands._actions if isinstance(a, argparse._SubParsersAction)).choices
    near = difflib.get_close_matches(first, choices[command]._option_string_actions, 1)
    return (
        f"no option {first}"
        + (f": did you mean {near[0]}?" if near else "")
        + f" lucidteach {command} --help names them"
    )


@piped()
def main(argv=None):
    "Entry point: errors that a user can mend are one line, not a traceback"
    gc.set_threshold(50_000, 20, 20)  # a million objects are about to be loaded, none of them garbage,
    atexit.register(gc.freeze)  # and at its end Python need not look through them either
    commands = parser()
    args, unknown = commands.parse_known_args(argv)
    if unknown:
        return refuse(args.command, unknown_words(commands, args.command, unknown))
    try:
        return args.run(args) or 0
    except (ValueError, OSError, ImportError) as e:  # ImportError: an extra is missing, and the message names it
        return refuse(
            args.command, f"{e.filename}: {e.strerror}" if isinstance(e, OSError) and e.filename and e.strerror else e
        )
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
