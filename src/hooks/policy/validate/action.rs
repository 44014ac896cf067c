//! What a hook does, handler by handler.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::hook::has_address;
use super::server::{self, Trust};
use super::{LONGEST, Report};
use crate::hooks::policy::diagnostic::Place;
use crate::hooks::policy::raw::{self, At};
use crate::hooks::policy::{Action, Command, Grpc, HttpGet, Name, PortRef, TcpSocket, Template, Webhook, WebhookUrl};
use crate::lifecycle::Point;

pub fn exec(report: &mut Report<'_>, raw: At<raw::Exec>) -> Option<Action> {
    let at = raw.place();
    argv(report, raw.into_inner().command, at).map(Action::Exec)
}

pub fn http_get(report: &mut Report<'_>, raw: At<raw::HttpGet>, point: Option<Point>) -> Option<Action> {
    let (before, at) = (report.mistakes.len(), raw.place());
    let raw = raw.into_inner();
    let port = port(report, raw.port, at, point);
    let host = host(report, raw.host.as_ref(), at, point, "httpGet");
    let path = match &raw.path {
        None => Template::parse("/").ok(),
        Some(path) => {
            if path.chars().any(|c| c.is_whitespace() || c.is_control()) {
                report.wrong(path.place(), "a path has no spaces", "write them as %20");
            }
            // Kubernetes puts the slash there, too.
            report.template(path).and_then(|path| {
                let text = path.to_string();
                if text.starts_with('/') { Some(path) } else { Template::parse(&format!("/{}", written(&path))).ok() }
            })
        }
    };
    let secure = raw.scheme.as_ref().is_some_and(|scheme| *scheme.as_str() == *"HTTPS");
    if let Some(scheme) = raw.scheme.as_ref().filter(|scheme| !["HTTP", "HTTPS"].contains(&scheme.as_str())) {
        report.wrong(scheme.place(), format!("`{}` is not a scheme", **scheme), "write HTTP or HTTPS");
    }
    if secure
        && let Some(scheme) = &raw.scheme
        && raw.ca_file.is_none()
        && raw.insecure_skip_verify.is_none()
    {
        let message = "unlike in Kubernetes, the server's certificate is verified, against the system's authorities";
        report.warn(
            scheme.place(),
            message,
            "name yours as `caFile`, or write `insecureSkipVerify: true` to do as Kubernetes does",
        );
    }
    let headers = headers(report, raw.http_headers);
    let trust = Trust { ca: raw.ca_file, cert: None, key: None, insecure: raw.insecure_skip_verify };
    let tls = server::tls(report, trust, secure, "`scheme: HTTPS`");
    if !report.is_clean_since(before) {
        return None;
    }
    report.warn(
        at,
        "unlike in Kubernetes, only a status from 200 to 399 is success, and redirects lead to the same host only",
        "nothing needs to be done if the server answers so",
    );
    Some(Action::HttpGet(HttpGet { path: path?, port: port?, host: host?, secure, headers, tls: tls? }))
}

pub fn tcp_socket(report: &mut Report<'_>, raw: At<raw::TcpSocket>, point: Option<Point>) -> Option<Action> {
    let at = raw.place();
    let raw = raw.into_inner();
    let port = port(report, raw.port, at, point);
    let host = host(report, raw.host.as_ref(), at, point, "tcpSocket");
    Some(Action::TcpSocket(TcpSocket { port: port?, host: host? }))
}

pub fn sleep(report: &mut Report<'_>, raw: At<raw::Sleep>) -> Option<Action> {
    let at = raw.place();
    let help = "write `sleep: {seconds: 5}`";
    let seconds = report.required(raw.into_inner().seconds, at, "seconds in sleep", help)?;
    let length = u64::try_from(*seconds).ok().filter(|n| *n > 0).map(Duration::from_secs).filter(|it| *it <= LONGEST);
    if length.is_none() {
        report.wrong(
            seconds.place(),
            format!("{} s is not a time to sleep", *seconds),
            "write at least 1, and at most 86400",
        );
    }
    length.map(Action::Sleep)
}

