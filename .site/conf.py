"Sphinx: the site, from committed notebooks that are not executed, offline"
import ast
import importlib
import inspect
import re
import textwrap

import lucidteach

project, author, copyright = "lucidteach", "the lucidteach authors", "the lucidteach authors, Apache-2.0"
release = version = lucidteach.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.viewcode"]
html_theme, html_title = "furo", "lucidteach"
html_static_path, html_css_files, html_extra_path = ["static"], ["site.css"], ["extra"]
html_favicon, html_show_sphinx, html_copy_source = "static/favicon.svg", False, False
html_theme_options = {
    "source_repository": "https://github.com/lucidteach/lucidteach/",
    "source_branch": "main",
    "source_directory": "nbs/",
    "top_of_page_buttons": [],
    "light_css_variables": {"color-brand-primary": "#0072B2", "color-brand-content": "#005a8c"},
    "dark_css_variables": {"color-brand-primary": "#6bb8e6", "color-brand-content": "#8fcaf0"},
}
nb_execution_mode, nb_merge_streams, nb_render_markdown_format = "off", True, "myst"
myst_enable_extensions = ["dollarmath", "amsmath", "html_image"]
myst_heading_anchors, myst_dmath_double_inline = 3, True
mathjax_path = "mathjax/es5/tex-chtml.js"
mathjax3_config = {"options": {"enableMenu": False}}
autodoc_member_order, autodoc_typehints = "bysource", "none"
autosummary_generate = autodoc_inherit_docstrings = False
# a notebook may begin a section one level deeper than the one before: said of style, not of the site
suppress_warnings = ["myst.header", "mystnb.lexer"]
exclude_patterns = ["extra", "static"]


def comments(obj) -> dict:
    "Docments: the comment behind each parameter of a function, name -> words"
    try:
        lines = textwrap.dedent(inspect.getsource(inspect.unwrap(obj))).split("\n")
        node = ast.parse("\n".join(lines)).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        return {}
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return {}
    found = {}
    for a in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]:
        said = re.search(r"[,:\w\]\)'\"}]\s+#\s*(.+)$|,\s*#\s*(.+)$", lines[a.end_lineno - 1])
        alone = lines[a.end_lineno - 1].strip().startswith(a.arg)
        if said and alone:
            found[a.arg] = next(filter(None, said.groups()))
    return found


def literal(words: str) -> str:
    "A docstring's words as reStructuredText that says the same: `code` is code, nothing else is markup"
    parts, out = re.split(r"(``[^`]+``|`[^`]+`)", words), ""
    for k, part in enumerate(parts):
        if k % 2:
            code = f"``{part.strip('`').strip()}``"
            apart = "" if not out or out[-1] in " (['\"{/-" else "\\ "
            close = "\\ " if re.match(r"\w", parts[k + 1]) else ""
            out += apart + code + close
        else:
            out += re.sub(r"([*_|\\])", r"\\\1", part)
    return out


def words_of(app, what, name, obj, options, lines):
    "Docstrings as they stand, and the comments of parameters"
    text = "\n".join(lines).strip()
    paragraphs = [p for p in re.split(r"\n\s*\n", text) if p.strip()]
    lines[:] = []
    for p in paragraphs:
        if re.search(r"^\s{2,}\S", p, re.M) or re.search(r"\S {3,}\S", p):
            lines += [".. code-block:: text", "", *("   " + row for row in p.split("\n")), ""]
        else:
            lines += [literal(" ".join(row.strip() for row in p.split("\n"))), ""]
    if what in ("function", "method"):
        for arg, said in comments(obj).items():
            lines.append(f":param {arg}: {literal(said)}")
        lines.append("")


def plain_signature(app, what, name, obj, options, signature, returns):
    "Signatures without what only Python can read: no addresses, no tensors"
    if signature and (" at 0x" in signature or "tensor(" in signature or "\n" in signature):
        signature = re.sub(r"<([\w.]+)[^<>]* at 0x\w+>", r"\1", signature)
        signature = re.sub(r"tensor\([^()]*(\([^()]*\))*[^()]*\)", "tensor", signature).replace("\n", " ")
    return signature, returns


def setup(app):
    app.connect("autodoc-process-docstring", words_of)
    app.connect("autodoc-process-signature", plain_signature)
