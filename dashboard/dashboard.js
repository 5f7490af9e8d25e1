'use strict';

chooseLanguage();

// The page walks one way: choice → ask → state → draw. Asking fills the state, drawing only reads it. Everything is
// updated in place, and only where it differs, so that a refresh takes away neither focus, selection nor place.
//
// Whatever the answers contain was written by strangers: it becomes text, never markup.

const REFRESH_MS = 5000;
const PATIENCE_MS = 10000;
const STALE_MS = 30000;
const BEFORE_MS = 60000;
const RECENT_MS = 15 * 60000;   // how long what was refused is trouble

const PERIODS = { '1d': 'last day', '7d': 'last 7 days', '30d': 'last 30 days', '90d': 'last 90 days' };

const MEANINGS = {
  200: 'accepted', 400: 'not readable', 401: 'token missing or wrong', 405: 'neither POST nor PUT',
  413: 'too large', 422: 'not an event', 503: 'not taken: sent again'
};

// What the verdict says when ticketd, or the web server before it, has answered something other than a report.
const REFUSALS = {
  400: 'ticketd does not understand the page', 401: 'You may not see the report', 403: 'You may not see the report',
  404: 'Reports are switched off'
};

const state = {
  choice: {},                   // filled by readChoice: lang, period, project, agent, type, ticket, ticket_project, list, deliveries
  handler: null, heardAt: 0,    // what ticketd last said of itself, and when by this browser's clock
  watched: {},                  // of some answers: {number, at}
  report: null, problem: null,  // the last good report; why there is no newer one
  failure: null,                // {mood, words, detail} while there is no answer, or none that can be shown
  before: null,                 // {asked, heardAt, before, trouble}: the period before
  list: null,                   // {asked, rows, total, after, at, trouble} of the list that is looked at
  deliveries: null,             // {asked, rows, after, at, trouble}
  history: null                 // {asked, timeline, at, trouble} of the ticket that is looked at
};

// ---- choice: what the reader wants to see; the page's address holds it

function readChoice() {
  const query = new URLSearchParams(location.search);
  const period = query.get('period');
  const numberOf = name => /^-?\d{1,19}$/.test(query.get(name)) ? query.get(name) : '';
  return {
    lang: Object.hasOwn(WORDS, query.get('lang')) ? query.get('lang') : '',
    period: Object.keys(PERIODS).includes(period) ? period : '30d',
    project: numberOf('project'),
    agent: query.get('agent'),   // null: any; '': tickets of nobody
    type: query.get('type'),
    ticket_project: numberOf('ticket_project'),
    ticket: (query.get('ticket') || '').trim(),
    list: sectionOf(query, 'list'),
    deliveries: sectionOf(query, 'deliveries')
  };
}

// Of a list the address holds its name, and as list.agent, … what narrows it beside the desk's own choice; of the
// deliveries likewise.
function sectionOf(query, name) {
  if (!query.get(name)) return null;
  const narrowed = [...query].filter(([part]) => part.startsWith(name + '.'));
  return { [name]: query.get(name), ...Object.fromEntries(narrowed.map(([part, value]) => [part.slice(name.length + 1), value])) };
}

function addressOf({ list, deliveries, ...choice }) {
  const query = new URLSearchParams(queryOf(choice));
  for (const [name, section] of Object.entries({ list, deliveries })) {
    for (const [part, value] of Object.entries(section || {})) query.set(part === name ? name : `${name}.${part}`, value);
  }
  return '?' + query;
}

function choose(change) {
  Object.assign(state.choice, change);
  history.replaceState(null, '', addressOf(state.choice));
}

// An empty agent or type is a choice; of all else an empty value is none.
function queryOf(values) {
  const said = ([name, value]) => value || (value === '' && (name === 'agent' || name === 'type'));
  return new URLSearchParams(Object.entries(values).filter(said)).toString();
}

const ofDesk = ({ period, project, agent, type }) => ({ period, project, agent, type });

// ---- ask: one request at a time

let busy = false;
let again = null;
let nextRefresh = 0;

