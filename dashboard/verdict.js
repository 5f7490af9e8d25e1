'use strict';

// Does it work? The line at the top, and the title of the page.

const STALE_MS = 30000;
const RECENT_MS = 15 * 60000;   // how long what was refused is trouble

const TROUBLE = [
  [401, 'Events are stored, but some come with a wrong token'], [413, 'Events are stored, but some are too large'],
  [503, 'Events are stored, but some were not taken']
];

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
        : events ? { mood: 'warn', words: say('Events wait in the spool'), counts }
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
  if (report && report.rejected.reasons.some(({ last_at: at }) => recently(at))) return { mood: 'warn', words: say('Events are stored, but some are refused') };
  const answered = TROUBLE.find(([status]) => recently(handler.answers[status].last_at));
  if (answered) return { mood: 'warn', words: say(answered[1]) };
  const last = report && report.last_event;
  if (report && report.silent && !(Date.parse(handler.last_event_at) > Date.parse(last.received_at))) {
    return { mood: 'warn', words: say('Nothing comes, where usually something does'), counts: ` (${age(last.received_at)})` };
  }
  return { mood: 'good', words: say('Events are stored'), counts: handler.last_event_at ? ` (${say`${age(handler.last_event_at)} ago`})` : '' };
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
