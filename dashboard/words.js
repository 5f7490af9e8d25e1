'use strict';

// Every text of the page goes through say(). English is what stands in the sources; another language is a file beside this
// one (words.hu.js), a table from English to it, where {0}, {1} … stand for the values. To add one: that file, a line in
// index.html for it, and an option in its select.

const WORDS = { en: {} };
const missing = new Set();   // what the chosen language has no words for: it is shown in English
let language = 'en';

function chooseLanguage() {
  const wanted = [new URLSearchParams(location.search).get('lang'), ...navigator.languages.map(name => name.slice(0, 2))];
  language = wanted.find(name => Object.hasOwn(WORDS, name)) || 'en';
}

// say('text') or say`text with ${values}`.
function say(text, ...values) {
  const key = typeof text === 'string' ? text : text.reduce((all, part, place) => `${all}{${place - 1}}${part}`);
  if (language !== 'en' && key && !Object.hasOwn(WORDS[language], key)) missing.add(key);
  const found = Object.hasOwn(WORDS[language], key) ? WORDS[language][key] : key;
  return found.replace(/\{(\d)\}/g, (_, place) => values[place]);
}

// What stands in index.html.
function sayAll() {
  document.documentElement.lang = language;
  if (language === 'en') return;
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    const key = node.data.trim().replace(/\s+/g, ' ');
    if (/[a-z]/i.test(key) && !node.parentElement.closest('script, code, noscript, option[lang]')) {
      node.data = node.data.replace(/^(\s*)[^]*?(\s*)$/, (_, before, after) => before + say(key) + after);
    }
  }
  for (const element of document.querySelectorAll('[aria-label]')) element.setAttribute('aria-label', say(element.getAttribute('aria-label')));
}
