'use strict';

// What arrived, newest first; the body of each, and for what was set aside the command that tries it again.

const REASON_BYTES = 200;   // a longer one is asked for by its beginning

const reasonOf = text => {
  const bytes = new TextEncoder().encode(text);
  return bytes.length < REASON_BYTES ? text : new TextDecoder().decode(bytes.slice(0, REASON_BYTES + 40), { stream: true });
};

const body = column('body');

CELLS.body = (element, value, absent, row) => {
  if (element.firstChild) return;
  const details = add(element, 'details');
  setText(add(details, 'summary'), say('Show'));
  const holder = add(details, 'div', 'delivery');
  details.addEventListener('toggle', () => details.open && !holder.firstChild && showBody(holder, row));
};

// A link to the ticket, where it is known which.
CELLS.addressee = (element, value, absent, row) => {
  const holder = element.firstChild || add(element, value === null ? 'span' : 'a');
  if (value !== null) setAttribute(holder, 'href', addressOf({ ...state.choice, ticket_project: row.project_id, ticket: value }));
  setText(holder, value === null ? say(absent) : visible(value));
};

Object.assign(TABLES, {
  delivered: {
    key: row => row.event_id,
    columns: [
      time('received_at', 'Received'), words('result', 'Result'), words('action', 'Action', '–'), words('project', 'Project', '–'),
      column('addressee')('ticket_id', 'Ticket', '–'), words('reason', 'Reason', '–'), number('attempts', 'Attempts'), body('event_id', 'Body')
    ]
  }
});

async function askDeliveries() {
  const { deliveries } = state.choice;
  if (!deliveries) {
    state.deliveries = null;
    return true;
  }
  const asked = new URLSearchParams(deliveries).toString();
  const known = state.deliveries && state.deliveries.asked === asked ? state.deliveries : { asked, rows: [], at: null };
  if (known.more) return true;   // who reads on wants it to stand still
  const { frame, failure } = await askFor(asked);
  const answer = frame && frame.report;
  if (answer) useZone(answer.time_zone);
  state.deliveries = { ...known, ...answer, rows: answer ? answer.deliveries : known.rows, trouble: failure ? failure.detail : frame.problem };
  return true;
}

async function askMoreDeliveries() {
  const known = state.deliveries;
  const { frame, failure } = await askFor(new URLSearchParams({ ...state.choice.deliveries, after: known.after }).toString());
  if (state.deliveries !== known) return true;
  state.deliveries = { ...known, more: true, trouble: failure ? failure.detail : frame.problem };
  const answer = frame && frame.report;
  if (answer) Object.assign(state.deliveries, { rows: [...known.rows, ...answer.deliveries], after: answer.after });
  return true;
}

async function showBody(holder, { event_id: event, project_id: project, ticket_id: ticket, result, received_at: at, next }) {
  const { frame, failure } = await ask({ event, project, ticket });
  const { delivery = null, of = 0 } = (frame && frame.report) || {};
  if (failure || frame.problem) {
    setText(add(holder, 'p'), say`Not answered now: ${visible(failure ? failure.detail : frame.problem)}`);
    return;
  }
  const text = add(holder, 'pre');
  text.tabIndex = 0;
  add(text, 'bdi').textContent = delivery === null ? say('It is not there any more.') : visible(delivery);
  if (of > 20000) setText(add(holder, 'p', 'aside'), say`The first 20,000 of ${decimal.format(of)} characters.`);
  if (result !== 'rejected') return;
  addCommand(holder, say('To try it again'), `sudo ticketd rejected retry ${at} ${next}`);
  addCommand(holder, say('All of it, byte for byte'), `sudo ticketd rejected show ${event}`);
}

function addCommand(holder, label, command) {
  const line = add(holder, 'p', 'command');
  line.append(label + ': ');
  const code = add(line, 'code');
  code.textContent = command;
  const button = add(line, 'button');
  button.type = 'button';
  button.textContent = say('Copy');
  button.addEventListener('click', async () => {
    getSelection().selectAllChildren(code);   // where there is no clipboard: by plain HTTP
    try {
      await navigator.clipboard.writeText(command);
      button.textContent = say('Copied');
    } catch (error) {
      button.textContent = say('Selected');
    }
  });
}

function drawDelivered(known) {
  const chosen = state.choice.deliveries;
  byId('deliveries-part').hidden = !chosen;
  byId('deliveries-open').hidden = Boolean(chosen);
  setAttribute(byId('deliveries-open'), 'href', addressOf({ ...state.choice, deliveries: { deliveries: '1' } }));
  drawReasons();
  if (!chosen) return;
  const asked = known && known.asked === new URLSearchParams(chosen).toString() ? known : null;
  show('deliveries.outcome', asked ? deliveriesOutcome(asked) : say('Asking…'), asked && asked.at ? asked.rows.length : undefined);
  byId('deliveries-more').hidden = !(asked && asked.after);
  drawTable('delivered', asked ? asked.rows.map(row => ({ ...row, project: row.project_id === '0' ? null : row.project_id })) : []);
}

function deliveriesOutcome({ rows, at, after, trouble }) {
  const why = trouble ? say`Not answered now: ${visible(trouble)}` : '';
  if (!at) return why;
  const shown = after ? say`The newest ${decimal.format(rows.length)}` : count(rows.length, 'delivery', 'deliveries');
  return say`${shown}, as of ${local(at, clockOf)}.` + ' ' + why;
}

function drawReasons() {
  const chosen = (state.choice.deliveries || {}).reason || '';
  const reasons = state.report ? state.report.rejected.reasons.map(({ reason }) => reason) : [];
  const options = [...new Set(reasons.map(reasonOf))].map(reason => ({ id: '=' + reason, label: withoutMarks(reason) }));
  drawSelect('deliveries-reason', say('Any reason'), options, chosen ? '=' + chosen : '');
}

function takeDeliveriesChoice() {
  const chosen = state.choice.deliveries || {};
  drawReasons();
  byId('deliveries-result').value = chosen.result || '';
  byId('deliveries-project').value = chosen.project || '';
  byId('deliveries-since').value = chosen.since || '';
  byId('deliveries-until').value = chosen.until || '';
}

function chooseDeliveries(event) {
  event.preventDefault();
  const chosen = { deliveries: '1' };
  for (const name of ['result', 'project', 'since', 'until', 'reason']) {
    const value = byId('deliveries-' + name).value.trim().replace(/^=/, '');
    if (value) chosen[name] = value;
  }
  state.deliveries = null;
  choose({ deliveries: chosen });
  refresh([askDeliveries, askReport]);
}
