"""The course: every lesson has its form, every stub fails as a stub, students' files hold no solution, and the two
grading programs take what is made for them"""
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lucidteach import cli
from lucidteach.lab.course import build, lessons, outline
from lucidteach.lab.exercises import CALLS, HIDDEN, SOLUTION, exercises, faults, student, tags, text
from lucidteach.lab.notebooks import deliver, names, statements, touched

root = Path(__file__).parent.parent
COURSE = root / "nbs" / "course"
LESSONS = sorted(COURSE.glob("c[0-9][0-9]_*.ipynb"))
each_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)


def read(path): return json.loads(Path(path).read_text(encoding="utf8"))


def cell(kind, source, *own, slide="skip"):
    code = dict(outputs=[], execution_count=None) if kind == "code" else {}
    return dict(cell_type=kind, id=f"s{abs(hash((source, own))) % 10**9}", metadata=dict(tags=[*own], slideshow=dict(slide_type=slide)), source=source, **code)


def exercise(n, title, function, argument, right, test):
    "The six cells of an exercise"
    return [
        cell("markdown", f"### Exercise 99.{n}. {title}\n(2 minutes)\n\nSee [21](../2_distill/21_sds.ipynb).", "exercise", slide="slide"),
        cell("code", f'def {function}({argument}):\n    "What it does"\n    ### BEGIN SOLUTION\n    secret_{n} = {right}\n    return secret_{n}\n    ### END SOLUTION', "solve"),
        cell("code", f"def {function}_spec({argument}):\n    return {right}", "spec"),
        cell("code", f'def check_99_{n}(answer):\n    @quick\n    @given({argument}=st.integers(-9, 9))\n    def check({argument}):\n        """Multi-line\n\n        text"""\n        assert answer({argument}) == {function}_spec({argument}), "see the spec"\n\n    check()\n\n\ncheck_99_{n}({function})\nprint("99.{n} is right")', "check"),
        cell("code", f"### BEGIN HIDDEN TESTS\ncheck_99_{n}({function})\nfor i in range(3):\n\n    assert {test}, 'hidden'\n{function}(3)\n### END HIDDEN TESTS", "hidden"),
        cell("code", f"print('a picture of', {function}(2))", "reward"),
    ]


def sample():
    "A lesson of two exercises"
    first = "from hypothesis import given, settings\nfrom hypothesis import strategies as st\n\nquick = settings(deadline=None, max_examples=20, derandomize=True, database=None)"
    cells = [
        cell("markdown", "# Lesson 99. Numbers", slide="slide"), cell("markdown", "They will ask why.", slide="notes"), cell("code", first),
        *exercise(1, "Twice", "twice", "x", "2 * x", "twice(i) == 2 * i"), cell("code", "print(6 * 7)"),
        *exercise(2, 'A "square"', "square", "y", "y * y", "square(-i) == i * i"), cell("markdown", "## Summary", slide="slide"),
    ]
    return dict(cells=cells, metadata=dict(kernelspec=dict(name="python3", display_name="python3", language="python")), nbformat=4, nbformat_minor=5)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "The sample, built"
    tmp = tmp_path_factory.mktemp("course")
    (tmp / "nbs" / "course").mkdir(parents=True)
    (tmp / "nbs" / "index.ipynb").write_text("{}")
    (tmp / "nbs" / "course" / "c99_sample.ipynb").write_text(json.dumps(sample()))
    build(tmp / "out", source=tmp / "nbs")
    return tmp / "out"


# the lessons

def test_there_are_ten_lessons_and_forty_exercises():
    all_ = outline(root / "nbs")
    assert [one["lesson"] for one in all_] == list(range(1, 11))
    assert sum(len(one["exercises"]) for one in all_) >= 40
    for one in all_:
        assert one["title"].startswith(f"Lesson {one['lesson']}. ")
        assert [n for n, _, _ in one["exercises"]] == [f"{one['lesson']}.{k + 1}" for k in range(len(one["exercises"]))]
        assert 3 <= len(one["exercises"]) <= 6 and 10 <= sum(m for _, _, m in one["exercises"]) <= 30, one


