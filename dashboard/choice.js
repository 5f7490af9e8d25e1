'use strict';

// Filters: what the reader wants to see. The page's address holds it.

const PERIODS = { '1d': 'last day', '7d': 'last 7 days', '30d': 'last 30 days', '90d': 'last 90 days' };

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

const periodOf = report => Object.hasOwn(PERIODS, report.period) ? say(PERIODS[report.period]) : visible(report.period);

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
