"""The site: course, reference, API, gallery, ledger, from the committed notebooks, which are not executed.

python .site/site.py [--out build/site] [--part 2_distill]        (a part: only that floor, for a quick look and for tests)
"""
import argparse
import io
import json
import re
import shutil
import subprocess
import sys
from html import escape
from pathlib import Path

import numpy as np

from lucidteach import _names
from lucidteach.lab.course import outline
from lucidteach.lab.house import FLOORS, rooms
from lucidteach.lab.notebooks import COURSE, NOTEBOOKS, SWITCH, files
from lucidteach.viz.explore import EXPLORERS, Explorer

HERE = Path(__file__).parent
REPOSITORY = "https://github.com/lucidteach/lucidteach"


def notebook(name: str, data: bytes) -> bytes:
    "A reader's copy of a notebook as a page: outputs that a page can show, links to pages"
    nb = json.loads(data)
    cells, first = [], next((c["id"] for c in nb["cells"] if c["cell_type"] == "code"), None)
    for c in nb["cells"]:
        source = "".join(c["source"])
        if c.get("id") == SWITCH["id"]:
            continue
        if c["cell_type"] == "code":
            source = re.sub(r"\A%%slow .*\n", "", source)
            c = c | dict(outputs=[shown(o) for o in c["outputs"] if shown(o)])
            if not source.strip():
                continue
        else:
            source = re.sub(r"(\]\((?:\.\./)*)index\.ipynb", r"\1about.ipynb", source)
            if re.match(r"\d", name) and not cells:  # `detail` is the name of two pages, 16c_detail and 53b_detail are not
                source = re.sub(r"\A# .+", f"# {Path(name).stem}", source)
            source = re.sub(r"(\]\([^)\s#]*#)([^)\s]+)\)", lambda m: f"{m[1]}{anchor(m[2])})", source)
        tags = c["metadata"].get("tags", [])
        only = not re.search(r"^(?!from |import |[\s)#]|$)", source, re.M)  # a page is read, not run: imports are folded
        imports = re.match(r"(from|import) ", source) and (only or c.get("id") == first)
        hidden = c["metadata"].get("jupyter", {}).get("source_hidden") or imports
        meta = {"tags": [*tags, *(["hide-input"] if hidden else [])]}
        cells.append(c | dict(source=source, metadata=meta))
    spec = dict(name="python3", display_name="python3", language="python")
    meta = dict(kernelspec=spec, language_info=dict(name="python", pygments_lexer="ipython3"))
    return json.dumps(dict(cells=cells, metadata=meta, nbformat=4, nbformat_minor=5), ensure_ascii=False).encode()


def anchor(name: str) -> str:
    "JupyterLab's name of a heading as the site's: The-ledger, How-good-is-it? become the-ledger, how-good-is-it"
    return re.sub(r"[^\w\-]", "", name.lower())


def shown(output: dict) -> dict:
    "An output without what needs a kernel; empty where nothing is left"
    if output["output_type"] in ("stream", "error"):
        return output
    data = {k: v for k, v in output.get("data", {}).items() if k.startswith(("text/", "image/"))}
    if "image/png" in data or "text/html" in data or "text/markdown" in data:
        data.pop("text/plain", None)
    return output | dict(data=data, metadata={}) if data else {}


def copied(source: Path, part: str | None) -> list:
    "Notebooks and pictures into the site's sources; names of the notebooks"
    names = []
    for name, data in files(NOTEBOOKS):
        if name.startswith("images/"):
            for folder in (source, source / "extra"):
                write(folder / name, data)
        if not name.endswith(".ipynb"):
            continue
        if part and not name.startswith((part, COURSE, "index")):
            continue
        name = "about.ipynb" if name == "index.ipynb" else name
        write(source / name, notebook(name, data))
        names.append(name)
    if part:  # links to what is not there would be warnings
        for name in names:
            text = (source / name).read_text(encoding="utf8")
            cut = lambda m, here=(source / name).parent: m[0] if (here / m[2]).exists() else f"{m[1]}{REPOSITORY})"
            (source / name).write_text(re.sub(r"(\]\()([^)\s]+\.ipynb)\)", cut, text), encoding="utf8")
    return names


