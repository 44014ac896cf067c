'use strict';
// Fetches the page again and changes what has changed. What has not stays as it is: the place, the selection, the focus. Parts that come and go
// have an element around them, so that nothing else has to be replaced with them.
const EVERY = 3000, LIMIT = 10000;
const stale = document.getElementById('stale');
let seen = new Date(), busy = false;

function follow(now, next) {
  if (now.isEqualNode(next)) return;
  if (now.nodeName !== next.nodeName || now.childNodes.length !== next.childNodes.length) return now.replaceWith(next);
  if (now.nodeType !== Node.ELEMENT_NODE) return void (now.data = next.data);
  // What the reader has unfolded stays so.
  for (const { name } of [...now.attributes]) if (name !== 'open' && !next.hasAttribute(name)) now.removeAttribute(name);
  for (const { name, value } of next.attributes) if (now.getAttribute(name) !== value) now.setAttribute(name, value);
  const into = [...next.childNodes];
  [...now.childNodes].forEach((child, n) => follow(child, into[n]));
}

async function refresh() {
  if (document.hidden || busy) return;
  busy = true;
  try {
    const answer = await fetch(location.href, { cache: 'no-store', signal: AbortSignal.timeout(LIMIT) });
    if (!answer.ok) throw new Error(answer.statusText);
    const next = new DOMParser().parseFromString(await answer.text(), 'text/html');
    // Another crihook may have another style.
    if (next.documentElement.dataset.version !== document.documentElement.dataset.version) return location.reload();
    follow(document.querySelector('main'), next.querySelector('main'));
    follow(document.getElementById('icon'), next.getElementById('icon'));
    document.title = next.title;
    seen = new Date();
    stale.hidden = true;
  } catch {
    stale.querySelector('time').textContent = seen.toLocaleTimeString();
    document.title = document.title.replace(/^(\? )?/, '? ');
    stale.hidden = false;
  } finally {
    busy = false;
  }
}

setInterval(refresh, EVERY);
document.addEventListener('visibilitychange', refresh);
