'use strict';

// Fetching: one request to ticketd, and its answer.

const PATIENCE_MS = 10000;

// What the verdict says when ticketd, or the web server before it, has answered something other than a report.
const REFUSALS = {
  400: 'ticketd does not understand the page', 401: 'You may not see the report', 403: 'You may not see the report',
  404: 'Reports are switched off'
};

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
