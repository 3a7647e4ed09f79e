"use strict";
// The explorer: a map of codes with their data, decoded points, sliders and graph paths. All that it shows is in the page.
// Places on a map are pairs in [0, 1], from left to right and upwards.
(() => {
  const source = document.getElementById("explorer-data");
  if (!source) return;
  const runs = JSON.parse(source.textContent);
  const part = (name) => document.querySelector(`#explorer [data-part="${name}"]`);
  const points = part("points"), overlay = part("overlay");
  const PALETTE = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a6d3b", "#999999", "#7b5ea7", "#b8c400"];
  const VIRIDIS = ["#440154", "#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39", "#fde725"];
  const CYCLE = ["#b35806", "#e0a13a", "#8fb339", "#3d9b8f", "#4a6fc3", "#8b55b0", "#b3455f", "#b35806"];
  const UNKNOWN = "#b0b0b0";
  const MOST = 50; // neighbours of a node, as in Python's shortest_path
  let run, map, column, colours, cursor = [0.5, 0.5], datum = null, ends = [], path = null;

  // Reading ---------------------------------------------------------------------------------------------------------------

  function unpack(text, Type) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Type(bytes.buffer);
  }

  async function loadSheet(sheet) {
    const image = new Image();
    image.src = sheet.src;
    await image.decode();
    const canvas = new OffscreenCanvas(image.width, image.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    sheet.line = 4 * image.width;
    sheet.pixels = context.getImageData(0, 0, image.width, image.height).data;
  }

  async function prepare(one) { // once for each run, when it is chosen
    const types = { Uint8: Uint8Array, Uint16: Uint16Array, Uint32: Uint32Array };
    for (const column of one.columns) column.stored = unpack(column.values, types[column.type]);
    for (const map of one.maps) {
      map.stored = unpack(map.places, Uint16Array);
      if (map.nodes) map.nodePlaces = unpack(map.nodes, Float32Array);
    }
    one.picturedRows = unpack(one.pictured, Uint32Array);
    one.nodes.codes = unpack(one.nodes.nodes, Float32Array);
    one.nodes.endCodes = unpack(one.nodes.ends, Float32Array);
    await Promise.all(Object.values(one.sheets).map(loadSheet));
    one.ready = true;
  }

  const place = (index) => [map.stored[2 * index] / 65535, map.stored[2 * index + 1] / 65535];

  function valueText(column, index) {
    const stored = column.stored[index];
    if (column.kind === "classes") return column.levels[stored] ?? "missing";
    if (column.kind === "numbers" && stored === 65535) return "missing";
    return String(Number((column.low + column.step * stored).toPrecision(column.kind === "row" ? 10 : 4)));
  }

  const describe = (index) => run.columns.map((column) => `${column.name}: ${valueText(column, index)}`).join("; ");

  function nearest([across, up], rows) { // the datum that is nearest to a place, of all or of some
    let best = 0, least = Infinity;
    const count = rows ? rows.length : run.count;
    for (let i = 0; i < count; i++) {
      const row = rows ? rows[i] : i;
      const [a, b] = [map.stored[2 * row] / 65535 - across, map.stored[2 * row + 1] / 65535 - up];
      if (a * a + b * b < least) [least, best] = [a * a + b * b, i];
    }
    return best;
  }

  // Pictures --------------------------------------------------------------------------------------------------------------

  // The weighted sum of pictures of a sheet: [[index, weight], ...].
  function mix(sheet, parts) {
    const { width, height, columns, line, pixels } = sheet, sum = new Float64Array(4 * width * height);
    for (const [index, weight] of parts) {
      if (weight === 0) continue;
      const first = Math.floor(index / columns) * height * line + (index % columns) * width * 4;
      for (let row = 0; row < height; row++) {
        for (let i = 0; i < 4 * width; i++) sum[4 * width * row + i] += weight * pixels[first + row * line + i];
      }
    }
    return { pixels: Uint8ClampedArray.from(sum), width, height };
  }

  const picture = (sheet, index) => mix(sheet, [[index, 1]]);

  function between(position, last) { // the two whole numbers around a position, and how far it is from the first
    const first = Math.min(Math.max(Math.floor(position), 0), last - 1);
    return [first, Math.min(Math.max(position - first, 0), 1)];
  }

  // The decoded picture at a place: bilinear between the four nodes of the grid around it.
  function decode([across, up]) {
    const [i, a] = between(across * (map.cells - 1), map.cells - 1), [j, b] = between(up * (map.cells - 1), map.cells - 1);
    const at = (row, column) => row * map.cells + column;
    const parts = [[at(j, i), (1 - a) * (1 - b)], [at(j, i + 1), a * (1 - b)], [at(j + 1, i), (1 - a) * b], [at(j + 1, i + 1), a * b]];
    return mix(run.sheets[`grid${run.maps.indexOf(map)}`], parts);
  }

  // The values of a vector's picture, null where they are missing.
  function values(image) {
    const { names, low, high } = run.vector;
    return names.map((_, i) => {
      const level = image.pixels[4 * i];
      return level === 0 ? null : low[i] + ((level - 1) / 254) * (high[i] - low[i]);
    });
  }

  function show(canvas, image) {
    canvas.classList.toggle("vector", Boolean(run.vector));
    if (run.vector) return showVector(canvas, values(image));
    [canvas.width, canvas.height] = [image.width, image.height];
    canvas.getContext("2d").putImageData(new ImageData(image.pixels, image.width, image.height), 0, 0);
  }

  function ink(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function showVector(canvas, numbers) { // a bar for each of a few columns, else a line over them
    const { names, low, high } = run.vector, few = names.length <= 12, [width, line] = [300, 20];
    [canvas.width, canvas.height] = [2 * width, 2 * (few ? line * names.length : 140)];
    const context = canvas.getContext("2d");
    context.scale(2, 2);
    context.font = "12px system-ui, sans-serif";
    context.fillStyle = ink("--ink");
    const share = (i) => (numbers[i] - low[i]) / (high[i] - low[i] || 1);
    if (few) {
      numbers.forEach((number, i) => {
        context.fillStyle = ink("--ink");
        context.fillText(names[i].slice(0, 16), 0, line * i + 14, 96);
        context.fillText(number === null ? "missing" : Number(number.toPrecision(3)), 244, line * i + 14, 56);
        context.fillStyle = ink("--c0");
        if (number !== null) context.fillRect(100, line * i + 4, 2 + 136 * share(i), line - 8);
      });
      return;
    }
    context.strokeStyle = ink("--c0");
    context.lineWidth = 1.5;
    context.beginPath();
    let open = false;
    numbers.forEach((number, i) => {
      if (number === null) return (open = false);
      context[open ? "lineTo" : "moveTo"](50 + (i * 246) / (names.length - 1), 115 - 105 * share(i));
      open = true;
    });
    context.stroke();
    const ends = run.vector.shared ? [high[0].toPrecision(3), low[0].toPrecision(3)] : ["highest", "lowest"];
    context.fillText(ends[0], 0, 16, 48);
    context.fillText(ends[1], 0, 118, 48);
    context.fillText(names[0], 50, 134, 110);
    context.textAlign = "right";
    context.fillText(names[names.length - 1], 296, 134, 110);
  }

  // The map ---------------------------------------------------------------------------------------------------------------

  function rgb(hex) {
    return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  }

  function scaleColour(stops, share) { // a colour between those of a scale
    const [i, a] = between(share * (stops.length - 1), stops.length - 1), [one, other] = [rgb(stops[i]), rgb(stops[i + 1])];
    return one.map((level, k) => Math.round(level + a * (other[k] - level)));
  }

  function classColour(number) {
    if (number < PALETTE.length) return rgb(PALETTE[number]);
    const [hue, light] = [(number * 137.508) % 360, 35 + 12 * (number % 3)], spread = 0.6 * Math.min(light, 100 - light);
    return [0, 8, 4].map((n) => {
      const k = (n + hue / 30) % 12;
      return Math.round(2.55 * (light - spread * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
    });
  }

  const word = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0; // of a little-endian pixel
  const css = (colour) => `rgb(${colour.join(" ")})`;
  const stops = () => (column.cyclic ? CYCLE : VIRIDIS);

  function chooseColours() { // of all data, and the legend
    colours = new Uint32Array(run.count).fill(word(rgb(PALETTE[0])));
    const legend = part("legend");
    legend.replaceChildren();
    if (!column) return;
    const entry = (colour, text) => {
      const item = document.createElement("li"), swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = css(colour);
      item.append(swatch, text);
      legend.append(item);
    };
    const missing = column.kind === "classes" ? column.levels.length : 256, table = [];
    if (column.kind === "classes") {
      column.levels.forEach((text, number) => {
        table.push(word(classColour(number)));
        if (number < 40) entry(classColour(number), text);
      });
      if (column.levels.length > 40) entry(rgb(UNKNOWN), `and ${column.levels.length - 40} more`);
    } else {
      for (let i = 0; i < 256; i++) table.push(word(scaleColour(stops(), i / 255)));
      for (let i = 0; i <= 4; i++) {
        entry(scaleColour(stops(), i / 4), String(Number((column.low + (i / 4) * (column.high - column.low)).toPrecision(3))));
      }
    }
    table[missing] = word(rgb(UNKNOWN));
    let unknown = false;
    for (let i = 0; i < run.count; i++) {
      const stored = column.stored[i];
      const level = column.kind === "classes" ? Math.min(stored, missing) : stored === 65535 ? missing : (stored * 255 / 65534) | 0;
      colours[i] = table[level];
      unknown ||= level === missing;
    }
    if (unknown) entry(rgb(UNKNOWN), "missing");
  }

  function drawPoints() {
    const size = points.width, context = points.getContext("2d"), image = context.createImageData(size, size);
    const pixels = new Uint32Array(image.data.buffer), ratio = size / (points.clientWidth || size);
    const side = Math.max(1, Math.round((run.count > 20000 ? 2 : run.count > 3000 ? 3 : 4) * ratio)), stored = map.stored;
    const room = (size - side) / 65535;
    for (let i = 0; i < run.count; i++) {
      let at = Math.round((65535 - stored[2 * i + 1]) * room) * size + Math.round(stored[2 * i] * room);
      for (let row = 0; row < side; row++, at += size) pixels.fill(colours[i], at, at + side);
    }
    context.putImageData(image, 0, 0);
  }

  function ticks(low, high) { // round numbers between two values, about five
    const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= rough);
    const found = [];
    for (let k = Math.ceil(low / step); k * step <= high; k++) found.push(Number((k * step).toPrecision(6)));
    return found;
  }

  function drawOverlay() {
    const size = overlay.width, ratio = size / (overlay.clientWidth || size), context = overlay.getContext("2d");
    const at = ([across, up]) => [across * size, (1 - up) * size];
    context.clearRect(0, 0, size, size);
    context.font = `${11 * ratio}px system-ui, sans-serif`;
    context.fillStyle = ink("--soft");
    context.lineWidth = ratio;
    context.strokeStyle = ink("--line");
    [0, 1].forEach((axis) => {
      for (const tick of ticks(map.low[axis], map.high[axis])) {
        const where = (tick - map.low[axis]) / (map.high[axis] - map.low[axis]);
        const [x, y] = at(axis ? [0, where] : [where, 0]);
        context.globalAlpha = 0.5;
        context.beginPath();
        context.moveTo(x, y);
        context.lineTo(axis ? size : x, axis ? y : 0);
        context.stroke();
        context.globalAlpha = 1;
        context.fillText(tick, axis ? 3 * ratio : x + 3 * ratio, axis ? y - 3 * ratio : size - 4 * ratio);
      }
    });
    const ring = (where, radius, colour, fill) => {
      context.beginPath();
      context.arc(...at(where), radius * ratio, 0, 7);
      context.lineWidth = 2 * ratio;
      context.strokeStyle = colour;
      context.stroke();
      if (fill) context.fill();
    };
    context.fillStyle = ink("--c1");
    if (path && map.nodePlaces) {
      const places = path.indices.map((index) => {
        const end = index - path.nodes;
        return end >= 0 ? place(run.picturedRows[path.ends[end]]) : [map.nodePlaces[2 * index], map.nodePlaces[2 * index + 1]];
      });
      context.beginPath();
      places.forEach((one, i) => context[i ? "lineTo" : "moveTo"](...at(one)));
      context.lineWidth = 2.5 * ratio;
      context.strokeStyle = ink("--ink");
      context.stroke();
      places.forEach((one) => ring(one, 3, ink("--ink"), true));
    }
    ends.forEach((end) => ring(place(run.picturedRows[end]), 6, ink("--c1"), true));
    if (datum !== null) ring(place(datum), 7, ink("--ink"));
    const [x, y] = at(cursor), arm = 9 * ratio;
    for (const [width, colour] of [[5, ink("--page")], [2, ink("--c1")]]) {
      context.lineWidth = width * ratio;
      context.strokeStyle = colour;
      context.beginPath();
      context.moveTo(x - arm, y);
      context.lineTo(x + arm, y);
      context.moveTo(x, y - arm);
      context.lineTo(x, y + arm);
      context.stroke();
    }
  }

  function drawMap() {
    if (!run || !map) return;
    const size = Math.round(points.clientWidth * Math.min(2, window.devicePixelRatio || 1));
    if (!size) return;
    for (const canvas of [points, overlay]) if (canvas.width !== size) [canvas.width, canvas.height] = [size, size];
    drawPoints();
    drawOverlay();
  }

  // What is pointed at ----------------------------------------------------------------------------------------------------

  function showDatum(where) {
    datum = nearest(where);
    let index = run.picturedRows.indexOf(datum), text = describe(datum);
    if (index < 0) {
      index = nearest(where, run.picturedRows);
      text += `. The page has no picture of it; shown is the nearest datum that has one: ${describe(run.picturedRows[index])}`;
    }
    show(part("datum"), picture(run.sheets.data, index));
    show(part("reconstruction"), picture(run.sheets.reconstructions, index));
    part("datum-text").textContent = text;
  }

  function moveCursor(where) {
    cursor = where.map((one) => Math.min(1, Math.max(0, one)));
    show(part("decoded"), decode(cursor));
    const numbers = cursor.map((one, axis) => Number((map.low[axis] + one * (map.high[axis] - map.low[axis])).toPrecision(3)));
    part("decoded-text").textContent = `at (${numbers.join(", ")})${map.held ? `; held: ${map.held}` : ""}`;
  }

  // Paths -----------------------------------------------------------------------------------------------------------------

  // The shortest path between two codes through the graph of all nodes and both: two are joined where one is among the k nearest
  // others of the other. k grows until the ends are connected.
  function shortestPath(nodes, width, from, to, neighbours) {
    const count = nodes.length / width + 2, codes = new Float64Array(count * width), distances = [];
    codes.set(nodes);
    codes.set(from, (count - 2) * width);
    codes.set(to, (count - 1) * width);
    for (let i = 0; i < count; i++) distances.push(new Float64Array(count));
    for (let i = 0; i < count; i++) {
      for (let j = 0; j < i; j++) {
        let sum = 0;
        for (let d = 0; d < width; d++) sum += (codes[i * width + d] - codes[j * width + d]) ** 2;
        distances[i][j] = distances[j][i] = Math.sqrt(sum);
      }
    }
    const sorted = distances.map((row) => row.slice().sort()); // the first is its own, 0
    for (let k = Math.min(neighbours, count - 1); k <= Math.min(MOST, count - 1); k++) {
      const length = new Float64Array(count).fill(Infinity), before = new Int32Array(count), done = new Uint8Array(count);
      length[count - 2] = 0;
      for (;;) { // Dijkstra's algorithm
        let next = -1;
        for (let i = 0; i < count; i++) if (!done[i] && length[i] < (next < 0 ? Infinity : length[next])) next = i;
        if (next < 0 || next === count - 1) break;
        done[next] = 1;
        const row = distances[next], reach = sorted[next][k];
        for (let i = 0; i < count; i++) {
          if (i !== next && (row[i] <= reach || row[i] <= sorted[i][k]) && length[next] + row[i] < length[i]) {
            [length[i], before[i]] = [length[next] + row[i], next];
          }
        }
      }
      if (length[count - 1] < Infinity) {
        const indices = [count - 1];
        while (indices[0] !== count - 2) indices.unshift(before[indices[0]]);
        return { indices, length: length[count - 1], neighbours: k, nodes: count - 2 };
      }
    }
    return null;
  }

  function findPath(one, other) { // between two pictured data
    const { codes, endCodes, width, neighbours } = run.nodes, code = (end) => endCodes.subarray(end * width, (end + 1) * width);
    const found = shortestPath(codes, width, code(one), code(other), neighbours);
    return found && { ...found, ends: [one, other] };
  }

  function chooseEnd(where) {
    if (!part("path").checked) return;
    const end = nearest(where, run.picturedRows);
    [ends, path] = ends.length === 1 && ends[0] !== end ? [[ends[0], end], null] : [[end], null];
    const strip = part("strip"), row = (number) => describe(run.picturedRows[number]);
    strip.replaceChildren();
    if (ends.length < 2) return tell(`From the datum ${row(end)}. Choose the other end.`);
    path = findPath(...ends);
    if (!path) return tell(`Not connected by ${run.nodes.codes.length / run.nodes.width} samples of the prior: ${row(ends[0])}, and ${row(ends[1])}.`);
    const far = path.indices.length;
    tell(`${far} points of the graph of ${path.neighbours} neighbours, length ${path.length.toPrecision(4)} in ${run.nodes.sites}; from the datum ${row(ends[0])}, to the datum ${row(ends[1])}.`);
    path.indices.forEach((index, i) => {
      const canvas = document.createElement("canvas"), end = index - path.nodes;
      canvas.className = "picture";
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `point ${i + 1} of ${far}`);
      show(canvas, end >= 0 ? picture(run.sheets.reconstructions, path.ends[end]) : picture(run.sheets.nodes, index));
      strip.append(canvas);
    });
  }

  function tell(text) {
    part("path-text").textContent = text;
  }

  // Controls --------------------------------------------------------------------------------------------------------------

  function fill(select, options) { // [[value, text], ...]
    select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  }

  function makeSliders() {
    const box = part("sliders");
    box.replaceChildren();
    if (!run.sliders) return;
    const { units, values } = run.sliders, steps = values.length;
    for (const layer of new Set(units.map((unit) => unit.layer))) {
      const row = document.createElement("div"), select = document.createElement("select"), range = document.createElement("input");
      const output = document.createElement("output"), canvas = document.createElement("canvas");
      const mine = units.map((unit, number) => [number, `${unit.name}, variance ${unit.variance.toPrecision(2)}`]);
      fill(select, mine.filter(([number]) => units[number].layer === layer));
      select.setAttribute("aria-label", `dimension of ${layer}`);
      range.type = "range";
      [range.min, range.max, range.step, range.value] = [values[0], values[steps - 1], 0.05, 0];
      range.setAttribute("aria-label", `noise of ${layer}`);
      row.className = "slider";
      canvas.className = "picture";
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `decoded with another noise of ${layer}`);
      const update = () => {
        const position = ((range.value - values[0]) / (values[steps - 1] - values[0])) * (steps - 1);
        const [i, a] = between(position, steps - 1), first = Number(select.value) * steps + i;
        show(canvas, mix(run.sheets.sliders, [[first, 1 - a], [first + 1, a]]));
        output.textContent = Number(range.value).toFixed(2);
      };
      range.addEventListener("input", update);
      select.addEventListener("change", update);
      row.append(canvas, select, range, output);
      box.append(row);
      update();
    }
  }

  function chooseMap(number) {
    map = run.maps[number];
    const axes = map.axes[1] ? `Across: ${map.axes[0]}. Up: ${map.axes[1]}.` : `Across: ${map.axes[0]}.`;
    part("axes").textContent = map.plane ? `${axes} What is decoded lies on their plane through the mean code.` : axes;
    moveCursor(cursor);
    showDatum(cursor);
    drawMap();
  }

  function chooseColumn(number) {
    column = number === "" ? null : run.columns[number];
    chooseColours();
    drawMap();
  }

  async function chooseRun(number) {
    const chosen = runs[number];
    part("body").hidden = Boolean(chosen.error);
    part("notes").textContent = chosen.error ?? chosen.notes.join(" ");
    part("about").textContent = chosen.error ? "" : `${chosen.about}; ${chosen.count.toLocaleString("en")} points.`;
    if (chosen.error) return;
    if (!chosen.ready) await prepare(chosen);
    [run, ends, path, cursor] = [chosen, [], null, [0.5, 0.5]];
    tell("");
    part("strip").replaceChildren();
    fill(part("map"), run.maps.map((one, i) => [i, one.name]));
    const usable = run.columns.map((one, i) => [i, one.name]).filter(([i]) => run.columns[i].kind !== "row");
    fill(part("colour"), [...usable, ["", "nothing"]]);
    part("slider-part").hidden = !run.sliders;
    if (run.sliders) part("slider-text").textContent = `From the code of ${run.sliders.from}, one dimension at a time, in standard deviations of its noise. Dimensions ${run.sliders.left_out}.`;
    [map, column] = [run.maps[0], usable.length ? run.columns[usable[0][0]] : null];
    chooseColours();
    makeSliders();
    chooseMap(0);
  }

  // Events ----------------------------------------------------------------------------------------------------------------

  function pointed(event) {
    const box = overlay.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, 1 - (event.clientY - box.top) / box.height];
  }

  overlay.addEventListener("pointerdown", (event) => {
    overlay.setPointerCapture(event.pointerId);
    moveCursor(pointed(event));
    showDatum(pointed(event));
    chooseEnd(pointed(event));
    drawOverlay();
  });
  overlay.addEventListener("pointermove", (event) => {
    if (event.buttons) moveCursor(pointed(event));
    showDatum(pointed(event));
    drawOverlay();
  });
  overlay.addEventListener("keydown", (event) => {
    const step = 1 / (map.cells - 1) / (event.shiftKey ? 10 : 1);
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (moves[event.key]) moveCursor(cursor.map((one, axis) => one + moves[event.key][axis]));
    else if (event.key === "Enter" || event.key === " ") chooseEnd(cursor);
    else return;
    event.preventDefault();
    showDatum(cursor);
    drawOverlay();
  });
  part("run").addEventListener("change", (event) => chooseRun(event.target.value));
  part("map").addEventListener("change", (event) => chooseMap(event.target.value));
  part("colour").addEventListener("change", (event) => chooseColumn(event.target.value));
  part("path").addEventListener("change", (event) => {
    [ends, path] = [[], null];
    part("strip").replaceChildren();
    tell(event.target.checked ? "Choose the first end on the map." : "");
    drawOverlay();
  });
  new ResizeObserver(drawMap).observe(points);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => run && chooseMap(run.maps.indexOf(map)));
  fill(part("run"), runs.map((one, i) => [i, one.name]));
  part("run-control").hidden = runs.length < 2;
  const loaded = chooseRun(0).then(() => performance.mark("explorer"));

  // For tests, and for whoever asks more in the console.
  window.explorer = { loaded, decode, findPath, drawMap, values: (image) => values(image), cursor: () => cursor, datum: () => datum, path: () => path };
})();
