'use strict';

// The desk: tiles, charts and tables of its figures.

const ofStatus = list => row => ({ list, status: row.status || '', sub_status: row.sub_status || '' });
const ofAgent = list => row => ({ list, agent: row.agent || '' });
const ofDay = list => row => ({ list, day: row.day });
const ofBucket = row => ({ list: 'resolved', within: row.seconds });

Object.assign(TABLES, {
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
      counted('reopened', 'Reopened', ofDay('reopened')), counted('deleted', 'Deleted', ofDay('deleted')),
      counted('backlog', 'Backlog', ofDay('backlog'))
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
});

function drawDesk(report) {
  drawChoices(report);
  drawScope(report);

  const { tickets, overdue, today, due, unassigned, waiting, oldest_at: oldest, idle_at: idle } = report.open;
  showNumber('open.tickets', tickets);
  setAttribute(showNumber('open.overdue', overdue), 'data-state', overdue ? 'bad' : null);
  show('open.overdue_share', tickets ? say`${Math.round(100 * overdue / tickets)} % of the open` : '');
  showNumber('open.today', today);
  show('open.due', say`within a day: ${decimal.format(due)}`, due);
  showNumber('open.unassigned', unassigned);
  showNumber('open.waiting', waiting);
  show('open.oldest', oldest ? age(oldest) : '–', oldest || '');
  show('open.idle', idle ? say`idle ${age(idle)}` : '', idle || '');
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

function drawToday({ today: { net, came, went, yesterday }, flow }) {
  show('today.net', signed.format(net), net);
  show('before.today.net', say`yesterday ${signed.format(yesterday)}`, yesterday);
  for (const [name, number] of Object.entries({ came, went })) {
    setAttribute(showNamed('today.' + name, name, number), 'data-day', flow[flow.length - 1].day);
  }
}

const showNamed = (field, name, number) => show(field, `${say(name)} ${decimal.format(number)}`, number);

// Beside each figure what it was a period ago.
function drawBefore(known) {
  const { before, trouble } = known && known.asked === queryOf(ofDesk(state.choice)) ? known : {};
  const put = (name, value, format) => show('before.' + name, !before ? (trouble ? say('before: not known now') : '')
    : say`before: ${value === null ? '–' : format(value)}`, before ? value : undefined);
  const { open = {}, resolution = {} } = before || {};
  for (const name of ['tickets', 'overdue', 'today', 'unassigned', 'waiting']) put('open.' + name, open[name], decimal.format);
  put('open.oldest', open.oldest_s, seconds => duration(seconds, 1));
  put('resolution.tickets', resolution.tickets, decimal.format);
  put('resolution.median_s', resolution.median_s, duration);
}

function drawFlow(flow, period) {
  const sum = (days, name) => days.reduce((all, day) => all + day[name], 0);
  const total = (days, name) => decimal.format(sum(days, name));
  const lastOf = days => days[days.length - 1];
  drawTable('flow', flow);
  for (const name of ['opened', 'closed', 'reopened', 'deleted']) showNamed('flow.' + name, name, sum(flow, name));

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

function drawResolution({ tickets, complete, median_s: median, p90_s: most, buckets }) {
  showNumber('resolution.tickets', tickets);
  show('resolution.median_s', median === null ? '–' : duration(median), median === null ? '' : median);
  show('resolution.p90_s', complete ? say`90 % within ${duration(most)} (n = ${decimal.format(complete)})` : '', most === null ? '' : most);
  const highest = Math.max(1, ...buckets.map(bucket => bucket.tickets));
  const within = ({ below_s: below }, place) =>
    below !== null ? duration(below) : place ? say`over ${duration(buckets[place - 1].below_s)}` : say('any time');
  drawTable('resolution', tickets ? buckets.map((bucket, place) => ({
    ...bucket, within: within(bucket, place),
    seconds: `${place ? buckets[place - 1].below_s : ''}-${bucket.below_s === null ? '' : bucket.below_s}`,
    share: { bar: bucket.tickets / highest, part: bucket.tickets / tickets }
  })) : []);
}
