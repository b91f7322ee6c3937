"Write README.md from nbs/index.ipynb, without Quarto (nbdev_readme needs it)"
import json, re, sys
import nbformat
from nbconvert import MarkdownExporter
from nbdev.config import get_config

def readme(cfg):
    "Markdown of the index notebook: hidden cells dropped, directives stripped, image paths seen from the top"
    nb = nbformat.read(cfg.nbs_path/cfg.readme_nb, 4)
    nb.cells = [c for c in nb.cells if not re.match(r'#\s*\|\s*hide\b', c.source)]
    for c in nb.cells:
        if c.cell_type == 'code' and re.match(r'#\s*\|\s*echo: false', c.source):    # what it shows, without the code
            shown = ''.join(o['data'].get('text/markdown', '') for o in c.outputs if 'data' in o)
            c.update(cell_type='markdown', source=shown), c.pop('outputs'), c.pop('execution_count')
        elif c.cell_type == 'code': c.source = re.sub(r'^#\s*\|.*\n?', '', c.source, flags=re.M)
        else: c.source = re.sub(r'(\]\(|src=")\.\./', r'\1', c.source)
    nb.metadata['language_info'] = {'name': 'python'}
    body = MarkdownExporter().from_notebook_node(nb)[0].strip() + '\n'
    return '<!-- Written from nbs/index.ipynb by `make readme`: edit the notebook -->\n\n' + re.sub(r'\]\((?=\d+_|course/)', '](nbs/', body)

def with_table(cfg):
    "The index notebook as text, its table of all notebooks as the notebooks are now"
    from lucidteach.lab.house import rooms, table
    text = (cfg.nbs_path/cfg.readme_nb).read_text()
    nb = json.loads(text)
    cell = next(c for c in nb['cells'] if c['id'] == 'housetable')
    cell['outputs'] = [dict(data={'text/markdown': table(rooms(cfg.nbs_path), cfg.nbs_path).splitlines(keepends=True)}, execution_count=None, metadata={}, output_type='execute_result')]
    return json.dumps(nb, ensure_ascii=False, indent=1) + '\n'

if __name__ == '__main__':
    cfg = get_config()
    path = cfg.config_path/'README.md'
    index, now = cfg.nbs_path/cfg.readme_nb, with_table(cfg)
    if '--check' in sys.argv and json.loads(now) != json.loads(index.read_text()): sys.exit("the index's table of notebooks is old: run make readme")
    if '--check' not in sys.argv: index.write_text(now)
    if '--check' in sys.argv: sys.exit(path.read_text() != readme(cfg) and 'README.md differs from nbs/index.ipynb: run make readme')
    path.write_text(readme(cfg))
