'use strict';

// Numbers, times and texts as words.

chooseLanguage();

const decimal = new Intl.NumberFormat(language, { maximumFractionDigits: 1 });
const compact = new Intl.NumberFormat(language, { notation: 'compact' });

function count(number, one, many) {
  return say(`{0} ${number === 1 ? one : many}`, decimal.format(number));
}

const UNITS = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];

// 93784 is "1 d 2 h": the largest unit and, where parts is 2, the one below it.
function duration(seconds, parts = 2) {
  let rest = Math.max(0, Math.round(seconds));
  const first = UNITS.findIndex(([size]) => rest >= size);
  if (first < 0) return '0 s';
  return UNITS.slice(first, first + parts).map(([size, name]) => {
    const whole = Math.floor(rest / size);
    rest -= whole * size;
    return whole ? `${whole} ${say(name)}` : '';
  }).filter(Boolean).join(' ');
}

function bytes(size) {
  const names = ['bytes', 'KB', 'MB', 'GB', 'TB'];
  let power = 0;
  for (; size >= 1024 && power < names.length - 1; power++) size /= 1024;
  return `${decimal.format(size)} ${say(names[power])}`;
}

// ticketd's clock, not the browser's: ages are right even where this computer's time is wrong.
function now() {
  return Date.parse(state.handler.now) + Date.now() - state.heardAt;
}

function age(moment) {
  return duration((now() - Date.parse(moment)) / 1000, 1);
}

// Days are counted in the zone of the session that makes the report: times are shown in the same.
let clock = { zone: null, known: true, parts: null };

function useZone(zone) {
  if (zone === clock.zone) return;
  const options = { year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' };
  try {
    clock = { zone, known: true, parts: new Intl.DateTimeFormat('en', { ...options, timeZone: zone }) };
  } catch (error) {
    clock = { zone, known: false, parts: new Intl.DateTimeFormat('en', { ...options, timeZone: 'UTC' }) };
  }
  setText(byId('zone'), clock.known ? say`Times and days are those of ${visible(zone)}.`
    : say`Days are those of ${visible(zone)}, which this browser does not know: times are UTC.`);
}

const partsOf = date => Object.fromEntries(clock.parts.formatToParts(date).map(({ type, value }) => [type, value]));
const minuteOf = date => (({ hour, minute }) => `${hour}:${minute}`)(partsOf(date));
const clockOf = date => (({ hour, minute, second }) => `${hour}:${minute}:${second}`)(partsOf(date));
const dateAndClockOf = date => (({ year, month, day }) => `${year}-${month}-${day} ${clockOf(date)}`)(partsOf(date));

// What PostgreSQL knows and a browser does not ("infinity") stays as it is.
function local(moment, format = dateAndClockOf) {
  if (!clock.parts) useZone('UTC');
  const date = new Date(moment);
  return isNaN(date) ? visible(moment) : format(date);
}

// Control characters would be invisible: they get their pictures, as in ␀.
function visible(text) {
  return String(text).replace(/[\0-\x08\x0b-\x1f\x7f-\x9f]/g, character => {
    const code = character.charCodeAt(0);
    return code < 0x20 ? String.fromCharCode(0x2400 + code) : code === 0x7f ? '\u2421' : '\ufffd';
  });
}
