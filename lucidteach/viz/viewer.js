// A viewer of 3D Gaussians: one WebGL2 module without dependencies, put into pages by viewer.py (notebook 62_viewer).
// The formulas and thresholds are those of our rasterizer (notebook 33_rasterize), so that both draw the same picture.

// A scene is one buffer: N centres (3 float32), then for each Gaussian 2+K texels of 4 float16:
// (half-axes, opacity), quaternion (w, x, y, z), and K = (degree+1)^2 SH coefficients (r, g, b, unused).
const ROW = 2048;                                  // texels in one row of a texture
const NEAR = 0.01;

// ---- project: one instance per Gaussian, a quad just as large as its alpha stays visible
const VERTEX = `#version 300 es
precision highp float; precision highp int; precision highp sampler2D;
uniform mat3 R; uniform vec3 eye; uniform vec2 focal, size; uniform int degree; uniform sampler2D centres, texels;
in vec2 corner; in uint id;
out vec3 color; out vec2 p; out float opacity;
vec4 texel(int k) { int i = int(id)*(2 + (degree + 1)*(degree + 1)) + k; return texelFetch(texels, ivec2(i % ${ROW}, i / ${ROW}), 0); }
vec3 c(int k) { return texel(2 + k).rgb; }
vec3 radiance(vec3 d) {                            // spherical harmonics, seen along d
  float x = d.x, y = d.y, z = d.z, xx = x*x, yy = y*y, zz = z*z;
  vec3 v = .5 + .28209479*c(0);
  if (degree > 0) v += .48860251*(-y*c(1) + z*c(2) - x*c(3));
  if (degree > 1) v += 1.09254843*(x*y*c(4) - y*z*c(5) - x*z*c(7) + .5*(xx - yy)*c(8)) + .31539157*(3.*zz - 1.)*c(6);
  if (degree > 2) v += .59004359*(-y*(3.*xx - yy)*c(9) - x*(xx - 3.*yy)*c(15)) + 2.89061144*(x*y*z*c(10) + .5*z*(xx - yy)*c(14))
                     + .37317633*z*(5.*zz - 3.)*c(12) - .45704579*(5.*zz - 1.)*(y*c(11) + x*c(13));
  return max(v, 0.);
}
mat3 rotation(vec4 q) {                            // columns; q = (w, x, y, z)
  q = normalize(q); float w = q.x, x = q.y, y = q.z, z = q.w;
  return mat3(1.-2.*(y*y+z*z), 2.*(x*y+w*z), 2.*(x*z-w*y), 2.*(x*y-w*z), 1.-2.*(x*x+z*z), 2.*(y*z+w*x), 2.*(x*z+w*y), 2.*(y*z-w*x), 1.-2.*(x*x+y*y));
}
void main() {
  vec3 mean = texelFetch(centres, ivec2(int(id) % ${ROW}, int(id) / ${ROW}), 0).xyz, t = R*(mean - eye);
  vec4 a = texel(0);
  opacity = a.w;
  gl_Position = vec4(2, 2, 2, 1);                  // outside of the picture
  if (t.z < ${NEAR} || opacity < 1./255.) return;
  mat3 M = R*rotation(texel(1)); M[0] *= a.x; M[1] *= a.y; M[2] *= a.z;
  vec2 far = .65*size/focal, s = clamp(t.xy/t.z, -far, far);           // the tangent plane is not taken beyond 1.3 times the picture
  vec3 u = vec3(focal.x/t.z, 0, -focal.x*s.x/t.z)*M, v = vec3(0, focal.y/t.z, -focal.y*s.y/t.z)*M;
  float A = dot(u, u) + .3, B = dot(u, v), C = dot(v, v) + .3;         // covariance in pixels, blurred by 0.3 px^2
  float m = .5*(A + C), e = length(vec2(.5*(A - C), B)), l1 = m + e, l2 = max((A*C - B*B)/l1, 1e-9);
  vec2 axis = e < 1e-6*m ? vec2(1, 0) : A > C ? normalize(vec2(l1 - C, B)) : normalize(vec2(B, l1 - A));
  p = corner*sqrt(2.*log(255.*opacity));           // in standard deviations, out to alpha = 1/255
  vec2 px = focal*t.xy/t.z + p.x*sqrt(l1)*axis + p.y*sqrt(l2)*vec2(-axis.y, axis.x);
  color = radiance(normalize(mean - eye));
  gl_Position = vec4(2.*px/size*vec2(1, -1), 0, 1);
}`;

