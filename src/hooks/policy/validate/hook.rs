//! One hook: when, how often, how long, and whether it fits where it stands.

use std::sync::Arc;
use std::time::Duration;

use super::{Report, action, is_dns_name};
use crate::hooks::Defaults;
use crate::hooks::policy::diagnostic::Place;
use crate::hooks::policy::raw::{self, At};
use crate::hooks::policy::{Action, FailurePolicy, HANDLERS, Hook, MOST_ATTEMPTS, Mode, Retries};
use crate::lifecycle::{Call, Point, Stage};

/// What a hook must know of the policy around it.
pub struct Context<'a> {
    /// Its name.
    pub policy: Arc<str>,
    /// For what the hook does not say.
    pub defaults: &'a Defaults,
    /// Whether its `match` asks for a container.
    pub by_container: bool,
    /// Whether its `match` names namespaces.
    pub named: bool,
}

/// The hook, or `None` and something in the report.
pub fn hook(report: &mut Report<'_>, context: &Context<'_>, raw: At<raw::Hook>) -> Option<Hook> {
    let (before, at) = (report.mistakes.len(), raw.place());
    let raw = raw.into_inner();
    let name = report.required(raw.name, at, "name of the hook", "write `name:` and a name");
    if let Some(name) = name.as_ref().filter(|name| !is_dns_name(name, 63, false)) {
        let help = "use at most 63 lower-case letters, digits and `-`, with a letter or digit at both ends";
        report.wrong(name.place(), format!("`{}` cannot be a hook's name", **name), help);
    }
    let on = report.required(raw.on, at, "point of the hook", "write `on:` and a point, as PostStart or PreStop");
    let point = on.as_ref().and_then(|on| point(report, context, on));
    let handlers = Handlers {
        exec: raw.exec,
        http_get: raw.http_get,
        tcp_socket: raw.tcp_socket,
        sleep: raw.sleep,
        webhook: raw.webhook,
        grpc: raw.grpc,
        command: raw.command,
    };
    let action = handlers.only(report, point, at);
    let mode = match raw.mode {
        None => point.map(Mode::of),
        Some(mode) => match mode.as_str() {
            "Blocking" => Some(Mode::Blocking),
            "Background" => Some(Mode::Background),
            other => {
                report.wrong(mode.place(), format!("`{other}` is not a mode"), "write Blocking or Background");
                None
            }
        },
    };
    let failure_policy = match raw.failure_policy {
        None => Some(FailurePolicy::default()),
        Some(policy) => failure_policy(report, context, &policy, point.zip(mode)),
    };
    let given = raw.timeout.as_ref().map(|timeout| report.duration(timeout, "timeout"));
    let timeout = timeout(report, context, action.as_ref(), raw.timeout.as_ref().map(At::place).zip(given.flatten()));
    let retries = retries(report, context, raw.retries);
    if !report.is_clean_since(before) {
        return None;
    }
    Some(Hook {
        policy: Arc::clone(&context.policy),
        name: name?.into_inner().into(),
        point: point?,
        action: action?,
        timeout,
        retries,
        mode: mode?,
        failure_policy: failure_policy?,
    })
}

fn point(report: &mut Report<'_>, context: &Context<'_>, on: &At<String>) -> Option<Point> {
    let Ok(point) = on.parse::<Point>() else {
        let calls = Call::ALL.map(Call::name).join(", ");
        let help = format!("write PostStart, PreStop, or Pre or Post and one of {calls}");
        report.wrong(on.place(), format!("`{}` is not a point", **on), help);
        return None;
    };
    if context.by_container && !point.call.is_container() {
        let message = format!("the policy matches containers or images, and there is no container at {point}");
        report.wrong(on.place(), message, "put the hook into a policy that matches pods only");
    }
    Some(point)
}

fn failure_policy(
    report: &mut Report<'_>,
    context: &Context<'_>,
    policy: &At<String>,
    moment: Option<(Point, Mode)>,
) -> Option<FailurePolicy> {
    let at = policy.place();
    match policy.as_str() {
        "Ignore" => return Some(FailurePolicy::Ignore),
        "Fail" => {}
        other => {
            report.wrong(at, format!("`{other}` is not a failure policy"), "write Ignore or Fail");
            return None;
        }
    }
    if let Some((point, mode)) = moment
        && !FailurePolicy::may_fail(point, mode)
    {
        let blocking = FailurePolicy::may_fail(point, Mode::Blocking);
        let (message, help) = if blocking {
            (
                format!("nothing waits for a {} hook at {point}, so it can fail nothing", mode.name()),
                "write `mode: Blocking`, or Ignore",
            )
        } else {
            let message = format!("Fail is not possible at {point}");
            (
                message,
                "write Ignore: only the calls that create, start or update may fail, so that pods can always go away",
            )
        };
        report.wrong(at, message, help);
        return None;
    }
    if !context.named {
        let help = "write `namespaces:` with names or globs as `team-*` in the policy's `match`, and no pattern that matches all";
        report.wrong(at, "Fail needs namespaces that are named", help);
        return None;
    }
    Some(FailurePolicy::Fail)
}