@each_lesson
def test_a_lesson_has_its_form(path):
    "Tags, minutes, checks, slide types; goals, summary, five questions with answers, an open question"
    nb = read(path)
    assert faults(nb) == []
    words = "\n".join(text(c) for c in nb["cells"] if c["cell_type"] == "markdown")
    assert re.search(r"\*\*Time|\| *Time", words, re.I), f"{path.name} says no time"
    for part in ("**Goals", "**Before", "## Summary", "## Quiz", "open question", "## Read on"):
        assert part.lower() in words.lower(), f"{path.name} has no {part!r}"
    quiz = words[words.index("## Quiz"):]
    assert quiz.count("<details>") >= 5 and quiz.count("<details>") == quiz.count("</details>")
    assert not [c for c in nb["cells"] if re.search(r"^#\s*\|\s*(export|default_exp)", text(c), re.M)], "a lesson exports nothing"
    kinds = [c["metadata"]["slideshow"]["slide_type"] for c in nb["cells"]]
    assert 12 <= kinds.count("slide") <= 24 and kinds.count("notes") >= 5, (kinds.count("slide"), kinds.count("notes"))


@each_lesson
def test_students_files_hold_no_solution(path):
    nb = read(path)
    given, whole = student(nb), json.dumps(student(nb))
    code = "\n".join(text(c) for c in given["cells"] if c["cell_type"] == "code")
    assert "BEGIN SOLUTION" not in code and "HIDDEN TESTS" not in code
    assert len(exercises(given)) == len(exercises(nb)) >= 3 and whole.count("raise NotImplementedError(") >= len(exercises(nb))
    for c in nb["cells"]:
        if "hidden" in tags(c):
            assert HIDDEN.search(text(c))[1].strip() not in code and c["id"] not in {g["id"] for g in given["cells"]}, path.name
        for m in SOLUTION.finditer(text(c)):
            assert m[2].strip() not in code, f"{path.name}: the solution\n{m[2]}stands in the student's file"
        if {*tags(c)} & {*CALLS} and c["cell_type"] == "code":
            assert not next(g for g in given["cells"] if g["id"] == c["id"])["outputs"]


def needed(cells):
    "The code cells that the exercises' cells need, and these"
    live, kept = set(), []
    for c in reversed(cells):
        body = statements(text(c)) if c["cell_type"] == "code" else ()
        bound = set().union(*(names(n)[0] | touched(n) for n in body))
        if body and (tags(c) or bound & live):
            live |= set().union(*(names(n)[1] for n in body))
            kept.insert(0, c)
    return kept


RUN = '''
import json, os, sys, time, warnings
warnings.simplefilter("ignore")
import matplotlib; matplotlib.use("agg")
import matplotlib.pyplot as plt
from hypothesis import Phase, settings
settings.register_profile("first", phases=[Phase.explicit, Phase.generate]); settings.load_profile("first")   # the first failure will do
for path in sys.argv[1:]:
    one = json.load(open(path)); os.chdir(one["folder"]); space, found, begin = {"__name__": "__main__", "display": print}, [], time.time()
    for c in one["cells"]:
        source, start, error = "".join(c["source"]), time.time(), None
        try: exec(compile(source, f"<{c['id']}>", "exec"), space)
        except BaseException as e: error = [type(e).__name__, str(e)]
        found.append([c["id"], c["tags"], error, round(time.time() - start, 2)])
        plt.close("all")
    print("RESULT", json.dumps(dict(name=one["name"], cells=found, seconds=round(time.time() - begin, 1))), flush=True)
'''


def started(lessons, folder):
    "One process that runs, of notebooks [(name, cells, folder)], the exercises' cells and what these need"
    paths = []
    for name, cells, where in lessons:
        paths.append(folder / f"{name}.json")
        code = [dict(id=c["id"], tags=tags(c), source=text(c)) for c in needed(cells)]
        paths[-1].write_text(json.dumps(dict(name=name, cells=code, folder=str(where))))
    return subprocess.Popen([sys.executable, "-c", RUN, *map(str, paths)], stdout=subprocess.PIPE, stderr=open(folder / "errors", "w"), text=True, env=os.environ | dict(MPLBACKEND="agg"))


def results(process, folder):
    "What became of each notebook, as soon as it is known"
    for line in process.stdout:
        if line.startswith("RESULT "): yield json.loads(line.removeprefix("RESULT "))
    assert process.wait() == 0, (folder / "errors").read_text()[-3000:]


def executed(lessons, folder): return list(results(started(lessons, folder), folder))