pub fn webhook(report: &mut Report<'_>, raw: At<raw::Webhook>, point: Option<Point>) -> Option<Action> {
    let at = raw.place();
    let raw = raw.into_inner();
    let url = report.required(raw.url, at, "url in webhook", "write `url:` and where the event goes");
    let url = url.and_then(|url| {
        let place = url.place();
        let found = server::webhook_url(report, &url)?;
        if let (WebhookUrl::Http(template), Some(point)) = (&found, point) {
            let host = template.to_string();
            let host = host.split('/').nth(2).unwrap_or_default();
            if host.contains("$(POD_IP)") && !has_address(point) {
                report.wrong(place, format!("the pod has no address at {point}"), "name another host");
            }
        }
        Some(found)
    });
    let secure =
        url.as_ref().is_none_or(|url| matches!(url, WebhookUrl::Http(url) if url.to_string().starts_with("https")));
    let headers = headers(report, raw.headers);
    let trust = Trust { ca: raw.ca_file, cert: raw.cert_file, key: raw.key_file, insecure: raw.insecure_skip_verify };
    let tls = server::tls(report, trust, secure, "an https URL");
    Some(Action::Webhook(Webhook { url: url?, headers, tls: tls? }))
}

pub fn grpc(report: &mut Report<'_>, raw: At<raw::Grpc>) -> Option<Action> {
    let at = raw.place();
    let raw = raw.into_inner();
    let help = "write `endpoint: HOST:PORT` or `endpoint: unix:///run/hooks.sock`";
    let endpoint = report.required(raw.endpoint, at, "endpoint in grpc", help);
    let endpoint = endpoint.and_then(|endpoint| server::grpc_endpoint(report, &endpoint));
    let tls = match raw.tls {
        None => Some(None),
        Some(tls) => {
            let tls = tls.into_inner();
            let trust =
                Trust { ca: tls.ca_file, cert: tls.cert_file, key: tls.key_file, insecure: tls.insecure_skip_verify };
            server::tls(report, trust, true, "tls").map(Some)
        }
    };
    Some(Action::Grpc(Grpc { endpoint: endpoint?, tls: tls? }))
}

pub fn command(report: &mut Report<'_>, raw: At<raw::Command>) -> Option<Action> {
    let (before, at) = (report.mistakes.len(), raw.place());
    let raw = raw.into_inner();
    if let Some(program) = raw.command.as_ref().and_then(|command| command.first())
        && !program.is_empty()
        && !program.starts_with('/')
    {
        let message = format!("`{}` is not an absolute path", **program);
        report.wrong(program.place(), message, "write where the program is, as /usr/local/bin/announce");
    }
    let command = argv(report, raw.command, at);
    let mut env: Vec<(String, Template)> = Vec::new();
    for raw::Pair { name, value } in raw.env.unwrap_or_default().0 {
        if name.is_empty() || name.contains(['=', '\0']) || name.chars().any(char::is_whitespace) {
            report.wrong(name.place(), "this cannot be the name of a variable", "write letters, digits and `_`");
        } else if env.iter().any(|(known, _)| *known == *name) {
            report.wrong(name.place(), format!("there is a variable `{}` already", *name), "write it once");
        }
        if value.contains('\0') {
            report.wrong(value.place(), "a variable's value has no zero bytes", "remove them");
        }
        if let Some(value) = report.template(&value) {
            env.push((name.into_inner(), value));
        }
    }
    if let Some(user) = &raw.user
        && let Err(why) = server::user(user)
    {
        report.wrong(user.place(), why, "write the name of a user of this node, or a number");
    }
    report.is_clean_since(before).then_some(())?;
    Some(Action::Command(Command { command: command?, env, user: raw.user.map(At::into_inner) }))
}

/// A program and its arguments.
fn argv(report: &mut Report<'_>, command: Option<At<Vec<At<String>>>>, parent: Place) -> Option<Vec<Template>> {
    let help = "write the program and its arguments as a list, as `command: [/bin/drain, --fast]`";
    let command = report.required(command, parent, "command", help)?;
    if command.first().is_none_or(|program| program.is_empty()) {
        report.wrong(command.place(), "the command names no program", help);
        return None;
    }
    if let Some(word) = command.iter().find(|word| word.contains('\0')) {
        report.wrong(word.place(), "an argument has no zero bytes", "remove them");
    }
    // All of them, so that each wrong name is told.
    let templates: Vec<Option<Template>> = command.iter().map(|word| report.template(word)).collect();
    if let Some((at, _)) = shell_script(&command)
        .and_then(|n| Some((command.get(n)?.place(), templates.get(n)?.as_ref()?)))
        .filter(|(_, script)| !script.names().is_empty())
    {
        let help = "pass it as an argument after the script and write \"$1\", or use `command`'s environment";
        report.warn(at, "what is filled in here becomes part of a shell script, whatever it holds", help);
    }
    templates.into_iter().collect()
}