// ---- blend: far to near, colours multiplied by alpha
const FRAGMENT = `#version 300 es
precision highp float;
in vec3 color; in vec2 p; in float opacity; out vec4 o;
void main() {
  float alpha = min(.999, opacity*exp(-.5*dot(p, p)));
  if (alpha < 1./255.) discard;
  o = vec4(color*alpha, alpha);
}`;

// ---- order: far to near, a counting sort by the low 16 bits of the depth and then by the high 16; what is behind the camera is left out
export function order(centres, eye, forward, out) {
  const depth = new Float32Array(centres.length/3), bits = new Uint32Array(depth.buffer);
  let n = 0, from = out, to = new Uint32Array(depth.length);
  for (let i = depth.length - 1; i >= 0; i--) {
    depth[i] = (centres[3*i] - eye[0])*forward[0] + (centres[3*i + 1] - eye[1])*forward[1] + (centres[3*i + 2] - eye[2])*forward[2];
    if (depth[i] >= NEAR) from[n++] = i;
  }
  for (const shift of [0, 16]) {
    const key = i => 65535 - (bits[i] >>> shift & 65535), place = new Uint32Array(65537);
    for (let j = 0; j < n; j++) place[key(from[j]) + 1]++;
    for (let k = 1; k < 65537; k++) place[k] += place[k - 1];
    for (let j = 0; j < n; j++) to[place[key(from[j])]++] = from[j];
    [from, to] = [to, from];
  }
  return n;                                        // how many are to be drawn
}

// ---- camera: as Camera.orbit in Python; degrees, azimuth 0 is +y, z is up; rows right, down, forward
export function pose({azimuth, elevation, radius, target}) {
  const a = azimuth*Math.PI/180, e = elevation*Math.PI/180, [sa, ca, se, ce] = [Math.sin(a), Math.cos(a), Math.sin(e), Math.cos(e)];
  const forward = [-ce*sa, -ce*ca, -se], right = [-ca, sa, 0], down = [se*sa, se*ca, -ce];
  return {right, down, forward, eye: target.map((t, i) => t - radius*forward[i])};
}

// ---- the graphics card's side; made when there is something to draw and freed soon after
function program(gl) {
  const P = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const s = gl.createShader(kind);
    gl.shaderSource(s, text); gl.compileShader(s); gl.attachShader(P, s);
    if (!gl.getShaderParameter(s, gl.COMPILE_STATUS) && !gl.isContextLost()) throw Error(gl.getShaderInfoLog(s));
  }
  gl.bindAttribLocation(P, 0, "corner"); gl.bindAttribLocation(P, 1, "id"); gl.linkProgram(P); gl.useProgram(P);
  return P;
}

function texture(gl, unit, format, kind, array, width) {      // array in rows of ROW texels of `width` numbers; the last row is filled up
  const rows = Math.max(1, Math.ceil(array.length/width/ROW)), most = gl.getParameter(gl.MAX_TEXTURE_SIZE);
  if (rows > most) throw Error(`the scene needs ${rows} rows of a texture, this graphics card has ${most}`);
  const full = new array.constructor(rows*ROW*width);
  full.set(array);
  const made = gl.createTexture();
  gl.activeTexture(gl.TEXTURE0 + unit); gl.bindTexture(gl.TEXTURE_2D, made);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST); gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
  gl.pixelStorei(gl.UNPACK_ALIGNMENT, 4);
  gl.texImage2D(gl.TEXTURE_2D, 0, format, ROW, rows, 0, width === 3 ? gl.RGB : gl.RGBA, kind, full);
  return made;
}

