// The page is 768 high and between 4:3 and 16:9 wide, whatever the screen; a slide that is too full is made smaller
const wide = Math.max(1024, Math.min(1366, Math.round(768 * innerWidth / innerHeight)));

function fitted() {
  const out = [];
  for (const slide of document.querySelectorAll('.slides section')) {
    if (slide.querySelector('section')) continue;
    const inside = slide.querySelector(':scope > .fits');
    const shown = slide.style.display;
    slide.style.display = 'block';
    let lifted = [];
    for (let up = slide.parentElement; up && up.tagName === 'SECTION'; up = up.parentElement) {
      lifted.push([up, up.style.display]);
      up.style.display = 'block';
    }
    // large where there is little to say; code with long lines gets smaller letters, down to 14, then it wraps
    const lines = [...inside.querySelectorAll('pre')], room = 738;
    const longer = () => Math.max(1, ...lines.map(e => e.scrollWidth / e.clientWidth));
    const high = () => inside.getBoundingClientRect().height / Reveal.getScale();
    let zoom = lines.length ? 1.1 : 1.3, letters = 19;
    inside.style.zoom = zoom;
    lines.forEach(e => { e.style.whiteSpace = 'pre'; });
    while (letters > 14 && longer() > 1.002) {
      letters -= .5;
      lines.forEach(e => { e.style.fontSize = `${letters}px`; });
    }
    lines.forEach(e => { e.style.whiteSpace = ''; });
    // a long equation is set smaller by itself, then the whole slide if need be
    for (const e of inside.querySelectorAll('mjx-container[display=true]')) {
      const math = e.querySelector('mjx-math'), room = e.getBoundingClientRect().width / math.getBoundingClientRect().width;
      if (room < 1) e.style.setProperty('font-size', `${Math.max(60, 107 * room)}%`, 'important');
    }
    const wide = [...inside.querySelectorAll('mjx-math, table, img')], left = slide.getBoundingClientRect().left;
    const across = () => Math.max(0, ...wide.map(e => e.getBoundingClientRect().right - left)) / Reveal.getScale() / Reveal.getConfig().width;
    for (let i = 0; i < 60 && (high() > room || across() > 1.001); i++) {
      zoom = Math.max(.3, zoom * Math.min(.97, Math.max(.85, room / high(), 1 / Math.max(1, across()))));
      inside.style.zoom = zoom;
    }
    // a picture takes what room is left
    const pictures = [...inside.querySelectorAll('img')], left_over = (room - high()) / zoom;
    if (left_over > 8) pictures.forEach(e => { e.style.maxHeight = `${e.getBoundingClientRect().height / Reveal.getScale() / zoom + left_over / pictures.length - 4}px`; });
    out.push({ zoom, high: high(), head: (slide.querySelector('h1,h2,h3') || {}).textContent || '' });
    slide.style.display = shown;
    lifted.forEach(([up, was]) => { up.style.display = was; });
  }
  return out;
}

// everything of a slide in one box, which can be made smaller
for (const slide of document.querySelectorAll('.slides section')) {
  if (slide.querySelector('section')) continue;
  const box = document.createElement('div');
  box.className = 'fits';
  for (const child of [...slide.childNodes]) if (!(child.matches && child.matches('aside.notes'))) box.append(child);
  slide.prepend(box);
}

Reveal.initialize({
  width: wide, height: 768, margin: 0.03, center: false, hash: true, controls: true, progress: true, slideNumber: 'c/t',
  transition: 'none', pdfSeparateFragments: false, scrollActivationWidth: null, plugins: [RevealNotes],
}).then(() => MathJax.startup.promise).then(() => MathJax.typesetPromise())
  .then(() => Promise.all([...document.images].map(i => i.decode().catch(() => 0)))).then(() => document.fonts.ready)
  .then(() => { window.fitted = fitted(); Reveal.layout(); document.body.dataset.ready = 'yes'; });
