"What would go wrong on Windows and can be read in the code: text in the system's own encoding, POSIX modules that nobody guards"
import ast
from pathlib import Path

import pytest

import lucidteach

ROOT = Path(lucidteach.__file__).parent
# JSON of ASCII letters, written and read by the library alone: the same bytes in every encoding that Windows has
ASCII = {"prior/training_run.py", "judge/judges.py", "lab/notebooks.py"}
FILES = sorted(p for p in ROOT.rglob("*.py") if p.name != "_modidx.py")


def calls(tree):
    "(name of the function or method, node) of every call"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield getattr(node.func, "attr", getattr(node.func, "id", "")), node


def unencoded(tree):
    "Lines on which text is read or written in whatever encoding the machine has"
    for name, node in calls(tree):
        given = {k.arg for k in node.keywords}
        if name == "read_text" and not node.args and "encoding" not in given: yield node.lineno
        if name == "write_text" and len(node.args) < 2 and "encoding" not in given: yield node.lineno


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_text_has_an_encoding(path):
    if path.relative_to(ROOT).as_posix() in ASCII: pytest.skip("JSON of ASCII letters")
    assert not list(unencoded(ast.parse(path.read_text(encoding="utf-8"))))


def test_finds_what_it_looks_for():
    assert list(unencoded(ast.parse("p.read_text()\np.write_text('x')\np.read_text(encoding='utf-8')"))) == [1, 2]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_module_of_posix_alone(path):
    "fcntl, pwd, grp and termios never; resource only where an ImportError is caught"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = {id(n) for t in ast.walk(tree) if isinstance(t, ast.Try) for b in t.body for n in ast.walk(b)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = {a.name for a in node.names} if isinstance(node, ast.Import) else {node.module}
            assert not names & {"fcntl", "pwd", "grp", "termios"}, names
            assert "resource" not in names or id(node) in guarded