export function painter(scene) {
  const canvas = document.createElement("canvas"), gl = canvas.getContext("webgl2", {antialias: false, alpha: false, depth: false});
  if (!gl) return null;
  const P = program(gl), at = name => gl.getUniformLocation(P, name);
  let ids = null, held = [];
  function load(next) {                            // another scene on the same card
    for (const old of held) gl.deleteTexture(old);
    scene = next; ids = new Uint32Array(scene.count);
    held = [texture(gl, 0, gl.RGB32F, gl.FLOAT, scene.centres, 3), texture(gl, 1, gl.RGBA16F, gl.HALF_FLOAT, scene.texels, 4)];
    gl.uniform1i(at("centres"), 0); gl.uniform1i(at("texels"), 1); gl.uniform1i(at("degree"), scene.degree);
  }
  load(scene);
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer()); gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]), gl.STATIC_DRAW);
  gl.enableVertexAttribArray(0); gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 0, 0);
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer()); gl.enableVertexAttribArray(1);
  gl.vertexAttribIPointer(1, 1, gl.UNSIGNED_INT, 0, 0); gl.vertexAttribDivisor(1, 1);
  gl.enable(gl.BLEND); gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA); gl.disable(gl.DITHER);
  const fine = gl.getExtension("EXT_color_buffer_float") || gl.getExtension("EXT_color_buffer_half_float");   // blending in 8 bits rounds every layer
  const buffer = fine && gl.createFramebuffer(), plane = fine && gl.createRenderbuffer();
  function resize(width, height) {
    canvas.width = width; canvas.height = height;
    if (!fine) return;
    gl.bindRenderbuffer(gl.RENDERBUFFER, plane); gl.renderbufferStorage(gl.RENDERBUFFER, gl.RGBA16F, width, height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, buffer); gl.framebufferRenderbuffer(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.RENDERBUFFER, plane);
  }
  resize(1, 1);
  function draw(view, background, width, height) {
    if (canvas.width !== width || canvas.height !== height) resize(width, height);
    const {right: r, down: d, forward: f, eye} = pose(view), focal = Math.min(width, height)/2/Math.tan(view.fov*Math.PI/360);
    const n = order(scene.centres, eye, f, ids);
    gl.uniformMatrix3fv(at("R"), false, [r[0], d[0], f[0], r[1], d[1], f[1], r[2], d[2], f[2]]); gl.uniform3fv(at("eye"), eye);
    gl.uniform2f(at("focal"), focal, focal); gl.uniform2f(at("size"), width, height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, buffer || null); gl.viewport(0, 0, width, height);
    gl.clearColor(...background, 1); gl.clear(gl.COLOR_BUFFER_BIT);
    gl.bufferData(gl.ARRAY_BUFFER, ids.subarray(0, n), gl.DYNAMIC_DRAW); gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, n);
    if (!fine) return;
    gl.bindFramebuffer(gl.DRAW_FRAMEBUFFER, null); gl.blitFramebuffer(0, 0, width, height, 0, 0, width, height, gl.COLOR_BUFFER_BIT, gl.NEAREST);
  }
  return {canvas, gl, draw, load, free() { gl.getExtension("WEBGL_lose_context")?.loseContext(); }};
}

// ---- hands: pointer, wheel and keyboard change a view {azimuth, elevation, radius, target, fov}
function hands(canvas, view, start, changed) {
  const pointers = new Map(), clamp = (v, low, high) => Math.min(high, Math.max(low, v));
  const turn = (da, de) => { view.azimuth += da; view.elevation = clamp(view.elevation + de, -90, 90); };
  const zoom = k => { view.radius = clamp(view.radius*k, start.radius/20, start.radius*10); };
  function shift(dx, dy) {                         // in pixels: the point under the pointer stays under it
    const {right, down} = pose(view), k = 2*view.radius*Math.tan(view.fov*Math.PI/360)/Math.min(canvas.clientWidth, canvas.clientHeight);
    view.target = view.target.map((t, i) => t - k*(dx*right[i] + dy*down[i]));
  }
  const spread = () => { const [a, b] = pointers.values(); return {x: (a.x + b.x)/2, y: (a.y + b.y)/2, d: Math.hypot(a.x - b.x, a.y - b.y)}; };
  const down = e => { canvas.focus({preventScroll: true}); canvas.setPointerCapture(e.pointerId); pointers.set(e.pointerId, {x: e.clientX, y: e.clientY}); };
  const up = e => pointers.delete(e.pointerId);
  function move(e) {
    const old = pointers.get(e.pointerId);
    if (!old || pointers.size > 2) return;
    const before = pointers.size === 2 && spread(), dx = e.clientX - old.x, dy = e.clientY - old.y;
    pointers.set(e.pointerId, {x: e.clientX, y: e.clientY});
    if (before) { const after = spread(); zoom(before.d/Math.max(after.d, 1)); shift(after.x - before.x, after.y - before.y); }
    else if (e.shiftKey || e.buttons & 6) shift(dx, dy);
    else turn(.5*dx, .5*dy);
    changed();
  }
  function wheel(e) {                              // a page must stay scrollable: only after a click, or with Ctrl
    if (document.activeElement !== canvas && !e.ctrlKey) return;
    e.preventDefault(); zoom(Math.exp(clamp(e.deltaY, -100, 100)*.0015)); changed();
  }
  const step = 24, keys = {
    ArrowLeft: s => s ? shift(-step, 0) : turn(-5, 0), ArrowRight: s => s ? shift(step, 0) : turn(5, 0),
    ArrowUp: s => s ? shift(0, -step) : turn(0, -5), ArrowDown: s => s ? shift(0, step) : turn(0, 5),
    "+": () => zoom(.9), "=": () => zoom(.9), "-": () => zoom(1/.9), _: () => zoom(1/.9), 0: () => Object.assign(view, structuredClone(start)),
  };
  function key(e) {
    if (!keys[e.key] || e.ctrlKey || e.metaKey || e.altKey) return;
    e.preventDefault(); keys[e.key](e.shiftKey); changed();
  }
  const stop = e => e.preventDefault(), list = {pointerdown: down, pointermove: move, pointerup: up, pointercancel: up, wheel, keydown: key, contextmenu: stop};
  for (const [name, f] of Object.entries(list)) canvas.addEventListener(name, f, {passive: false});
  return () => { for (const [name, f] of Object.entries(list)) canvas.removeEventListener(name, f); };
}

