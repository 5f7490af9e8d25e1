'use strict';

// What the reader does, and the beginning.

// A region is a stop for the Tab key only while there is something to scroll.
const regions = new ResizeObserver(entries => {
  for (const { target } of entries) {
    const region = target.closest('.scroll');
    region.tabIndex = region.scrollWidth > region.clientWidth || region.scrollHeight > region.clientHeight ? 0 : -1;
  }
});

function start() {
  sayAll();
  byId('language').value = language;
  byId('language').addEventListener('change', ({ target }) => {
    choose({ lang: target.value });
    location.reload();
  });
  takeAddress();
  byId('period').addEventListener('change', event => chooseAndRefresh({ period: event.target.value }));
  byId('project').addEventListener('change', event => chooseAndRefresh({ project: event.target.value }));
  for (const name of ['agent', 'type']) {
    byId(name).addEventListener('change', ({ target }) => chooseAndRefresh({ [name]: target.value ? target.value.slice(1) : null }));
  }
  byId('search').addEventListener('submit', event => {
    event.preventDefault();
    choose({ ticket: byId('number').value.trim(), ticket_project: '' });
    state.history = null;
    setText(byId('ticket-outcome'), say('Asking…'));
    refresh([askTicket, askReport]);
  });
  document.addEventListener('click', follow);
  addEventListener('popstate', () => {
    takeAddress();
    refresh([askList, askTicket, askDeliveries, askReport]);
  });
  byId('deliveries-choice').addEventListener('submit', chooseDeliveries);
  byId('deliveries-more').addEventListener('click', () => refresh([askMoreDeliveries]));
  byId('list-more').addEventListener('click', () => refresh([askMore]));
  byId('list-csv').addEventListener('click', takeCsv);
  byId('list-close').addEventListener('click', () => {
    choose({ list: null });
    refresh([askList, askReport]);
  });
  document.addEventListener('visibilitychange', () => {
    clearTimeout(nextRefresh);
    if (document.hidden) return;
    draw();   // the figures have become old meanwhile, and say so until there are new ones
    refresh();
  });
  for (const region of document.querySelectorAll('.scroll')) {
    regions.observe(region);
    regions.observe(region.firstElementChild);
  }
  refresh().then(() => {
    // Who follows a link to a ticket wants to see it, unless he has begun to look around.
    if (scrollY) return;
    if (state.choice.ticket) byId('ticket-heading').scrollIntoView();
    else if (state.choice.list) byId('list-heading').scrollIntoView();
  });
}

function takeAddress() {
  state.choice = readChoice();
  byId('period').value = state.choice.period;
  byId('number').value = state.choice.ticket;
  takeDeliveriesChoice();
  drawChoices(state.report || { projects: [], choices: { agents: [], types: [] } });
}

// A link within the page is followed without loading it again, and the browser's back leads back.
function follow(event) {
  const link = event.target.closest('a[href^="?"]');
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  history.pushState(null, '', link.getAttribute('href'));
  const before = state.choice;
  takeAddress();
  const toTicket = state.choice.ticket !== before.ticket || state.choice.ticket_project !== before.ticket_project;
  const toList = JSON.stringify(state.choice.list) !== JSON.stringify(before.list);
  const part = toTicket ? 'ticket' : toList ? 'list' : 'deliveries';
  const first = { ticket: askTicket, list: askList, deliveries: askDeliveries }[part];
  refresh([first, ...[askReport, askList, askTicket, askDeliveries].filter(turn => turn !== first)]);
  const heading = byId(part + '-heading');
  byId('list').hidden = !state.choice.list;
  byId('deliveries-part').hidden = !state.choice.deliveries;
  heading.scrollIntoView();
  heading.focus({ preventScroll: true });
}

function chooseAndRefresh(change) {
  choose(change);
  if (state.report) drawScope(state.report);
  refresh();
}

start();