// Asks for all that is on view, in turns; each says whether it is worth going on. A new choice does not break off the
// request under way, whose work in the database would go on beside that of the next: it is asked for after it.
async function refresh(turns = [askReport, askList, askTicket, askDeliveries, askBefore]) {
  clearTimeout(nextRefresh);
  if (busy) {
    again = turns;
    return;
  }
  busy = true;
  while (turns) {
    again = null;
    for (const turn of turns) {
      const answered = await turn();
      if (again) break;
      draw();
      if (!answered) break;
    }
    turns = again;
  }
  busy = false;
  if (!document.hidden) nextRefresh = setTimeout(refresh, REFRESH_MS);
}

async function askReport() {
  const { frame, failure } = await ask(ofDesk(state.choice));
  state.failure = failure || null;
  if (failure) return false;
  hear(frame);
  state.report = frame.report || state.report;
  if (frame.report) useZone(frame.report.time_zone);
  state.problem = frame.problem;
  return true;
}

// It changes slowly, and costs more: once a minute.
async function askBefore() {
  const asked = queryOf(ofDesk(state.choice));
  const known = state.before;
  if (known && known.asked === asked && Date.now() - known.heardAt < BEFORE_MS) return true;
  const { frame, failure } = await askFor(asked + '&before=1');
  const answer = frame && frame.report;
  state.before = { asked, heardAt: Date.now(), before: answer && answer.before, trouble: failure ? failure.detail : frame.problem };
  return true;
}

async function askTicket() {
  const { ticket, ticket_project: own, project: chosen } = state.choice;
  const project = own || chosen;
  const asked = queryOf({ ticket, project });
  const known = state.history && state.history.asked === asked ? state.history : { asked, timeline: null, at: null };
  state.history = ticket ? known : null;
  if (!ticket || choiceOf(known).length) return true;   // a search is not repeated by itself
  const { frame, failure } = await ask({ ticket, project });
  if (frame) hear(frame);
  state.history = { ...known, ...(frame && frame.report), trouble: failure ? failure.detail : frame.problem };
  return true;
}

// The tickets to choose from, where the search has found several and none is meant.
const choiceOf = ({ timeline }) => timeline && !timeline.ticket ? timeline.choice : [];

// How many of these were answered, and when the page has last seen it become more.
function watch(answers) {
  for (const status of ['401', '413', '503']) {
    const known = state.watched[status];
    const number = answers[status] || 0;
    state.watched[status] = { number, at: known && number > known.number ? Date.now() : known ? known.at : 0 };
  }
}

function hear(frame) {
  watch(frame.handler.answers);
  state.handler = frame.handler;
  state.heardAt = Date.now();
}

// Returns {frame} or {failure}, and never throws: a failure is something to show.
const ask = values => askFor(queryOf(values));

// ticketd takes a + for itself, as RFC 3986 does, where URLSearchParams means a space.
async function askFor(query) {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), PATIENCE_MS);
  try {
    const answer = await fetch('../report.json?' + query.replace(/\+/g, '%20'), { signal: limit.signal, cache: 'no-store' });
    const body = parsed(await answer.text());
    if (answer.ok && body.handler) return { frame: body };
    const detail = typeof body.detail === 'string' ? body.detail : say`the answer, HTTP ${answer.status}, is not a report`;
    const known = REFUSALS[answer.status];
    return { failure: { mood: known ? 'warn' : 'bad', words: say(known || 'No answer from ticketd'), detail } };
  } catch (error) {
    const detail = limit.signal.aborted ? say`nothing came within ${PATIENCE_MS / 1000} seconds` : say('the connection failed');
    return { failure: { mood: 'bad', words: say('No answer from ticketd'), detail } };
  } finally {
    clearTimeout(timer);
  }
}

// Proxies answer with pages of their own: those are as good as nothing.
function parsed(text) {
  try {
    return JSON.parse(text) || {};
  } catch (error) {
    return {};
  }
}

// ---- numbers, times and texts as words

const decimal = new Intl.NumberFormat(language, { maximumFractionDigits: 1 });
const compact = new Intl.NumberFormat(language, { notation: 'compact' });

function count(number, one, many) {
  return say(`{0} ${number === 1 ? one : many}`, decimal.format(number));
}