def check_stubs(found, titles):
    "Checks fail, and whatever fails fails because something is not written yet"
    for id, own, error, _ in found["cells"]:
        where = f"{found['name']}, cell {id} ({', '.join(own) or 'no tag'})"
        if "check" in own: assert error, f"{where}: the check passes although nothing is written"
        if error: assert error[0] == "NotImplementedError" and error[1] in titles, f"{where}: {error}"
        if error: assert {*own} & {"check", "reward"}, f"{where} stops Run All: {error}"


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    "The students' copies of all lessons, run by one process, which imports once; a function that waits for a lesson"
    folder, found = tmp_path_factory.mktemp("stubs"), {}
    process = started([(p.stem, student(read(p))["cells"], COURSE) for p in LESSONS], folder)
    coming = results(process, folder)

    def wait(name):
        while name not in found: found.update((one["name"], one) for one in [next(coming)])
        return found[name]

    yield wait
    process.kill()


@each_lesson
def test_stubs_fail_only_as_stubs(path, stubs):
    check_stubs(stubs(path.stem), {e.name for e in exercises(read(path))})


# what is built

def test_the_sample_is_right_and_its_copies_run(made, tmp_path):
    lesson, given = sample(), read(made / "student" / "c99_sample.ipynb")
    assert faults(lesson) == [] and [e.title for e in exercises(given)] == ["Twice", 'A "square"']
    (right, stubs, full) = executed([("right", lesson["cells"], tmp_path), ("stubs", given["cells"], tmp_path), ("full", read(made / "solution" / "c99_sample.ipynb")["cells"], tmp_path)], tmp_path)
    assert not [c for c in right["cells"] + full["cells"] if c[2]]
    check_stubs(stubs, {e.name for e in exercises(lesson)})
    assert sum(bool(c[2]) for c in stubs["cells"]) == 4
    assert "secret_1" not in json.dumps(given) and "They will ask" not in json.dumps(given)
    for name in ("student", "solution", "grader"): assert not re.search(r"\]\(\.\./", "".join(p.read_text() for p in (made / name).rglob("*.ipynb")))


def test_run_all_goes_past_a_stub(made):
    "As nbclient runs a notebook, which stops at the first error elsewhere"
    import nbformat
    from nbclient import NotebookClient

    nb = nbformat.read(made / "student" / "c99_sample.ipynb", 4)
    nbformat.validate(nb)
    NotebookClient(nb, timeout=120, kernel_name="python3").execute()
    out = [o for c in nb.cells if c.cell_type == "code" for o in c.outputs]
    assert [o.ename for o in out if o.output_type == "error"] == ["NotImplementedError"] * 4
    assert any(o.get("text") == "42\n" for o in out)


def test_the_command(tmp_path, capsys):
    if not LESSONS: pytest.skip("no lessons yet")
    assert cli.main(["course", "build", "--out", str(tmp_path / "out"), "--lesson", "1"]) == 0
    assert "1 lesson in" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [".lucidteach.json", "grader", "solution", "student"]
    assert cli.main(["course", "build", "--lesson", "77", "--out", str(tmp_path / "no")]) == 2
    assert "there is no lesson 77" in capsys.readouterr().err and not (tmp_path / "no").exists()


def test_the_lab_brings_the_students_copy(tmp_path):
    "Without a solution, without what is for the teacher"
    (clone := tmp_path / "nbs").mkdir()                        # the course alone: test_lab delivers all of it
    shutil.copy(root / "nbs" / "index.ipynb", clone)
    shutil.copytree(COURSE, clone / "course")
    deliver(tmp_path / "mine", clone)
    got = sorted(p.name for p in (tmp_path / "mine" / "course").rglob("*") if p.is_file())
    assert got == [p.name for p in lessons(source=root / "nbs")]
    for p in (tmp_path / "mine" / "course").glob("*.ipynb"): assert "BEGIN SOLUTION" not in (body := p.read_text()) and "NotImplementedError" in body and "HIDDEN TESTS" not in body


# the two grading programs, where they are installed

def called(command, cwd, **kw):
    "A program, in an environment of its own: it must not read or write a user's settings"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])       # nbgrader calls alembic
    home = dict(PATH=path, HOME=str(cwd), JUPYTER_CONFIG_DIR=str(cwd / "jupyter"), JUPYTER_DATA_DIR=str(cwd / "data"), IPYTHONDIR=str(cwd / "ipython"))
    r = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=500, env=os.environ | home, **kw)
    assert r.returncode == 0, r.stdout[-2000:] + r.stderr[-3000:]
    return r.stdout + r.stderr


