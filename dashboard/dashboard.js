'use strict';

// The page walks one way: choice → ask → state → draw. Asking fills the state, drawing only reads it. Everything is
// updated in place, and only where it differs, so that a refresh takes away neither focus, selection nor place.
//
//   choice.js   filters and the address       verdict.js  the line at the top
//   ask.js      one request                   alive.js    "Is it alive?"
//   text.js     numbers, times, texts         desk.js     "The desk"
//   tables.js   elements and tables           lists.js    lists behind figures, and CSV
//   charts.js   the two charts                ticket.js   one ticket, and the search
//   words.js    languages                     deliveries.js
//   start.js    what the reader does, and the beginning
//
// Whatever the answers contain was written by strangers: it becomes text, never markup.

const REFRESH_MS = 5000;
const BEFORE_MS = 60000;

const state = {
  choice: {},                   // filled by readChoice: lang, period, project, agent, type, ticket, ticket_project, list, deliveries
  handler: null, heardAt: 0,    // what ticketd last said of itself, and when by this browser's clock
  report: null, problem: null,  // the last good report; why there is no newer one
  failure: null,                // {mood, words, detail} while there is no answer, or none that can be shown
  before: null,                 // {asked, heardAt, before, trouble}: the period before
  list: null,                   // {asked, rows, total, after, at, trouble} of the list that is looked at
  deliveries: null,             // {asked, rows, after, at, trouble}
  history: null                 // {asked, timeline, at, trouble} of the ticket that is looked at
};

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

function hear(frame) {
  state.handler = frame.handler;
  state.heardAt = Date.now();
}

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
