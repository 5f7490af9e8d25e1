'use strict';

// Elements, written to only where they differ; behind them tables.

const byId = id => document.getElementById(id);
const field = name => document.querySelector(`[data-field="${name}"]`);

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function setAttribute(element, name, value) {
  if (value === undefined || value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

function add(parent, tag, className) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  return parent.appendChild(element);
}

function show(name, text, value) {
  const element = field(name);
  setText(element, text);
  setAttribute(element, 'data-value', value);
  return element;
}

function showNumber(name, number) {
  return show(name, decimal.format(number), number);
}

function showTime(element, moment, format) {
  setText(element, moment ? local(moment, format) : '–');
  setAttribute(element, 'datetime', moment);
}

// Text of strangers: isolated, in its own direction; where it is long it opens on a click or a key.
function showWords(parent, text, absent = 'none') {
  const shape = text === null || text === undefined ? 'absent' : text.length > 60 ? 'long' : 'short';
  if (parent.dataset.shape !== shape) {
    parent.dataset.shape = shape;
    parent.textContent = '';
    if (shape !== 'absent') {
      const holder = shape === 'long' ? add(add(parent, 'details', 'long'), 'summary') : parent;
      add(holder, 'bdi', shape === 'long' ? 'clip' : '').dir = 'auto';
    } else {
      add(parent, 'span', 'none');
    }
  }
  setText(parent.querySelector('bdi, span'), shape === 'absent' ? say(absent) : visible(text));
}

// ---- tables: a list of columns each; a cell is drawn by the kind of its column

// A number that has a list says which: to(row).
const column = kind => (name, label, absent, to) => ({ kind, name, label, absent, to });
const [plain, words, number, late, span, time, minute, ago, below, share, ticket] =
  ['plain', 'words', 'number', 'late', 'span', 'time', 'minute', 'ago', 'below', 'share', 'ticket'].map(column);
const counted = (name, label, to) => number(name, label, undefined, to);
const tardy = (name, label, to) => late(name, label, undefined, to);

const TABLES = {};   // of each part of the page: its key and its columns

const addressTo = section => addressOf({ ...state.choice, [section.deliveries ? 'deliveries' : 'list']: section });

function showDecimal(element, value, absent, row, to) {
  const link = Boolean(to && value);
  if (element.dataset.link !== String(link)) {
    element.dataset.link = link;
    element.textContent = '';
  }
  if (link) setAttribute(element.firstChild || add(element, 'a'), 'href', addressTo(to(row)));
  setText(link ? element.firstChild : element, decimal.format(value));
}

const timeIn = format => (element, value) => showTime(element.firstChild || add(element, 'time'), value, format);

const CELLS = {
  plain: (element, value) => setText(element, visible(value)),
  words: (element, value, absent) => showWords(element, value, absent),
  number: showDecimal,
  late: showDecimal,
  span: (element, value) => setText(element, value === null ? '–' : duration(value)),
  time: timeIn(dateAndClockOf),
  minute: timeIn(minuteOf),
  ago: timeIn(moment => say`${age(moment)} ago`),
  below: (element, value, absent, row) => setText(element, row.within),
  ticket: (element, value, absent, row) => {
    const link = element.firstChild || add(add(element, 'bdi'), 'a').parentElement;
    setAttribute(link.firstChild, 'href', addressOf({ ...state.choice, ticket_project: row.project_id, ticket: row.ticket_id }));
    setText(link.firstChild, visible(value === null ? row.ticket_id : value));
  },
  share: (element, { bar, part }) => {
    (element.children[0] || add(element, 'i')).style.width = `${(60 * bar).toFixed(1)}%`;
    setText(element.children[1] || add(element, 'span'), part > 0 && part < .01 ? '< 1 %' : `${Math.round(100 * part)} %`);
  }
};

const NUMERIC = ['number', 'late', 'span'];

function drawCell(element, { kind, name, label, absent, to }, row) {
  const value = row[name];
  setAttribute(element, 'class', (NUMERIC.includes(kind) ? 'number ' : '') + (kind === 'late' && !value ? '' : kind));
  setAttribute(element, 'data-column', name);
  setAttribute(element, 'data-label', say(label));
  setAttribute(element, 'data-value', typeof value === 'object' || kind === 'words' ? null : value);
  CELLS[kind](element, value, absent, row, to);
}

// of: how many there are, where not all are given.
function drawTable(id, items, of = items.length) {
  const { key, columns } = TABLES[id];
  const table = byId(id);
  if (!table.tHead) makeHead(table, columns);
  drawList(table.tBodies[0], 'tr', items, key, (row, item) => {
    columns.forEach((column, place) => {
      const element = row.children[place] || add(row, place ? 'td' : 'th');
      if (!place) setAttribute(element, 'scope', 'row');
      drawCell(element, column, item);
    });
  });
  const region = table.parentElement;
  const cut = region.parentElement.querySelector('.cut');
  if (of > items.length) {
    setText(cut || add(region.parentElement, 'p', 'cut aside'), say`The first ${decimal.format(items.length)} of ${decimal.format(of)}.`);
  } else if (cut) {
    cut.remove();
  }
  const empty = region.nextElementSibling;
  if (empty) {
    empty.hidden = items.length > 0;
    region.hidden = !empty.hidden;
  }
}

function makeHead(table, columns) {
  const row = table.createTHead().insertRow();
  for (const { kind, label } of columns) {
    const element = add(row, 'th', NUMERIC.includes(kind) ? 'number' : '');
    element.scope = 'col';
    element.textContent = say(label);
  }
  table.createTBody();
}

// Keeps the element of each item that is still there. What has gone leaves first, so that nothing else has to move.
const keys = new WeakMap();

function drawList(parent, tag, items, keyOf, fill) {
  const wanted = new Set(items.map(keyOf));
  const present = new Map();
  for (const element of [...parent.children]) {
    const key = keys.get(element);
    if (wanted.has(key) && !present.has(key)) present.set(key, element);
    else element.remove();
  }
  items.forEach((item, place) => {
    const key = keyOf(item);
    const element = present.get(key) || document.createElement(tag);
    present.delete(key);
    keys.set(element, key);
    if (parent.children[place] !== element) parent.insertBefore(element, parent.children[place] || null);
    fill(element, item);
  });
}