def handed_in(release, answers):
    "A released notebook in which a student has written something: old text -> new"
    nb = read(release)
    for c in nb["cells"]:
        for old, new in answers.items(): c["source"] = text(c).replace(old, new)
    return json.dumps(nb)


def test_nbgrader_takes_it(made, tmp_path):
    "Generated, handed in by three students (all right, one exercise, nothing), graded"
    pytest.importorskip("nbgrader", reason="nbgrader is not installed: pip install nbgrader, to try the grader's folder with it")
    course = tmp_path / "nbgrader"
    shutil.copytree(made / "grader" / "nbgrader", course)
    call = lambda *args: called([sys.executable, "-m", "nbgrader", *args], course)
    call("generate_assignment", "c99_sample", "--create")
    release = course / "release" / "c99_sample" / "c99_sample.ipynb"
    body = release.read_text()
    assert "secret_" not in body and "HIDDEN" not in body and "'hidden'" not in body and body.count("raise NotImplementedError()") == 2
    # an answer to the first exercise that the visible check accepts and the hidden tests do not cannot be had here: the check is whole
    stub = "# YOUR CODE HERE\n    raise NotImplementedError()"
    assert stub in text(next(c for c in read(release)["cells"] if "def twice" in text(c) and "spec" not in text(c)))
    answers = {"all": {'def twice(x):\n    "What it does"\n    ' + stub: "def twice(x):\n    return x + x", 'def square(y):\n    "What it does"\n    ' + stub: "def square(y):\n    return y**2"}}
    answers["one"] = dict([next(iter(answers["all"].items()))])
    answers["none"] = {}
    for who, what in answers.items():
        (folder := course / "submitted" / who / "c99_sample").mkdir(parents=True)
        (folder / "c99_sample.ipynb").write_text(handed_in(release, what))
    call("autograde", "c99_sample", "--create")
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        score = {who: book.find_submission("c99_sample", who).score for who in answers}
        assert book.find_assignment("c99_sample").max_score == 4
    assert score == dict(all=4, one=2, none=0)


def test_otter_takes_it(made, tmp_path):
    "Assigned, and a right, a half and an empty notebook graded by the notebook's own tests and the hidden ones"
    pytest.importorskip("otter", reason="otter-grader is not installed: pip install otter-grader, to try the grader's folder with it")
    master = tmp_path / "c99_sample.ipynb"
    shutil.copy(made / "grader" / "otter" / "c99_sample.ipynb", master)
    called([sys.executable, "-m", "otter", "assign", master, tmp_path / "dist"], tmp_path)       # runs all tests on the solutions
    given = (tmp_path / "dist" / "student" / "c99_sample.ipynb").read_text()
    assert "secret_" not in given and "'hidden'" not in given and given.count("raise NotImplementedError") == 2
    zip_ = next((tmp_path / "dist" / "autograder").glob("*.zip"))
    from otter.api import grade_submission

    answers = {'raise NotImplementedError("Exercise 99.1: Twice")': "return x + x", 'raise NotImplementedError("Exercise 99.2: A \\"square\\"")': "return y**2"}
    score = {}
    for who, what in dict(all=answers, one=dict([next(iter(answers.items()))]), none={}).items():
        (tmp_path / f"{who}.ipynb").write_text(handed_in(tmp_path / "dist" / "student" / "c99_sample.ipynb", what))
        score[who] = grade_submission(str(tmp_path / f"{who}.ipynb"), str(zip_), quiet=True).total
    assert score == dict(all=4, one=2, none=0)


# the teacher's texts

TEXTS = sorted(COURSE.glob("*.md"))


def headings():
    "All headings of all notebooks"
    found = set()
    for p in sorted((root / "nbs").rglob("*.ipynb")):
        for c in read(p)["cells"]:
            if c["cell_type"] == "markdown": found |= {h.strip() for h in re.findall(r"^#+ (.+)$", text(c), re.M)}
    return found


