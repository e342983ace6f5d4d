"use strict";
// The latency graph: one column a second, stages upon each other, and a dash above them for p99.

const PARTS = ["capture", "preprocess", "invoke", "postprocess"];
const POINTS = 120;

function niceStep(top) {
  const rough = top / 3, power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough);
}

// past: a list of numbers, or null for a second without results, for each of PARTS, p50 and p99, oldest first
function drawLatency(canvas, past) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (width === 0) return;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  pen.scale(ratio, ratio);
  pen.font = `12px ${style.fontFamily}`;
  const known = (values) => values.filter((value) => value !== null);
  const middle = Math.max(0.1, ...known(past.p50)), peak = Math.max(0.1, ...known(past.p99));
  // one outlier must not flatten everything else: what is above is cut, the table tells it
  const top = Math.max(1.25 * middle, Math.min(1.1 * peak, 3 * middle)), step = niceStep(top);
  const box = { left: 40, right: width, top: 6, bottom: height - 22 };
  const y = (value) => box.bottom - (Math.min(value, top) / top) * (box.bottom - box.top);
  axes(pen, box, { top, step, y, line: colour("line"), quiet: colour("quiet") });
  columns(pen, box, { past, y, colours: PARTS.map(colour), line: colour("p99") });
}

function axes(pen, box, { top, step, y, line, quiet }) {
  pen.strokeStyle = line;
  pen.fillStyle = quiet;
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (let value = 0; value <= top; value += step) {
    const at = Math.round(y(value)) + 0.5;
    pen.beginPath();
    pen.moveTo(box.left, at);
    pen.lineTo(box.right, at);
    pen.stroke();
    pen.fillText(String(Number(value.toPrecision(3))), box.left - 8, at);
  }
  pen.textBaseline = "alphabetic";
  for (const [text, share, align] of [["2 min ago", 0, "left"], ["1 min ago", 0.5, "center"], ["now", 1, "right"]]) {
    pen.textAlign = align;
    pen.fillText(text, box.left + share * (box.right - box.left), box.bottom + 18);
  }
}

function columns(pen, box, { past, y, colours, line }) {
  const wide = (box.right - box.left) / POINTS, from = POINTS - past.p50.length;
  pen.beginPath();
  past.p50.forEach((all, place) => {
    const left = box.left + (from + place) * wide;
    if (all === null) return;
    let below = 0;
    PARTS.forEach((part, number) => {
      const upper = below + past[part][place];
      pen.fillStyle = colours[number];
      pen.fillRect(left, y(upper), Math.max(1, wide - (wide > 4 ? 1 : 0)), y(below) - y(upper));
      below = upper;
    });
    const at = y(past.p99[place]);
    pen.moveTo(left, at);
    pen.lineTo(left + Math.max(1, wide - 1), at);
  });
  pen.strokeStyle = line;
  pen.lineWidth = 1.5;
  pen.stroke();
}