/// The timeout: a sleep that does not say gets as long as it takes.
fn timeout(
    report: &mut Report<'_>,
    context: &Context<'_>,
    action: Option<&Action>,
    given: Option<(Place, Duration)>,
) -> Duration {
    let usual = context.defaults.timeout;
    match (action, given) {
        (Some(Action::Sleep(length)), None) => usual.max(*length + Duration::from_secs(1)),
        (Some(Action::Sleep(length)), Some((at, timeout))) if timeout <= *length => {
            let message = format!("a sleep of {} s does not end before this timeout", length.as_secs());
            report.wrong(at, message, "write a longer timeout, or none");
            timeout
        }
        (_, Some((_, timeout))) => timeout,
        (_, None) => usual,
    }
}

fn retries(report: &mut Report<'_>, context: &Context<'_>, raw: Option<At<raw::Retries>>) -> Retries {
    let usual = context.defaults.retries;
    let Some(raw) = raw else { return usual };
    let raw::Retries { attempts, backoff, max_backoff } = raw.into_inner();
    let attempts = attempts.map_or(usual.attempts, |given| {
        u32::try_from(*given).ok().filter(|attempts| (1..=MOST_ATTEMPTS).contains(attempts)).unwrap_or_else(|| {
            let message = format!("{} is not a number of attempts", *given);
            report.wrong(
                given.place(),
                message,
                format!("write a number from 1 to {MOST_ATTEMPTS}; the first attempt counts"),
            );
            usual.attempts
        })
    });
    let first = backoff.as_ref().and_then(|text| report.duration(text, "backoff")).unwrap_or(usual.backoff);
    let longest = max_backoff.as_ref().map(|text| (text.place(), report.duration(text, "longest backoff")));
    let max_backoff = match longest {
        Some((at, Some(longest))) if longest < first => {
            report.wrong(
                at,
                "the longest backoff is shorter than the first",
                "write `maxBackoff` no shorter than `backoff`",
            );
            first
        }
        Some((_, Some(longest))) => longest,
        _ => usual.max_backoff.max(first),
    };
    Retries { attempts, backoff: first, max_backoff }
}

/// All that a hook could do; it does one of it.
struct Handlers {
    exec: Option<At<raw::Exec>>,
    http_get: Option<At<raw::HttpGet>>,
    tcp_socket: Option<At<raw::TcpSocket>>,
    sleep: Option<At<raw::Sleep>>,
    webhook: Option<At<raw::Webhook>>,
    grpc: Option<At<raw::Grpc>>,
    command: Option<At<raw::Command>>,
}

impl Handlers {
    fn only(self, report: &mut Report<'_>, point: Option<Point>, hook: Place) -> Option<Action> {
        let places = [
            self.exec.as_ref().map(At::place),
            self.http_get.as_ref().map(At::place),
            self.tcp_socket.as_ref().map(At::place),
            self.sleep.as_ref().map(At::place),
            self.webhook.as_ref().map(At::place),
            self.grpc.as_ref().map(At::place),
            self.command.as_ref().map(At::place),
        ];
        let given: Vec<(&str, Place)> =
            HANDLERS.into_iter().zip(places).filter_map(|(name, place)| Some((name, place?))).collect();
        match given.as_slice() {
            [] => {
                report.wrong(hook, "the hook has no handler", format!("write one of {}", HANDLERS.join(", ")));
                return None;
            }
            [(name, place)] => fits(report, name, *place, point),
            [(first, _), .., (second, place)] => {
                let message = format!("the hook has a handler already, {first}; {second} is one more");
                report.wrong(*place, message, "make them two hooks; hooks of a point run in order");
            }
        }
        let mut actions = [
            self.exec.and_then(|raw| action::exec(report, raw)),
            self.http_get.and_then(|raw| action::http_get(report, raw, point)),
            self.tcp_socket.and_then(|raw| action::tcp_socket(report, raw, point)),
            self.sleep.and_then(|raw| action::sleep(report, raw)),
            self.webhook.and_then(|raw| action::webhook(report, raw, point)),
            self.grpc.and_then(|raw| action::grpc(report, raw)),
            self.command.and_then(|raw| action::command(report, raw)),
        ];
        actions.iter_mut().find_map(Option::take)
    }
}

/// Whether the handler makes sense at the point.
fn fits(report: &mut Report<'_>, handler: &str, at: Place, point: Option<Point>) {
    let Some(point) = point else { return };
    let in_container = [
        Point::POST_START,
        Point::PRE_STOP,
        Point::pre(Call::UpdateContainerResources),
        Point::post(Call::UpdateContainerResources),
    ];
    if handler == "exec" && !in_container.contains(&point) {
        let points = in_container.map(Point::name).join(", ");
        report.wrong(
            at,
            format!("no container runs at {point} that a command could run in"),
            format!("exec is for {points}"),
        );
    }
}

/// Whether a pod has an address at the point.
pub fn has_address(point: Point) -> bool {
    match point.call {
        Call::RemovePodSandbox => false,
        Call::RunPodSandbox => point.stage == Stage::Post,
        Call::StopPodSandbox => point.stage == Stage::Pre,
        _ => true,
    }
}