def test_teachers_texts_name_what_is_there():
    "Links, exercises, slides by their titles, commands"
    import lucidteach

    assert {p.stem for p in TEXTS} == {"teacher", "rubric", "exam"}
    known, numbers = headings(), {n for one in outline(root / "nbs") for n, _, _ in one["exercises"]}
    for p in TEXTS:
        words = p.read_text(encoding="utf8")
        for name in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", words): assert (p.parent / name).exists(), f"{p.name} links to {name}"
        for n in re.findall(r"\b(?:10|[1-9])\.[1-9]\b(?! (?:minutes|GB|%))", re.sub(r"\d+\.\d+\.\d+|==[\d.]+|about \d\.\d|took [\d.]+|Python [\d.]+|nbgrader \([\d.]+\)|\d\.\d GB|guidance[^|]*", "", words)):
            if p.stem == "teacher": assert n in numbers or n == "7.5", f"{p.name} names exercise {n}"
        if p.stem == "teacher":
            for title in re.findall(r"(?<!`)\"([A-Z][^\"]{4,60}?)[,.]?\"", re.sub(r"```.*?```", "", words, flags=re.S)):
                if "?" in title and "So the paper" in title or title.startswith("my picture"): continue
                assert any(title.removesuffix("?") in h for h in known), f"{p.name} names the section {title!r}"
        for name in re.findall(r"\blt\.(\w+)", words): assert name in lucidteach._names, f"{p.name} names lt.{name}"
        for command in re.findall(r"^lucidteach (\w+)", words, re.M): assert command in ("compare", "create", "export", "course", "lab", "doctor")


def test_held_out_prompts_are_used_nowhere():
    "What a submission is scored on stands in no lesson, notebook, result or test"
    from lucidteach.lab.score import held_out
    files = [*(root / "nbs").rglob("*"), *(root / "tests").rglob("*.py")]
    files = [f for f in files if f.suffix in (".ipynb", ".json", ".jsonl", ".md", ".csv", ".py") and not f.stem.startswith("78a_") and ".ipynb_checkpoints" not in f.parts]
    read = {f: f.read_text(encoding="utf8") for f in files}
    used = {(p, f.name) for p in held_out() for f, text in read.items() if p in text}
    assert len(read) > 100 and not used


# the score

PAINTER = """
import torch

def paint(prior, prompt, generator):
    x = torch.zeros(1, *prior.latent_shape)
    return prior.decode(x - 0.1 * prior.eps(x, 500, prior.embed(prompt)))[0]
"""


def test_a_score_that_was_stopped_goes_on(tmp_path, monkeypatch, capsys):
    "What is done is not done again; another file, budget or draw of prompts is another score"
    from lucidteach.lab import score as lab_score

    (file := tmp_path / "mine.py").write_text(PAINTER, encoding="utf-8")
    few, real, asked = dict(worlds=("ideal-detail",), prompts=2, budget=4, folder=tmp_path / "kept", mode="lines"), lab_score.done, []

    def done(arm, *rest):
        asked.append(arm.name)
        if len(asked) == 2: raise KeyboardInterrupt
        return real(arm, *rest)

    prior = lab_score.opened_world("ideal-detail")                # once, for all calls
    monkeypatch.setattr(lab_score, "opened_world", lambda world: prior)
    monkeypatch.setattr(lab_score, "done", done)
    with pytest.raises(KeyboardInterrupt): lab_score.score(file, **few)
    assert asked == ["sds@7.5", "ism@3"] and len([*few["folder"].glob("*.json")]) == 1
    found = lab_score.score(file, **few)
    assert asked == ["sds@7.5", "ism@3", "ism@3", "paint"] and "1 of 3 parts are done" in capsys.readouterr().out
    assert [row["calls"] for row in found["means"] if row["arm"] == "paint"] == [1] and Path(found["picture"]).is_file()
    assert lab_score.score(file, **few) == found and len(asked) == 4 and "all done before" in capsys.readouterr().out
    file.write_text(PAINTER.replace("0.1", "0.2"), encoding="utf-8")
    assert lab_score.score(file, **few)["digest"] != found["digest"] and asked[4:] == ["paint"]       # SDS and ISM stand
    lab_score.score(file, **few | dict(seed=1))
    assert asked[5:] == ["sds@7.5", "ism@3", "paint"]


def test_ctrl_c_says_what_is_kept(tmp_path, monkeypatch, capsys):
    from lucidteach.lab import score as lab_score

    def stopped(*a, **k): raise KeyboardInterrupt
    monkeypatch.setattr(lab_score, "score", stopped)
    assert cli.main(["course", "score", "mine.py", "--keep", str(tmp_path / "kept")]) == 130
    assert "the same command goes on" in capsys.readouterr().out


def test_a_try_is_not_on_the_held_out_prompts():
    from lucidteach.lab.score import TRIED, held_out

    assert not {p for prompts in TRIED.values() for p in prompts} & {*held_out(28)}
