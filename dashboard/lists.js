'use strict';

// Lists behind figures: exactly those tickets, a page at a time, and the whole of them as CSV.

const CSV_ROWS = 5000;   // what ticketd gives at most at once

const LISTS = {
  open: 'Open tickets, oldest first', oldest: 'Open tickets, oldest first', overdue: 'Overdue, longest first',
  today: 'Due today', due: 'Due within a day', unassigned: 'Open and with nobody, oldest first', idle: 'Open, idle longest first',
  waiting: 'Waiting for the desk, longest first', backlog: 'Open at the end of the day', opened: 'Opened', closed: 'Closed',
  reopened: 'Reopened', deleted: 'Deleted', came: 'Came: opened, reopened, added again, or handed over',
  went: 'Went: closed, deleted while open, or handed over',
  resolved: 'Closed, and closed still'
};
const NARROWED = {
  project: 'project', agent: 'agent', type: 'type', customer: 'customer', status: 'status', sub_status: 'sub-status', day: 'day', within: 'within'
};

const customer = column('customer');
const happened = time('at', 'Happened');

// The customer of a row leads to his open tickets.
CELLS.customer = (element, value, absent) => {
  const holder = element.firstChild || add(element, value === null ? 'span' : 'a');
  if (value !== null) setAttribute(holder, 'href', addressOf({ ...state.choice, list: { list: 'open', customer: value } }));
  setText(holder, value === null ? say(absent) : visible(value));
};

Object.assign(TABLES, {
  listed: {
    key: row => row.key,
    columns: [
      ticket('ticket_no', 'Ticket'), words('title', 'Title', '–'), words('project', 'Project'), words('type', 'Type', '–'),
      words('status', 'Status'), words('sub_status', 'Sub-status', '–'), words('agent_name', 'Agent', 'nobody'),
      customer('customer', 'Customer', '–'), time('opened_at', 'Opened'), time('soft_deadline', 'Deadline'),
      time('last_event_at', 'Last event'), happened
    ]
  }
});

// What is asked of ticketd for a list: the desk's choice, narrowed by the list's own.
function listQuery(more) {
  const { list } = state.choice;
  const query = new URLSearchParams(queryOf({ ...ofDesk(state.choice), ...more }));
  for (const [name, value] of Object.entries(list)) query.set(name, value);
  return query.toString();
}

async function askList() {
  if (!state.choice.list) {
    state.list = null;
    return true;
  }
  const asked = listQuery();
  const known = state.list && state.list.asked === asked ? state.list : { asked, rows: [], at: null };
  if (known.more) return true;   // who reads on wants it to stand still
  const { frame, failure } = await askFor(asked);
  const answer = frame && frame.report;
  const rows = answer ? answer.rows.map(flat) : known.rows;
  state.list = { ...known, ...answer, rows, trouble: failure ? failure.detail : frame.problem };
  return true;
}

async function askMore() {
  const { list } = state;
  const { frame, failure } = await askFor(listQuery({ after: list.after }));
  const answer = frame && frame.report;
  if (state.list !== list) return true;
  state.list = { ...list, more: true, trouble: failure ? failure.detail : frame.problem };
  if (answer) Object.assign(state.list, { rows: [...list.rows, ...answer.rows.map(flat)], after: answer.after });
  return true;
}

// A row of the table: what there is of a ticket that is gone is its identifiers.
function flat({ ticket, at, project_id, ticket_id }) {
  const project = ticket && ticket.project_name !== null ? `${project_id} · ${ticket.project_name}` : project_id;
  const none = { ticket_no: null, title: null, type: null, status: ticket ? null : say('deleted'), sub_status: null, agent_name: null,
    customer: null, opened_at: null, soft_deadline: null, last_event_at: null };
  return { ...none, ...ticket, project, project_id, ticket_id, at, key: [project_id, ticket_id, at].join() };
}

function titleOf({ list, ...own }) {
  const { project, agent, type } = state.choice;
  const desk = Object.entries({ project: project || null, agent, type }).filter(([, value]) => value !== null);
  const narrowed = { ...Object.fromEntries(desk), ...own };
  const parts = Object.entries(narrowed).map(([name, value]) => `${NARROWED[name] ? say(NARROWED[name]) : visible(name)} ${value === '' ? say('none') : visible(value)}`);
  return [LISTS[list] ? say(LISTS[list]) : visible(list), ...parts].join(' · ');
}

function drawListed(list) {
  const chosen = state.choice.list;
  byId('list').hidden = !chosen;
  if (!chosen) return;
  setText(byId('list-heading'), titleOf(chosen));
  const asked = list && list.asked === listQuery() ? list : null;
  show('list.outcome', asked ? listOutcome(asked) : say('Asking…'), asked && asked.at ? asked.rows.length : undefined);
  byId('list-more').hidden = !(asked && asked.after);
  const table = byId('listed');
  happened.label = chosen.list === 'waiting' ? 'Waits since' : 'Happened';
  drawTable('listed', asked ? asked.rows : []);
  setText(table.tHead.rows[0].lastChild, say(happened.label));
  setAttribute(table, 'data-happened', asked && asked.rows.some(({ at }) => at) ? 'yes' : 'no');
}

function listOutcome({ rows, total, at, after, trouble }) {
  if (trouble && !at) return say`Not answered now: ${visible(trouble)}`;
  const shown = after ? say`The first ${decimal.format(rows.length)} of ${decimal.format(total)}` : count(rows.length, 'row', 'rows');
  return say`${shown}, as of ${local(at, clockOf)}.` + (trouble ? ' ' + say`Not answered now: ${visible(trouble)}` : '');
}

// ---- CSV

const CSV_COLUMNS = ['project_id', 'project_name', 'ticket_id', 'ticket_no', 'title', 'type', 'status', 'sub_status',
  'agent_name', 'customer', 'opened_at', 'soft_deadline', 'last_event_at', 'at'];

// RFC 4180. A spreadsheet takes cells that begin so for formulas: an apostrophe makes them text.
function csvCell(value) {
  const text = value === null || value === undefined ? '' : String(value);
  return `"${(/^[=+\-@\t\r]/.test(text) ? "'" + text : text).replace(/"/g, '""')}"`;
}

// Of all pages: what is on view may be the first one only. It begins with a byte-order mark, by which Excel knows UTF-8.
async function takeCsv() {
  const { list } = state.choice;
  const lines = [CSV_COLUMNS];
  const outcome = byId('list-outcome');
  for (let after = ''; after !== null;) {
    setText(outcome, say`Fetching: ${decimal.format(lines.length - 1)}…`);
    const { frame, failure } = await askFor(listQuery({ after, rows: CSV_ROWS }));
    if (state.choice.list !== list) return;
    if (failure || frame.problem) {
      setText(outcome, say`No CSV: ${visible(failure ? failure.detail : frame.problem)}`);
      return;
    }
    for (const row of frame.report.rows.map(flat)) lines.push(CSV_COLUMNS.map(name => row[name]));
    after = frame.report.after;
  }
  const text = '\ufeff' + lines.map(line => line.map(csvCell).join(',') + '\r\n').join('');
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], { type: 'text/csv;charset=utf-8' }));
  link.download = `tickets-${list.list}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  setText(outcome, say`${count(lines.length - 1, 'row', 'rows')} in the CSV.`);
}