const UNITS = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];

// 93784 is "1 d 2 h": the largest unit and, where parts is 2, the one below it.
function duration(seconds, parts = 2) {
  let rest = Math.max(0, Math.round(seconds));
  const first = UNITS.findIndex(([size]) => rest >= size);
  if (first < 0) return '0 s';
  return UNITS.slice(first, first + parts).map(([size, name]) => {
    const whole = Math.floor(rest / size);
    rest -= whole * size;
    return whole ? `${whole} ${say(name)}` : '';
  }).filter(Boolean).join(' ');
}

function bytes(size) {
  const names = ['bytes', 'KB', 'MB', 'GB', 'TB'];
  let power = 0;
  for (; size >= 1024 && power < names.length - 1; power++) size /= 1024;
  return `${decimal.format(size)} ${say(names[power])}`;
}

// ticketd's clock, not the browser's: ages are right even where this computer's time is wrong.
function now() {
  return Date.parse(state.handler.now) + Date.now() - state.heardAt;
}

function age(moment) {
  return duration((now() - Date.parse(moment)) / 1000, 1);
}

// Days are counted in the zone of the session that makes the report: times are shown in the same.
let clock = { zone: null, known: true, parts: null };

function useZone(zone) {
  if (zone === clock.zone) return;
  const options = { year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' };
  try {
    clock = { zone, known: true, parts: new Intl.DateTimeFormat('en', { ...options, timeZone: zone }) };
  } catch (error) {
    clock = { zone, known: false, parts: new Intl.DateTimeFormat('en', { ...options, timeZone: 'UTC' }) };
  }
  setText(byId('zone'), clock.known ? say`Times and days are those of ${visible(zone)}.`
    : say`Days are those of ${visible(zone)}, which this browser does not know: times are UTC.`);
}

const partsOf = date => Object.fromEntries(clock.parts.formatToParts(date).map(({ type, value }) => [type, value]));
const minuteOf = date => (({ hour, minute }) => `${hour}:${minute}`)(partsOf(date));
const clockOf = date => (({ hour, minute, second }) => `${hour}:${minute}:${second}`)(partsOf(date));
const dateAndClockOf = date => (({ year, month, day }) => `${year}-${month}-${day} ${clockOf(date)}`)(partsOf(date));

// What PostgreSQL knows and a browser does not ("infinity") stays as it is.
function local(moment, format = dateAndClockOf) {
  if (!clock.parts) useZone('UTC');
  const date = new Date(moment);
  return isNaN(date) ? visible(moment) : format(date);
}

// Control characters would be invisible: they get their pictures, as in ␀.
function visible(text) {
  return String(text).replace(/[\0-\x08\x0b-\x1f\x7f-\x9f]/g, character => {
    const code = character.charCodeAt(0);
    return code < 0x20 ? String.fromCharCode(0x2400 + code) : code === 0x7f ? '\u2421' : '\ufffd';
  });
}

const periodOf = report => Object.hasOwn(PERIODS, report.period) ? say(PERIODS[report.period]) : visible(report.period);

// ---- elements: written to only where they differ

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
const [plain, words, number, late, span, time, minute, below, share, ticket] =
  ['plain', 'words', 'number', 'late', 'span', 'time', 'minute', 'below', 'share', 'ticket'].map(column);
const counted = (name, label, to) => number(name, label, undefined, to);
const tardy = (name, label, to) => late(name, label, undefined, to);

const ofStatus = list => row => ({ list, status: row.status || '', sub_status: row.sub_status || '' });
const ofAgent = list => row => ({ list, agent: row.agent || '' });
const ofDay = list => row => ({ list, day: row.day });
const ofBucket = row => ({ list: 'resolved', within: row.seconds });

const ofMinute = ({ at }) => ({ deliveries: '1', result: 'stored', since: at, until: new Date(Date.parse(at) + 60000).toISOString() });
const ofReason = ({ reason }) => ({ deliveries: '1', result: 'rejected', reason: reasonOf(reason), since: state.report.rejected.since });

const TABLES = {
  choices: {
    key: row => JSON.stringify([row.project_id, row.ticket_id]),
    columns: [
      ticket('ticket_no', 'Ticket'), words('title', 'Title', '–'), plain('project_id', 'Project id'), words('project_name', 'Project', '–'),
      words('status', 'Status'), words('agent_name', 'Agent', 'nobody'), time('deleted_at', 'Deleted')
    ]
  },
  minutes: { key: row => row.at, columns: [minute('at', 'Minute'), counted('events', 'Events', ofMinute)] },
  answers: {
    key: row => row.status,
    columns: [plain('status', 'Status'), plain('meaning', 'Meaning'), number('answers', 'Answers')]
  },
  reasons: {
    key: row => row.reason,
    columns: [words('reason', 'Reason'), counted('bodies', 'Bodies', ofReason), number('attempts', 'Attempts'), time('last_at', 'Last')]
  },
  statuses: {
    key: row => JSON.stringify([row.status, row.sub_status]),
    columns: [
      words('status', 'Status'), words('sub_status', 'Sub-status'),
      counted('tickets', 'Open', ofStatus('open')), tardy('overdue', 'Overdue', ofStatus('overdue'))
    ]
  },
  flow: {
    key: row => row.day,
    columns: [
      plain('day', 'Day'), counted('opened', 'Opened', ofDay('opened')), counted('closed', 'Closed', ofDay('closed')),
      number('backlog', 'Backlog')
    ]
  },
  agents: {
    key: row => JSON.stringify([row.agent, row.login]),
    columns: [
      words('agent', 'Agent', 'nobody'), words('login', 'Login', '–'), counted('open', 'Open', ofAgent('open')),
      tardy('overdue', 'Overdue', ofAgent('overdue')), counted('closed', 'Closed', ofAgent('resolved')), span('median_s', 'Median')
    ]
  },
  resolution: {
    key: row => row.below_s,
    columns: [below('below_s', 'Within'), counted('tickets', 'Tickets', ofBucket), share('share', 'Share')]
  }
};

const FACTS = [
  words('title', 'Title'), words('project_name', 'Project'), plain('project_id', 'Project id'), plain('ticket_id', 'Ticket id'),
  words('status', 'Status'), words('sub_status', 'Sub-status'), words('agent_name', 'Agent', 'nobody'),
  time('first_open_time', 'Opened'), time('soft_deadline', 'Deadline'), time('deleted_at', 'Deleted')
];

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

// ---- charts: places on the x axis are numbers from 0, as days are not equally long where clocks change

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

// ---- draw: one function a part of the page

function draw() {
  try {
    if (state.handler) drawAlive(state.handler, state.report);
    if (state.report) drawDesk(state.report);
    drawListed(state.list);
    drawTicket(state.history);
    drawDelivered(state.deliveries);
  } catch (error) {
    // An answer that is not what the page expects must not look like good data, and must not end the refreshing.
    console.error(error);
    state.failure = { mood: 'bad', words: say('The answer of ticketd cannot be shown'), detail: String(error) };
  }
  drawVerdict(judge());
  drawNotice();
}

function judge() {
  const { handler, failure, problem } = state;
  if (failure) return failure;
  if (!handler) return { mood: 'waiting', words: say('Waiting for the first answer') };
  const { events, oldest_at: oldest } = handler.spool;
  const counts = events ? ` (${decimal.format(events)}${oldest ? say`, oldest ${age(oldest)}` : ''})` : '';
  switch (handler.takes_events) {
    case 'database':
      return handler.nodes_away ? { mood: 'warn', words: say`Cannot be written now: ${handler.nodes_away}`, counts }
        : problem ? { mood: 'warn', words: say('Events are stored, but no report can be made') }
        : handler.spool.held_tickets
          ? { mood: 'warn', words: say('Some tickets cannot be written: ticketd spool list'), counts: ` (${decimal.format(handler.spool.held_tickets)})` }
          : judgeArrivals(handler, state.report);
    case 'spool':
      return { mood: 'warn', words: say(problem ? 'The database is away: events wait in the spool' : 'Events wait in the spool'), counts };
    default:
      return { mood: 'bad', words: say('Events are refused: neither database nor spool'), counts };
  }
}

// The database takes events: do they come, and are they good?
function judgeArrivals(handler, report) {
  const recently = moment => now() - Date.parse(moment) < RECENT_MS;
  const since = status => state.watched[status] && Date.now() - state.watched[status].at < RECENT_MS;
  if (report && report.rejected.reasons.some(({ last_at: at }) => recently(at))) return { mood: 'warn', words: say('Events are stored, but some are refused') };
  if (since('401')) return { mood: 'warn', words: say('Events are stored, but some come with a wrong token') };
  if (since('413')) return { mood: 'warn', words: say('Events are stored, but some are too large') };
  if (since('503')) return { mood: 'warn', words: say('Events are stored, but some were not taken') };
  const last = report && report.last_event;
  if (report && report.silent && !(Date.parse(handler.last_event_at) > Date.parse(last.received_at))) {
    return { mood: 'warn', words: say('Nothing comes, where usually something does'), counts: ` (${age(last.received_at)})` };
  }
  return { mood: 'good', words: say('Events are stored') };
}

const SYMBOLS = { waiting: '…', good: '✓', warn: '!', bad: '×' };

// The words are announced to those who listen, so only a change may touch them.
function drawVerdict({ mood, words: text, counts = '' }) {
  setAttribute(byId('verdict'), 'data-state', mood);
  setText(byId('verdict-symbol'), SYMBOLS[mood]);
  setText(byId('verdict-words'), text);
  setText(byId('verdict-counts'), counts);
  const title = mood === 'good' || mood === 'waiting' ? 'ticketd' : `${SYMBOLS[mood]} ${text} – ticketd`;
  if (document.title !== title) document.title = title;
}

function drawNotice() {
  const { report, failure, problem } = state;
  const old = report && (failure || now() - Date.parse(report.at) > STALE_MS);
  const why = failure ? failure.detail : problem;
  show('stale', old ? say`Data of ${local(report.at, clockOf)}, ${age(report.at)} old.` : '', old ? report.at : undefined);
  show('problem', why ? visible(why) : '');
  byId('notice').hidden = !old && !why;
}

function drawAlive(handler, report) {
  drawLastEvent(handler.last_event_at, report && report.last_event);

  const taken = show('takes_events', say(handler.takes_events), handler.takes_events);
  setAttribute(taken, 'data-state', { database: 'good', spool: 'warn' }[handler.takes_events] || 'bad');
  byId('since').hidden = false;
  showTime(field('started_at'), handler.started_at);
  show('version', visible(handler.version));

  const spool = handler.spool;
  setAttribute(showNumber('spool.events', spool.events), 'data-state', spool.events ? 'warn' : null);
  const room = spool.max_bytes ? say`${bytes(spool.bytes)} of ${bytes(spool.max_bytes)}` : say('no spool is configured');
  show('spool.bytes', room, spool.bytes);
  show('spool.oldest_at', spool.oldest_at ? say`oldest ${age(spool.oldest_at)} ago` : '', spool.oldest_at);

  drawAnswers(Object.entries(handler.answers));

  if (!report) return;
  drawMinutes(report.minutes);
  const refused = showNumber('rejected.bodies', report.rejected.bodies);
  setAttribute(refused, 'data-state', report.rejected.bodies ? 'warn' : null);
  setAttribute(refused, 'href', addressTo({ deliveries: '1', result: 'rejected', since: report.rejected.since }));
  const { attempts } = report.rejected;
  show('rejected.attempts', say`${count(attempts, 'attempt', 'attempts')}, last 24 hours`, attempts);
  drawTable('reasons', report.rejected.reasons, report.rejected.of);
}

function drawAnswers(answers) {
  drawTable('answers', answers.map(([status, count]) => ({ status, meaning: MEANINGS[status] ? say(MEANINGS[status]) : '', answers: count })));
  const rows = byId('answers').tBodies[0].rows;
  answers.forEach(([status], place) => setAttribute(rows[place].cells[2], 'data-field', 'answers.' + status));
}

// The handler knows of events that wait in the spool, the database of those before the handler's start.
function drawLastEvent(heard, stored) {
  const isStored = stored && !(Date.parse(heard) > Date.parse(stored.received_at));
  const at = isStored ? stored.received_at : heard;
  show('last_event', at ? say`${age(at)} ago` : say('none yet'), at || '');
  showTime(field('last_event.at'), at);
  show('last_event.what', isStored ? visible(`${stored.action}: ${stored.result}`) : '');
  const link = show('last_event.ticket', isStored ? say`ticket ${stored.ticket_id} of project ${stored.project_id}` : '');
  link.hidden = !isStored;
  if (isStored) {
    const { project_id: project, ticket_id: ticket } = stored;
    setAttribute(link, 'href', addressOf({ ...state.choice, ticket_project: project, ticket }));
  }
}

function drawMinutes(minutes) {
  const events = minutes.map(minute => minute.events);
  const total = events.reduce((sum, one) => sum + one, 0);
  const most = Math.max(0, ...events);
  const newest = events[events.length - 1];
  const labels = minutes.map(minute => local(minute.at, minuteOf));
  const link = showNumber('minutes.total', total);
  if (minutes.length) setAttribute(link, 'href', addressTo({ deliveries: '1', result: 'stored', since: minutes[0].at }));
  show('minutes.mean', say`${decimal.format(total / Math.max(1, minutes.length))} a minute`);
  drawTable('minutes', minutes);
  drawMinutesChart({
    columns: [events.map(one => one || null)], labels,
    marked: () => [...labels.keys()].filter(place => /:(00|15|30|45)$/.test(labels[place])),
    summary: say`Events a minute in the last hour: ${decimal.format(total)} in all, ${decimal.format(newest)} in the newest minute, at most ${decimal.format(most)} at ${labels[events.indexOf(most)]}.`,
    describe: place => `${labels[place]}: ${count(events[place], 'event', 'events')}`
  });
}

function drawDesk(report) {
  drawChoices(report);
  drawScope(report);

  const { tickets, overdue, due, unassigned, waiting, oldest_at: oldest } = report.open;
  showNumber('open.tickets', tickets);
  setAttribute(showNumber('open.overdue', overdue), 'data-state', overdue ? 'bad' : null);
  show('open.overdue_share', tickets ? say`${Math.round(100 * overdue / tickets)} % of the open` : '');
  showNumber('open.due', due);
  showNumber('open.unassigned', unassigned);
  showNumber('open.waiting', waiting);
  show('open.oldest', oldest ? age(oldest) : '–', oldest || '');
  drawToday(report);
  drawTable('statuses', report.open.by_status, report.open.of);
  drawFlow(report.flow, periodOf(report));
  drawTable('agents', report.agents, report.agents_of);
  drawResolution(report.resolution);
  drawBefore(state.before);
  for (const figure of document.querySelectorAll('[data-list]')) {
    const { list, day } = figure.dataset;
    setAttribute(figure, 'href', addressOf({ ...state.choice, list: day === undefined ? { list } : { list, day } }));
  }
}

const signed = new Intl.NumberFormat(language, { signDisplay: 'exceptZero' });

function drawToday({ today: { net, yesterday }, flow }) {
  const newest = flow[flow.length - 1];
  show('today.net', signed.format(net), net);
  show('before.today.net', say`yesterday ${signed.format(yesterday)}`, yesterday);
  for (const name of ['opened', 'closed']) {
    const link = show('today.' + name, `${say(name)} ${decimal.format(newest[name])}`, newest[name]);
    setAttribute(link, 'data-day', newest.day);
  }
}

// Beside each figure what it was a period ago.
function drawBefore(known) {
  const { before, trouble } = known && known.asked === queryOf(ofDesk(state.choice)) ? known : {};
  const put = (name, value, format) => show('before.' + name, !before ? (trouble ? say('before: not known now') : '')
    : say`before: ${value === null ? '–' : format(value)}`, before ? value : undefined);
  const { open = {}, resolution = {} } = before || {};
  for (const name of ['tickets', 'overdue', 'due', 'unassigned', 'waiting']) put('open.' + name, open[name], decimal.format);
  put('open.oldest', open.oldest_s, seconds => duration(seconds, 1));
  put('resolution.tickets', resolution.tickets, decimal.format);
  put('resolution.median_s', resolution.median_s, duration);
}

// The text of an option cannot be isolated: marks of direction are taken out of it.
const withoutMarks = text => visible(text).replace(/[\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '');

function drawChoices({ projects, choices }) {
  const { project, agent, type } = state.choice;
  const labelOf = ({ id, name }) => name === null ? String(id) : `${id} · ${withoutMarks(name)}`;
  drawSelect('project', say('All projects'), projects.map(one => ({ id: String(one.id), label: labelOf(one) })), project);
  show('cut.projects', projects.length < 1000 ? '' : say('The first 1,000 projects are here: another is chosen by project= in the address.'));
  drawNames('agent', say('All agents'), say('nobody'), choices.agents, agent);
  drawNames('type', say('All types'), say('without'), choices.types, type);
}

// Names are chosen by = and the name: none and all are values that no name has.
function drawNames(id, all, none, names, chosen) {
  const choices = [{ id: '=', label: none }, ...names.map(name => ({ id: '=' + name, label: withoutMarks(name) }))];
  drawSelect(id, all, choices, chosen === null ? '' : '=' + chosen);
}

function drawSelect(name, all, choices, chosen) {
  const select = byId(name);
  const options = [{ id: '', label: all }, ...choices];
  if (!options.some(({ id }) => id === chosen)) options.push({ id: chosen, label: withoutMarks(chosen.replace(/^=/, '')) });
  drawList(select, 'option', options, ({ id }) => id, (option, { id, label }) => {
    setAttribute(option, 'value', id);
    setText(option, label.length > 60 ? label.slice(0, 60) + '…' : label);
    setAttribute(option, 'title', label.length > 60 ? label : null);
  });
  if (select.value !== chosen) select.value = chosen;
}

// Says what the figures are about, which for a moment, or while ticketd is away, is not what the selectors say.
function drawScope(report) {
  const project = report.project === null ? '' : String(report.project);
  const differs = queryOf(ofDesk({ ...report, project })) !== queryOf(ofDesk(state.choice));
  const named = ['agent', 'type'].filter(name => report[name] !== null)
    .map(name => `${say(name)} ${report[name] === '' ? say('none') : withoutMarks(report[name])}`);
  show('scope', `${say(differs ? 'Still shown' : 'Shown')}: ` +
    [periodOf(report), project ? say`project ${visible(project)}` : say('all projects'), ...named].join(', ') + say(', as of'));
  showTime(field('report.at'), report.at, clockOf);
}

function drawFlow(flow, period) {
  const sum = (days, name) => days.reduce((all, day) => all + day[name], 0);
  const total = (days, name) => decimal.format(sum(days, name));
  const lastOf = days => days[days.length - 1];
  drawTable('flow', flow);

  // Where a day would get hardly a pixel, a bar is a week; what does not fill one is left to the table.
  const room = () => byId('flow-chart').clientWidth - 84;
  const size = room() / flow.length < 4 ? 7 : 1;
  const spans = [];
  for (let end = flow.length; end >= size; end -= size) spans.unshift(flow.slice(end - size, end));

  drawFlowChart({
    columns: [
      spans.map(days => sum(days, 'opened') || null), spans.map(days => sum(days, 'closed') || null),
      spans.map(days => lastOf(days).backlog)
    ],
    labels: spans.map(days => lastOf(days).day.slice(5)),
    marked: () => {
      const step = Math.ceil(spans.length / Math.max(1, Math.floor(room() / 48)));
      return [...spans.keys()].filter(place => (spans.length - 1 - place) % step === 0);
    },
    summary: say`Tickets, ${period}: ${total(flow, 'opened')} opened, ${total(flow, 'closed')} closed` +
      (flow.length ? say`; backlog at the end ${decimal.format(lastOf(flow).backlog)}.` : '.') + (size > 1 ? say(' A bar is a week.') : ''),
    describe: place => {
      const days = spans[place];
      return `${size > 1 ? `${days[0].day} – ` : ''}${lastOf(days).day}: ` +
        say`${total(days, 'opened')} opened, ${total(days, 'closed')} closed, backlog ${decimal.format(lastOf(days).backlog)}`;
    }
  });
}

function drawResolution({ tickets, median_s: median, buckets }) {
  showNumber('resolution.tickets', tickets);
  show('resolution.median_s', median === null ? '–' : duration(median), median === null ? '' : median);
  const most = Math.max(1, ...buckets.map(bucket => bucket.tickets));
  const within = ({ below_s: below }, place) =>
    below !== null ? duration(below) : place ? say`over ${duration(buckets[place - 1].below_s)}` : say('any time');
  drawTable('resolution', tickets ? buckets.map((bucket, place) => ({
    ...bucket, within: within(bucket, place),
    seconds: `${place ? buckets[place - 1].below_s : ''}-${bucket.below_s === null ? '' : bucket.below_s}`,
    share: { bar: bucket.tickets / most, part: bucket.tickets / tickets }
  })) : []);
}

function drawTicket(history) {
  const timeline = history && history.timeline;
  const ticket = timeline && timeline.ticket;
  setText(byId('ticket-outcome'), outcome(history));
  const several = timeline && timeline.matches > 1 && !state.choice.ticket_project;
  byId('choices-panel').hidden = !several;
  drawTable('choices', several ? timeline.choice : []);
  byId('ticket').hidden = !ticket;
  if (ticket) {
    show('ticket.ticket_no', visible(ticket.ticket_no === null ? ticket.ticket_id : ticket.ticket_no));
    drawList(byId('facts'), 'div', FACTS, fact => fact.name, (element, fact) => {
      setText(element.children[0] || add(element, 'dt'), say(fact.label));
      const value = element.children[1] || add(element, 'dd');
      setAttribute(value, 'data-field', 'ticket.' + fact.name);
      drawCell(value, fact, ticket);
    });
  }
  // A journal's row never changes: what is there already is right.
  drawList(byId('timeline'), 'li', timeline ? timeline.events : [], event => JSON.stringify(event), (item, event) => {
    if (!item.firstChild) fillEvent(item, event);
  });
  byId('timeline-more').hidden = !(timeline && timeline.more);
}

function outcome(history) {
  if (!history) return say('What happened to a ticket, event by event.');
  const { timeline, at, trouble } = history;
  const why = trouble ? say`Not answered now: ${visible(trouble)}` + `${at ? ' ' + say`Data of ${local(at)}.` : ''} ` : '';
  if (!timeline) return why;
  const events = count(timeline.events.length, 'event', 'events');
  const others = timeline.matches - (timeline.ticket ? 1 : 0);
  const cut = timeline.matches > timeline.choice.length ? say` The first ${decimal.format(timeline.choice.length)} are here.` : '';
  if (timeline.ticket) {
    const more = others && !state.choice.ticket_project ? ` ${count(others, 'other ticket has it too.', 'other tickets have it too.')}${cut}` : '';
    return why + `${events}.${more}`;
  }
  if (others) return why + `${count(others, 'ticket has it: choose one.', 'tickets have it: choose one.')}${cut}`;
  return why + say(state.choice.project ? 'There is no such ticket in this project.' : 'There is no such ticket.');
}

function fillEvent(item, event) {
  const head = add(item, 'div');
  showTime(add(head, 'time'), event.received_at);
  head.append(' ');
  const what = add(head, 'bdi');
  what.dir = 'auto';
  what.textContent = visible(`${event.action}: ${event.result}`);
  for (const { attribute, old, new: fresh } of event.changes) {
    const change = add(item, 'div', 'change');
    showWords(add(change, 'div', 'attribute'), attribute);
    const values = add(change, 'div');
    showValue(add(values, 'del'), old);
    values.append(' ');
    showValue(add(values, 'ins'), fresh);
  }
}

// Any value of JSON. A string shows itself, all else its JSON.
function showValue(element, value) {
  setAttribute(element, 'data-value', JSON.stringify(value));
  showWords(element, value === null || typeof value === 'string' ? value : JSON.stringify(value), 'nothing');
}
