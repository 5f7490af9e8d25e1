'use strict';

// Charts. Places on the x axis are numbers from 0, as days are not equally long where clocks change

const darkness = matchMedia('(prefers-color-scheme: dark)');

const colour = name => () => getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim();

function bars(name, scale, size, align, filled) {
  return {
    scale, stroke: colour(name), width: 1, fill: filled ? colour(name) : undefined,
    paths: window.uPlot && uPlot.paths.bars({ size: [size, 16], align }), points: { show: false }
  };
}

function line(name, scale) {
  return { scale, stroke: colour(name), width: 2, points: { size: 4, fill: colour(name) } };
}

function axis(extra) {
  return {
    stroke: colour('muted'), grid: { stroke: colour('grid'), width: 1 }, ticks: { show: false },
    font: '12px system-ui, sans-serif', ...extra
  };
}

const ofCounts = {
  size: 42, space: 32,
  incrs: [1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7].flatMap(power => [1, 2, 5].map(step => step * power)),
  values: (_, splits) => splits.map(value => compact.format(value))
};

// Returns a function that draws {columns, labels, marked, summary, describe}: numbers a series (null: no bar), a label a
// place, the places with a label on the axis, all in one sentence, and one place in words.
function makeChart(id, series, scales) {
  const box = byId(id + '-chart');
  const readout = byId(id + '-readout');
  let plot = null;
  let latest = null;
  let drawn = '';

  function layout() {
    const fromZero = (_, least, most) => [0, Math.max(4, (most || 0) * 1.05)];
    return {
      width: box.clientWidth, height: box.clientHeight, padding: [8, scales.length > 1 ? 0 : 8, 0, 0],
      legend: { show: false }, select: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      scales: {
        x: { time: false, range: u => [-0.5, u.data[0].length - 0.5] },
        ...Object.fromEntries(scales.map(name => [name, { range: fromZero }]))
      },
      axes: [
        axis({ size: 26, splits: () => latest.marked(), values: (_, places) => places.map(place => latest.labels[place]) }),
        ...scales.map((scale, right) => axis({ ...ofCounts, scale, side: right ? 1 : 3, ...(right && { grid: { show: false } }) }))
      ],
      series: [{}, ...series],
      hooks: { setCursor: [u => setText(readout, u.cursor.idx == null ? latest.summary : latest.describe(u.cursor.idx))] }
    };
  }

  new ResizeObserver(() => plot && plot.setSize({ width: box.clientWidth, height: box.clientHeight })).observe(box);
  darkness.addEventListener('change', () => plot && plot.redraw(false));

  return function drawChart(data) {
    latest = data;
    setAttribute(box, 'aria-label', data.summary);
    const fresh = JSON.stringify([data.columns, data.labels]);
    if (fresh === drawn || !window.uPlot) return;
    drawn = fresh;
    const all = [data.labels.map((_, place) => place), ...data.columns];
    if (plot) plot.setData(all);
    else plot = new uPlot(layout(), all, box);
    if (plot.cursor.idx == null) setText(readout, data.summary);
  };
}

const drawMinutesChart = makeChart('minutes', [bars('opened', 'events', 0.7, 0, true)], ['events']);

const drawFlowChart = makeChart('flow',
  [bars('opened', 'tickets', 0.4, -1, true), bars('closed', 'tickets', 0.4, 1, false), line('backlog', 'backlog')],
  ['tickets', 'backlog']);
