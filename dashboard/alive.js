'use strict';

// Is it alive? Tiles and tables of the handler and of what arrives.

const MEANINGS = {
  200: 'accepted', 400: 'not readable', 401: 'token missing or wrong', 405: 'neither POST nor PUT',
  413: 'too large', 422: 'not an event', 503: 'not taken: sent again'
};

const ofMinute = ({ at }) => ({ deliveries: '1', result: 'stored', since: at, until: new Date(Date.parse(at) + 60000).toISOString() });
const ofReason = ({ reason }) => ({ deliveries: '1', result: 'rejected', reason: reasonOf(reason), since: state.report.rejected.since });

Object.assign(TABLES, {
  minutes: { key: row => row.at, columns: [minute('at', 'Minute'), counted('events', 'Events', ofMinute)] },
  answers: {
    key: row => row.status,
    columns: [plain('status', 'Status'), plain('meaning', 'Meaning'), number('count', 'Answers'), ago('last_at', 'Last')]
  },
  reasons: {
    key: row => row.reason,
    columns: [words('reason', 'Reason'), counted('bodies', 'Bodies', ofReason), number('attempts', 'Attempts'), time('last_at', 'Last')]
  }
});

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

  drawTable('answers', Object.entries(handler.answers).map(([status, answers]) =>
    ({ status, meaning: MEANINGS[status] ? say(MEANINGS[status]) : '', ...answers })));

  if (!report) return;
  drawMinutes(report.minutes);
  const refused = showNumber('rejected.bodies', report.rejected.bodies);
  setAttribute(refused, 'data-state', report.rejected.bodies ? 'warn' : null);
  setAttribute(refused, 'href', addressTo({ deliveries: '1', result: 'rejected', since: report.rejected.since }));
  const { attempts } = report.rejected;
  show('rejected.attempts', say`${count(attempts, 'attempt', 'attempts')}, last 24 hours`, attempts);
  drawTable('reasons', report.rejected.reasons, report.rejected.of);
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
    summary: total ? say`Events a minute in the last hour: ${decimal.format(total)} in all, ${decimal.format(newest)} in the newest minute, at most ${decimal.format(most)} at ${labels[events.indexOf(most)]}.`
      : say('No event came in the last hour.'),
    describe: place => `${labels[place]}: ${count(events[place], 'event', 'events')}`
  });
}
