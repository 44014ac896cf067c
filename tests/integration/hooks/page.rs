//! The status page, in a browser and as it comes.

use std::net::TcpListener;

use super::browser::Browser;
use super::cri::pod_in;
use super::*;
use crate::wire::peer::exposition::get;

/// A header that no page shows.
const SECRET: &str = "hunter2-in-a-header";

fn guard(server: &HookServer) -> Value {
    let mut hook = webhook("guard", "PreStartContainer", server, &json!({"timeout": "60s"}));
    hook["webhook"]["headers"] = json!({"authorization": SECRET});
    hook
}

/// Calls of more methods than the page shows at once. No policy concerns this pod.
async fn life(node: &Node) {
    let (cri, pod) = (&node.cri, pod_in("default", "idle"));
    cri.version().await.expect("a version");
    cri.network("127.88.0.0/16").await;
    let made = node.running_as(&pod, &container("main", &[])).await;
    cri.ip(&made.sandbox).await;
    cri.status(&made.id).await.expect("a status");
    cri.update(&made.id, 512).await.expect("updated");
    cri.stop(&made.id, 2).await.expect("stopped");
    cri.remove(&made.id).await.expect("removed");
    cri.stop_pod(&made.sandbox).await.expect("stopped");
    cri.remove_pod(&made.sandbox).await.expect("removed");
}

/// A container starts, and `guard` runs.
async fn start(node: &Node, name: &str) {
    node.running(name, &[]).await;
}

#[tokio::test]
async fn the_page_tells_where_the_time_went_and_keeps_up_without_being_loaded_again() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Status(503, "down for a while"));
    place.write("a.yaml", &policy("watch-web", &[guard(&server)]));
    let node = place.configured("hooks: {nodeName: worker-7}").await;
    life(&node).await;
    start(&node, "web-0").await;
    let page = Browser::open(&format!("http://{}/", node.crihook.metrics_addr().await)).await;
    page.shows("document.title", json!("worker-7: all is well · crihook")).await;
    assert!(tells(&page.text(".facts").await, &["crihook-sim", "runtime.sock", "1 with 1 hook", "1 client"]));
    assert_eq!(page.ask(&Browser::cell("StartContainer", "calls")).await, "2");
    assert_eq!(page.ask(&Browser::cell("watch-web/guard", "failed")).await, "1");
    let parts = page.ask("[...document.querySelectorAll('.legend li')].map(part => part.className)").await;
    assert_eq!(parts, json!(["runtime", "hooks", "crihook", "client"]));

    // A mark that would be gone if the page were loaded again, and what a reader does with a page.
    page.ask("(document.marked = true, document.querySelector('details').open = true, document.querySelector('nav a').focus())")
        .await;
    for n in 1..5 {
        start(&node, &format!("web-{n}")).await;
    }
    page.shows(&Browser::cell("watch-web/guard", "failed"), json!("5")).await;
    page.shows(&Browser::cell("StartContainer", "calls"), json!("6")).await;
    page.shows("document.querySelector('.hooks tbody th').innerText", json!("watch-web/guard breaker open")).await;
    page.shows("document.title", json!("worker-7: 1 thing is not as it should be · crihook")).await;
    assert!(tells(&page.text(".wrong").await, &["breaker", "watch-web/guard"]));
    let kept = "[document.marked, document.querySelector('details').open, document.activeElement.innerText]";
    assert_eq!(page.ask(kept).await, json!([true, true, "last 15 min"]));
    assert_eq!(page.complaints().await, [""; 0]);
    page.close().await;
}

#[tokio::test]
async fn the_page_suits_the_dark_the_light_and_a_phone() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Status(503, "down"));
    let long = "a-policy-with-a-name-as-long-as-platform-engineers-like-them-and-then-some";
    place.write("a.yaml", &policy(long, &[guard(&server)]));
    let node = place.start().await;
    life(&node).await;
    for n in 0..5 {
        start(&node, &format!("web-{n}")).await;
    }
    place.write("b.yaml", "apiVersion: crihook.dev/v1\nkind: HookPolicy\nmetadata: {name: b}\nspec: {hoooks: []}\n");
    let page = Browser::open(&format!("http://{}/", node.crihook.metrics_addr().await)).await;
    page.shows("document.querySelectorAll('.mistakes li').length", json!(1)).await;
    let ground = "getComputedStyle(document.body).backgroundColor";
    page.scheme("light").await;
    let light = page.ask(ground).await;
    page.picture("light").await;
    page.scheme("dark").await;
    assert_ne!(page.ask(ground).await, light);
    page.picture("dark").await;
    for scheme in ["dark", "light"] {
        page.scheme(scheme).await;
        assert_eq!(page.ask(CONTRAST).await, json!([]), "{scheme}");
    }
    page.wide(360).await;
    page.shows("innerWidth", json!(360)).await;
    assert_eq!(page.ask("document.documentElement.scrollWidth").await, 360);
    page.picture("phone").await;
    assert_eq!(page.complaints().await, [""; 0]);
    page.close().await;
}