def write(path: Path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def tree(*entries: str, caption: str = "", hidden: bool = False, depth: int = 1) -> str:
    "A toctree"
    options = [f":maxdepth: {depth}"] + [f":caption: {caption}"] * bool(caption) + [":hidden:"] * hidden
    return "```{toctree}\n" + "\n".join([*options, "", *entries]) + "\n```\n"


def api(source: Path, part: str | None) -> list:
    "A page for each module from its docstrings, and one for the names of `lt.`; their names"
    pages, floors = [], {}
    for r in rooms():
        if r.module and not (part and not r.path.parent.name == part):
            pages.append(f"api/{r.module}")
            floors.setdefault(r.floor, []).append(r.module)
            where = f"Source: [{r.path.stem}](../{r.path.parent.name}/{r.path.name})."
            rst = f"```{{eval-rst}}\n.. automodule:: lucidteach.{r.module}\n   :members:\n```"
            write(source / f"api/{r.module}.md", f"# {r.module}\n\n{where}\n\n{rst}\n")
    rows = [
        f"| [`lt.{name}`]({module}.md) | `lucidteach.{module}` |"
        for name, module in sorted(_names.items(), key=lambda kv: kv[0].lower())
        if f"api/{module}" in pages
    ]
    body = "# API\n\n`import lucidteach as lt` offers these names; each is defined, explained and tested in a notebook.\n\n"
    body += "| name | module |\n|---|---|\n" + "\n".join(rows) + "\n\n## All modules\n\n"
    body += "\n".join(tree(*(m for m in floors.get(f, ())), caption=f"{f}: {what}") for f, what in FLOORS.items() if f in floors)
    write(source / "api/index.md", body)
    return pages


def reference(source: Path, names: list) -> None:
    "All notebooks by floor"
    body = "# Reference\n\nEvery module of the library is a notebook: a claim, the equation, the code that is that equation, "
    body += "the cell that uses it, the assert that keeps it true. A room uses only what lies before it.\n\n"
    known = {n.removesuffix(".ipynb") for n in names}
    for k, (floor, what) in enumerate(FLOORS.items()):
        here = [r for r in rooms() if r.floor == floor and f"{r.path.parent.name}/{r.path.stem}" in known]
        if here:
            rows = [f"| [{r.path.stem}]({r.path.parent.name}/{r.path.name}) | {r.summary} |" for r in here]
            body += f"## {k} {floor}: {what}\n\n| notebook | what it shows |\n|---|---|\n" + "\n".join(rows) + "\n\n"
            body += tree(*(f"{r.path.stem} <{r.path.parent.name}/{r.path.stem}>" for r in here), hidden=True) + "\n"
    write(source / "reference.md", body)


def course(source: Path) -> None:
    "Lessons with their exercises and minutes, and the teacher's texts"
    all_ = outline()
    body = "# Course\n\nTen lessons of 45 minutes, 20 of them hands on. The pages show the student's version; "
    body += "`lucidteach lab` brings it to your machine, `lucidteach course build` makes the teacher's.\n\n"
    body += "| lesson | exercises | minutes |\n|---|---|---|\n"
    for one in all_:
        exercises = ", ".join(title for _, title, _ in one["exercises"])
        body += f"| [{one['title']}](course/{one['stem']}.ipynb) | {exercises} | {sum(e[2] for e in one['exercises'])} |\n"
    texts = [p for p in ("teacher", "rubric") if (NOTEBOOKS / COURSE / f"{p}.md").is_file()]
    for p in texts:
        words = (NOTEBOOKS / COURSE / f"{p}.md").read_text(encoding="utf8")
        words = re.sub(r"\]\(\.\./index\.ipynb", "](../about.ipynb", words)
        write(source / COURSE / f"{p}.md", re.sub(r"\]\((exam\.md)\)", rf"]({REPOSITORY}/blob/main/nbs/course/\1)", words))
    body += "\n" + tree(*(f"course/{one['stem']}" for one in all_), hidden=True)
    body += "\n" + tree(*(f"course/{p}" for p in texts), caption="For the teacher")
    write(source / "course.md", body)


def outputs(path: str, *ids: str) -> list:
    "(words, outputs) of some cells of a notebook"
    cells = {c["id"]: c for c in json.loads((NOTEBOOKS / path).read_text(encoding="utf8"))["cells"]}
    return [("".join(cells[i]["source"]), cells[i].get("outputs", [])) for i in ids]


def pages_of_numbers(source: Path) -> None:
    "The ledger of the article's claims, and the table of parity, as the notebooks computed them"
    import base64

    (head, _), (_, pictures), (caption, _), (says, _) = outputs("5_judge/53_sweep.ipynb", "s53-059", "s53-064h", "s53-064i", "s53-066")
    png = next("".join(o["data"]["image/png"]) for o in pictures if "image/png" in o.get("data", {}))
    write(source / "ledger.png", base64.b64decode(png))
    linked = lambda words: re.sub(r"\]\((?!\.\./|http|#)([^)]+\.ipynb)", r"](5_judge/\1", words).replace("](../", "](")
    count = next("".join(o["text"]) for o in pictures if o["output_type"] == "stream")
    head, says = head.replace("the stored results", "stored results").replace(" above)", ")"), says.split("\n## ")[0]
    body = "# The ledger\n\n" + linked(head).replace("## The ledger", "").replace("### The ledger", "").strip()
    body += f"\n\n```text\n{count.strip()}\n```\n\n![All claims of the article, with their intervals](ledger.png)\n\n{linked(caption)}\n\n{linked(says)}\n\n"
    body += "Computed in [53_sweep](5_judge/53_sweep.ipynb), with the studies behind it; what is claimed, seen and why is told in [27_regimes](2_distill/27_regimes.ipynb).\n"
    write(source / "ledger.md", body)

    (_, released), (_, identities), (_, contract) = outputs("2_distill/25b_parity.ipynb", "zoo63b", "zoo62d", "zoo59")
    text = lambda outs: "".join("".join(o.get("text", "")) for o in outs).rstrip()
    body = "# Parity\n\nWhat the losses of this library are held against, with the largest relative difference that was found, in "
    body += "[25b_parity](2_distill/25b_parity.ipynb).\n\n## Released implementations\n\nWritten afresh from reading them, with their own conventions.\n\n"
    body += f"```text\n{text(released)}\n```\n\n## Identities\n\n```text\n{text(identities)}\n```\n\n"
    body += "## Prices, and where each loss would stay\n\nOn one Gaussian of mean .5, at t = 500. *Trains*: a network of its own; "
    body += "*keeps*: a memory between steps; *spread*: standard deviation of the gradient over draws, in units of its change "
    body += "over one standard deviation of the data; *stays at*: where it is zero.\n\n"
    body += f"```text\n{text(contract)}\n```\n"
    write(source / "parity.md", body)


TURNING = ("a red mug", "a green bottle", "an orange car", "a yellow teapot", "a purple robot", "a pink castle")


def turntable(prompt: str, frames: int = 24, size: int = 160) -> bytes:
    "A true object of the toy world, turning, as animated WebP"
    from PIL import Image

    from dataclasses import replace

    from lucidteach.prior import words, world

    told = words.parse(prompt)
    thing = world.sample_thing(np.random.default_rng(0), categories=[told.category], background=0, depth=0, corruption=0)
    thing = replace(thing, color=told.color, pattern="plain", background="white")
    seen = [world.render(thing, world.Camera(azimuth=360 * k / frames, elevation=20), size).rgb for k in range(frames)]
    images = [Image.fromarray((np.clip(x, 0, 1).transpose(1, 2, 0) * 255).astype(np.uint8)) for x in seen]
    out = io.BytesIO()
    images[0].save(out, "webp", save_all=True, append_images=images[1:], duration=90, loop=0, quality=80)
    return out.getvalue()


def card(e: Explorer) -> str:
    "An explorer: its picture, what one sees, the line that opens it, the page that explains it"
    picture = f'<img src="images/explorers/{e.name}.webp" alt="{escape(e.sentence)}" loading="lazy">'
    page = f'<a href="{e.page.removesuffix(".ipynb")}.html">{Path(e.page).stem}</a>'
    return f"<figure>{picture}<figcaption>{escape(e.sentence)} {page}<code>{escape(e.call)}</code></figcaption></figure>"


def gallery(source: Path) -> None:
    "Objects that turn, one to turn by hand, and the pictures of the front page"
    figures = []
    for prompt in TURNING:
        name = f"extra/turning/{prompt.replace(' ', '-')}.webp"
        write(source / name, turntable(prompt))
        figures.append(f'<figure><img src="turning/{Path(name).name}" alt="{prompt}, turning" loading="lazy"><figcaption>{prompt}</figcaption></figure>')
    (_, viewer), = outputs("6_viz/62_viewer.ipynb", "s62-048")
    frame = next("".join(o["data"]["text/html"]) for o in viewer if "text/html" in o.get("data", {}))
    write(source / "extra/turning/mug.html", f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>a red mug</title><body style="margin:0">{frame}</body></html>')
    body = "# Gallery\n\n## The toy world, turning\n\nTrue objects, drawn by the world itself ([13_world](1_prior/13_world.ipynb)): what every method is measured against.\n\n"
    body += f'<div class="turning">{"".join(figures)}</div>\n\n'
    body += "## One to turn by hand\n\nA scene of Gaussians in a page that loads nothing ([62_viewer](6_viz/62_viewer.ipynb)). Drag to turn, wheel to come nearer.\n\n"
    body += '<iframe src="turning/mug.html" title="a red mug, to be turned" style="border:0;width:340px;height:340px"></iframe>\n\n'
    for title, image, words in PICTURES:
        body += f"## {title}\n\n![{title}](images/{image})\n\n{words}\n\n"
    body += "## Explorers\n\nEach is one line in a notebook, with dials that need a kernel; `lt.explore()` lists them.\n\n"
    body += f'<div class="cards">{"".join(map(card, EXPLORERS))}</div>\n'
    write(source / "gallery.md", body)


PICTURES = (
    ("SDS, ISM and the truth", "sds_ism_truth.png", "Fine detail under score distillation; made in [71a_two_worlds](7_lab/71a_two_worlds.ipynb). One picture proves little: [27_regimes](2_distill/27_regimes.ipynb) and the [ledger](ledger.md) have the measurements."),
    ("Text to 3D on the toy prior", "create.png", "Above the truth; below it SDS, and ISM in a stage of detail, six views each ([43b_study](4_scene/43b_study.ipynb))."),
    ("Fitting Gaussians to photographs", "fit.png", "[35_fit](3_splat/35_fit.ipynb)."),
)


START = """# lucidteach

**A laboratory for score distillation where the truth is known.** Notebooks that define, explain, test and export every part of LucidDreamer: SDS and why it smooths, DDIM inversion, Interval Score Matching, 3D Gaussian Splatting, text to 3D. It runs on a two-core laptop with nothing to download.

![SDS and ISM at several guidances, the truth at the right](images/sds_ism_truth.png)

*Fine detail under score distillation, the truth at the right: above the exact score, below the small trained network. What holds of the article's claims is in the [ledger](ledger.md).*

<div class="doors">
<div>

**You are a student.**

Begin with [00_start](00_start.ipynb), a quarter of an hour with sliders, then [the course](course.md): ten lessons with exercises, from what a score is to text to 3D.

</div>
<div>

**You teach.**

{teacher} Slides, solutions and graders' notebooks come by `make slides` and `lucidteach course build`.

</div>
<div>

**You write a script.**

[About](about.ipynb) has the first lines in Python, [28_your_own](2_distill/28_your_own.ipynb) a loss of your own in ten lines, [the API](api/index.md) every function.

</div>
</div>

"""


def start(source: Path) -> None:
    "The front page and its tree"
    teacher = "[For the teacher](course/teacher.md) has three plans, minute by minute, and what goes wrong in a lab. "
    has = (source / COURSE / "teacher.md").is_file()
    body = START.format(teacher=teacher if has else "[The course](course.md) has ten lessons.")
    if not (source / "00_start.ipynb").is_file():  # a part of the site
        body = body.replace("[00_start](00_start.ipynb)", "00_start").replace("[28_your_own](2_distill/28_your_own.ipynb)", "28_your_own")
    first = ["First steps <00_start>"] if (source / "00_start.ipynb").is_file() else []
    rest = [p for p in ("gallery", "ledger", "parity") if (source / f"{p}.md").is_file()]
    body += tree(*first, "course", "reference", *rest, "api/index", "About <about>", hidden=True, depth=2)
    write(source / "index.md", body)


def assemble(out: Path, part: str | None = None) -> Path:
    "The sources of the site in out/source"
    source = out / "source"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(HERE / "static", source / "static")
    shutil.copytree(HERE / "vendor" / "mathjax", source / "static" / "mathjax")
    shutil.copy(HERE / "conf.py", source / "conf.py")
    (source / "extra").mkdir()
    names = copied(source, part)
    course(source)
    reference(source, names)
    api(source, part)
    if not part:
        pages_of_numbers(source)
        gallery(source)
    start(source)
    if part:
        for page in source.rglob("*.md"):
            gone = lambda m, here=page.parent: m[0] if (here / m[2]).exists() else f"{m[1]}{REPOSITORY})"
            page.write_text(re.sub(r"(\]\()([^)\s]+\.(?:ipynb|md))\)", gone, page.read_text(encoding="utf8")), encoding="utf8")
    return source


def main(out: str = "build/site", part: str | None = None) -> Path:
    "The site's folder of pages; an error of Sphinx, and a warning is one, ends the program"
    folder = Path(out).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    source = assemble(folder, part)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", source, folder / "html"]
    subprocess.run([*map(str, command)], check=True)
    return folder / "html"


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--out", default="build/site", help="folder (default: %(default)s)")
    p.add_argument("--part", help="folder of one floor, such as 2_distill (default: all)")
    args = p.parse_args()
    print(main(args.out, args.part) / "index.html")