/// The place of the script in `sh -c SCRIPT`.
fn shell_script(command: &[At<String>]) -> Option<usize> {
    const SHELLS: [&str; 7] = ["sh", "bash", "ash", "dash", "zsh", "ksh", "fish"];
    let shell = command.iter().position(|word| SHELLS.contains(&word.rsplit('/').next().unwrap_or_default()))?;
    let flag = |word: &At<String>| word.starts_with('-') && !word.starts_with("--") && word.contains('c');
    command.iter().skip(shell + 1).position(flag).map(|n| shell + 1 + n + 1)
}

/// A template as it was written.
fn written(template: &Template) -> String {
    // A dollar that is meant as one before a parenthesis was written twice.
    template.expand(|name| format!("\u{0}({})", name.text())).replace('$', "$$").replace('\u{0}', "$")
}

fn port(report: &mut Report<'_>, port: Option<At<String>>, parent: Place, point: Option<Point>) -> Option<PortRef> {
    let help = "write a number from 1 to 65535, or the port's name in the pod spec";
    let port = report.required(port, parent, "port", help)?;
    let is_number = port.strip_prefix(['-', '+']).unwrap_or(&port).chars().all(|c| c.is_ascii_digit());
    if is_number {
        let number = port.parse::<u16>().ok().filter(|number| *number > 0);
        if number.is_none() {
            report.wrong(port.place(), format!("{} is not a port", *port), help);
        }
        return number.map(PortRef::Number);
    }
    // https://www.iana.org/assignments/service-names: what Kubernetes takes for a port's name.
    let letters = port.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if port.len() > 15 || !letters || !port.chars().any(|c| c.is_ascii_lowercase()) {
        report.wrong(port.place(), format!("`{}` is not a port", *port), help);
        return None;
    }
    if let Some(point) = point.filter(|point| !point.call.is_container()) {
        let message = format!("there is no container at {point} whose port `{}` could be", *port);
        report.wrong(port.place(), message, "write the port's number");
        return None;
    }
    Some(PortRef::Name(port.into_inner()))
}

/// The host, if one is given; the outer `None` says that something is in the report.
#[allow(clippy::option_option, reason = "what is wrong and what is not given are two things")]
fn host(
    report: &mut Report<'_>,
    host: Option<&At<String>>,
    parent: Place,
    point: Option<Point>,
    handler: &str,
) -> Option<Option<Template>> {
    let template = match host {
        None => None,
        Some(host) => {
            if host.is_empty() || host.chars().any(|c| c.is_whitespace() || c.is_control() || "/@?#".contains(c)) {
                report.wrong(
                    host.place(),
                    "this is not a host",
                    "write a name or an address, without a scheme, a port or a path",
                );
                return None;
            }
            Some(report.template(host)?)
        }
    };
    let pod = template.as_ref().is_none_or(|host| host.names().contains(&Name::PodIp));
    if let Some(point) = point.filter(|point| pod && !has_address(*point)) {
        let at = host.map_or(parent, At::place);
        report.wrong(at, format!("the pod has no address at {point}"), format!("give the {handler} another `host`"));
        return None;
    }
    Some(template)
}

/// Headers of a request; what is wrong with them is told without their values.
fn headers(report: &mut Report<'_>, pairs: Option<raw::Pairs>) -> Vec<(HeaderName, Template)> {
    // The client writes these itself; two of them would make the request something else than it says.
    const OWN: [&str; 3] = ["content-length", "transfer-encoding", "connection"];
    let mut headers = Vec::new();
    for raw::Pair { name, value } in pairs.unwrap_or_default().0 {
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
            report.wrong(name.place(), "this cannot be the name of a header", "write letters, digits and `-`");
            continue;
        };
        if OWN.contains(&header.as_str()) {
            report.wrong(name.place(), format!("crihook sets {header} itself"), "remove it");
        }
        if HeaderValue::from_str(&value).is_err() {
            report.wrong(
                value.place(),
                "a header's value is one line without control characters",
                "write it on one line",
            );
        }
        if let Some(value) = report.template(&value) {
            headers.push((header, value));
        }
    }
    headers
}
