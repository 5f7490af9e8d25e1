'use strict';

// One ticket, and what happened to it.

Object.assign(TABLES, {
  choices: {
    key: row => JSON.stringify([row.project_id, row.ticket_id]),
    columns: [
      ticket('ticket_no', 'Ticket'), words('title', 'Title', '–'), plain('project_id', 'Project id'), words('project_name', 'Project', '–'),
      words('status', 'Status'), words('agent_name', 'Agent', 'nobody'), time('deleted_at', 'Deleted')
    ]
  }
});

const FACTS = [
  words('title', 'Title'), words('project_name', 'Project'), plain('project_id', 'Project id'), plain('ticket_id', 'Ticket id'),
  words('status', 'Status'), words('sub_status', 'Sub-status'), words('agent_name', 'Agent', 'nobody'),
  time('first_open_time', 'Opened'), time('soft_deadline', 'Deadline'), time('deleted_at', 'Deleted')
];

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