/// The texts that stand out from their ground by less than 4.5 to 1 (WCAG 2.2, 1.4.3).
const CONTRAST: &str = "(() => {
  const channel = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(Number);
    return 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  };
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if (colour !== 'rgba(0, 0, 0, 0)') return colour;
    }
  };
  document.getElementById('stale').hidden = false;
  const texts = [...document.querySelectorAll('body *')].filter((element) => element.innerText &&
    [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim()));
  const poor = texts.filter((element) => {
    const [a, b] = [light(getComputedStyle(element).color), light(ground(element))].sort((a, b) => b - a);
    return (a + 0.05) / (b + 0.05) < 4.5;
  });
  document.getElementById('stale').hidden = true;
  return poor.map((element) => element.outerHTML);
})()";

#[tokio::test]
async fn the_page_says_when_crihook_does_not_answer_and_goes_on_when_it_does() {
    let place = Place::new();
    // It has to come back where it was.
    let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").to_string();
    let mut node = place.start_with(|flags| _ = flags.set("--metrics-addr", &free)).await;
    let page = Browser::open(&format!("http://{free}/")).await;
    page.shows("document.getElementById('stale').hidden", json!(true)).await;
    node.crihook.kill();
    page.shows("document.getElementById('stale').hidden", json!(false)).await;
    assert!(tells(&page.text("#stale").await, &["Not updating since", ":", "crihook does not answer"]));
    assert_eq!(page.ask("document.title.startsWith('? ')").await, true);
    page.picture("gone").await;
    node.restart().await;
    page.shows("document.getElementById('stale').hidden", json!(true)).await;
    assert_eq!(page.ask("document.title.startsWith('? ')").await, false);
    page.close().await;
}

const INJECTION: &str = "apiVersion: crihook.dev/v1
kind: HookPolicy
metadata: {name: \"<script>document.title='pwned'</script>\"}
spec: {hooks: []}
";

#[tokio::test]
async fn what_others_have_named_is_text_on_the_page_and_secrets_are_not_there() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Status(503, "what-a-hook-printed"));
    let mut url = guard(&server);
    url["webhook"]["url"] = json!(format!("{}?token=hunter3-in-a-url", server.url("/v1/events")));
    place.write("a.yaml", &policy("watch-web", &[url]));
    let node = place.start().await;
    for n in 0..5 {
        start(&node, &format!("web-{n}")).await;
    }
    node.wait_metric("crihook_hook_breaker_open", &[("policy", "watch-web")], 1.0).await;
    place.write("b.yaml", INJECTION);
    let addr = node.crihook.metrics_addr().await;
    let page = until("a page that tells of the mistake", || async {
        let (code, page) = get(&addr, "/").await;
        if code == 200 && page.contains("class=\"mistakes\"") { Ok(page) } else { Err(page) }
    })
    .await;
    assert!(
        tells(&page, &["&#60;script&#62;document.title=", "b.yaml:3:", "open for", "http-equiv=\"refresh\""]),
        "{page}"
    );
    for secret in [SECRET, "hunter3-in-a-url", "what-a-hook-printed", "<script>document"] {
        assert!(!page.contains(secret), "{secret}: {page}");
    }
    let (_, since_start) = get(&addr, "/?since=start").await;
    assert!(tells(&since_start, &["since the start, ", "href=\"?since=start\" aria-current"]), "{since_start}");
    let browser = Browser::open(&format!("http://{addr}/")).await;
    assert!(browser.text(".mistakes").await.contains("<script>"), "{}", browser.text("main").await);
    assert_eq!(browser.complaints().await, [""; 0]);
    // Even if something came in, the browser would not run it.
    browser
        .ask("document.body.append(Object.assign(document.createElement('script'), {text: 'document.run = 1'}))")
        .await;
    assert_eq!(browser.ask("document.run ?? 'refused'").await, "refused");
    let headers =
        "fetch('/').then(({headers}) => ['cache-control', 'x-content-type-options'].map(name => headers.get(name)))";
    assert_eq!(browser.ask(headers).await, json!(["no-store", "nosniff"]));
    browser.close().await;
}

#[tokio::test]
async fn without_script_the_page_loads_itself_again() {
    let place = Place::new();
    let node = place.start().await;
    let page = Browser::open_without_script(&format!("http://{}/", node.crihook.metrics_addr().await)).await;
    assert!(page.text(".facts").await.contains("crihook-sim"));
    start(&node, "web-0").await;
    page.shows(&Browser::cell("StartContainer", "calls"), json!("1")).await;
    page.close().await;
}