// ---- the viewer: a plain 2D canvas that keeps the picture while the graphics card is let go
// `say` is told what a reader must know. Nothing runs while nothing changes; after `rest` ms the WebGL context is given back,
// so that a page may hold more viewers than the sixteen contexts that browsers keep.
export function viewer(canvas, {scene, view, background = [1, 1, 1], say = () => {}, rest = 4000}) {
  const start = structuredClone(view), paper = canvas.getContext("2d"), over = new AbortController(), {signal} = over;
  let card = null, due = 0, timer = 0, seen = false, stale = true, lost = 0, frames = 0;
  view = structuredClone(start);
  const let_go = () => { clearTimeout(timer); card?.free(); card = null; };
  const give_up = why => { canvas.dataset.state = "failed"; say(why); };
  const changed = () => { stale = true; wake(); };
  const wake = () => { if (stale && seen && !document.hidden) due ||= requestAnimationFrame(paint); };
  function paint() {
    due = 0;
    if (card?.gl.isContextLost()) card = null;     // the browser took it; the next one may be luckier
    try { card ??= painter(scene); } catch (e) { return give_up(`This object cannot be turned here: ${e.message}`); }
    if (!card) return give_up("This browser offers no WebGL2 here, so the object cannot be turned.");
    const k = Math.min(window.devicePixelRatio || 1, 2), width = Math.max(1, Math.round(canvas.clientWidth*k)), height = Math.max(1, Math.round(canvas.clientHeight*k));
    card.draw(view, background, width, height);
    if (card.gl.isContextLost()) return lost++ < 3 ? wake() : give_up("The browser takes the graphics card away again and again; reload the page to try once more.");
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    paper.drawImage(card.canvas, 0, 0);
    stale = false; lost = 0; canvas.dataset.state = "drawn"; say(""); canvas.dataset.frames = ++frames;
    clearTimeout(timer); timer = setTimeout(let_go, rest);
  }
  const eye = new IntersectionObserver(e => { seen = e.at(-1).isIntersecting; wake(); }), ruler = new ResizeObserver(changed);
  eye.observe(canvas); ruler.observe(canvas); document.addEventListener("visibilitychange", wake, {signal});
  const zoomed = () => matchMedia(`(resolution: ${devicePixelRatio}dppx)`).addEventListener("change", () => { changed(); zoomed(); }, {once: true, signal});
  zoomed();                                        // another zoom or screen changes the pixels, and not the size that the ruler sees
  const release = hands(canvas, view, start, changed);
  function dispose() { eye.disconnect(); ruler.disconnect(); over.abort(); release(); cancelAnimationFrame(due); seen = false; let_go(); }
  return {
    view, changed, dispose,
    set(next) {                                    // another scene, from the same eye and with the same card
      scene = next;
      try { card?.load(scene); } catch { let_go(); }
      changed();
    },
    get active() { return card !== null; }, get frames() { return frames; },
  };
}

// ---- a scene from the bytes that viewer.py packs, which begin at a multiple of four; or from its JSON: {count, degree, data: base64}
export function scene_of({count, degree}, buffer) {
  return {count, degree, centres: new Float32Array(buffer, 0, 3*count), texels: new Uint16Array(buffer, 12*count)};
}

export function unpack({count, degree, data}) { return scene_of({count, degree}, Uint8Array.from(atob(data), ch => ch.charCodeAt(0)).buffer); }
