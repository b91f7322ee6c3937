"""Slides of the lessons: one page each, with speaker's notes (key s), in a folder that asks the network for nothing.

python .site/slides.py [--out build/slides] [--lesson 3]
"""
import argparse
import json
import re
import shutil
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter

from lucidteach.lab.course import lessons, moved_out
from lucidteach.lab.exercises import exercises, plain, stub, tags

HERE = Path(__file__).parent
LONGEST = 10  # lines of code that a page shows beside their output; longer code is seen in the notebook


def projected(nb: dict) -> dict:
    "A lesson as it is projected: its notes, no solution, no hidden test, figures and numbers without long code"
    name, cells = "", []
    for c in map(plain, nb["cells"]):
        if "exercise" in tags(c):
            name = exercises(dict(cells=[c]))[0].name
        if "hidden" in tags(c):
            continue
        c["source"] = stub(c["source"], name)
        if c["cell_type"] == "code":
            shows = any("image/png" in o.get("data", {}) for o in c["outputs"])
            folded = c["metadata"].get("jupyter", {}).get("source_hidden")
            drawn = shows and ("\n" not in c["source"].strip() or re.search(r"\b(plt|fig|axs?)\b", c["source"]))
            if folded or drawn or c["outputs"] and c["source"].strip().count("\n") > LONGEST:
                c["metadata"]["tags"] = [*c["metadata"].get("tags", []), "bare"]
            c["outputs"] = [o for o in c["outputs"] if seen(o)]
        cells.append(c)
    return moved_out(nb | dict(cells=cells))


def seen(output: dict) -> bool:
    "Whether an output is more than the name of an object"
    data = output.get("data", {})
    if set(data) == {"text/plain"}:
        return not re.match(r"^\s*<[\w.]+( object)?[ (].*>$|^Figure\(", "".join(data["text/plain"]))
    return not any("widget-view" in kind for kind in data)


def page(path: Path) -> str:
    "The slides of one lesson"
    nb = nbformat.reads(json.dumps(projected(json.loads(path.read_text(encoding="utf8")))), 4)
    nb.metadata["title"] = re.sub(r"^# ", "", nb.cells[0].source.split("\n")[0])
    nb.metadata.setdefault("language_info", {"name": "python", "pygments_lexer": "ipython3"})
    exporter = SlidesExporter(extra_template_basedirs=[str(HERE)], template_name="slides")
    body, _ = exporter.from_notebook_node(nb)
    return body


def contents(paths: list) -> str:
    "A page with a link to each lesson"
    rows = []
    for path in paths:
        first = "".join(json.loads(path.read_text(encoding="utf8"))["cells"][0]["source"]).split("\n")[0]
        rows.append(f'<li><a href="{path.stem}.html">{first.removeprefix("# ")}</a></li>')
    style = "body{font:20px/1.6 system-ui,sans-serif;max-width:40em;margin:3em auto;padding:0 1em}a{color:#0072B2}"
    return (
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>lucidteach: slides</title><style>{style}</style>'
        f"<h1>Slides</h1><ul>{''.join(rows)}</ul><p>In a lesson: arrows go on, <b>s</b> opens the speaker's notes in a "
        "window of its own, <b>o</b> shows all slides, <b>f</b> fills the screen. To print: add <code>?print-pdf</code> "
        "to the address and print into a file.</p></html>"
    )


def main(out: str = "build/slides", lesson: int | None = None) -> list:
    "Write the pages; their paths"
    folder, paths = Path(out), lessons(lesson)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(HERE / "vendor", folder / "vendor", dirs_exist_ok=True)
    for path in paths:
        (folder / f"{path.stem}.html").write_text(page(path), encoding="utf8")
    (folder / "index.html").write_text(contents(paths), encoding="utf8")
    return [folder / f"{p.stem}.html" for p in paths]


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--out", default="build/slides", help="folder (default: %(default)s)")
    p.add_argument("--lesson", type=int, help="number of one lesson (default: all)")
    args = p.parse_args()
    for path in main(args.out, args.lesson):
        print(path)
