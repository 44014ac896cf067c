//! The spans of a call: its own, the runtime's part of it, and each wait for hooks.
//!
//! ```text
//!   the caller's ─▶ call ─┬─ hook wait     before it is passed on
//!                         ├─ upstream      from handed on until the runtime's last frame
//!                         └─ hook wait     before it is answered
//! ```
//!
//! Only a call that came with a trace, or begins one, has them.

use std::cell::Cell;
use std::time::Instant;

use http::HeaderMap;

use super::latency::Finished;
use crate::cri::Method;
use crate::trace::{Context, KeyValue, Span, SpanKind, Tracer};

/// What it takes to tell the spans of a call.
pub struct Spans {
    tracer: Tracer,
    context: Context,
    caller: Option<Context>,
    /// Since when the answer to a question has been waited for.
    asked: Cell<Option<Instant>>,
    /// When the runtime was last waited for.
    answered: Cell<Option<Instant>>,
}

impl Spans {
    /// Of a call that came with these headers; `None` if it has no spans.
    pub fn enter(tracer: &Tracer, method: Method, headers: &HeaderMap) -> Option<Self> {
        // Of what callers without traces do, polls would drown what is looked for.
        let root = || method.is_lifecycle() || method.name() == "PullImage";
        let (context, caller) = tracer.enter(headers, root)?;
        Some(Self { tracer: tracer.clone(), context, caller, asked: Cell::new(None), answered: Cell::new(None) })
    }

    /// The call's own.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The runtime is no longer waited for.
    pub fn answered(&self, now: Instant) {
        self.answered.set(Some(now));
    }

    /// An answer is waited for since then.
    pub fn asked(&self, since: Instant) {
        self.asked.set(Some(since));
    }

    /// It is there. Hooks were waited for from `since` on; `None` if they were not.
    pub fn told(&self, since: Option<Instant>, now: Instant) {
        self.asked.set(None);
        if let Some(since) = since.filter(|_| self.context.is_recorded()) {
            self.part("hook wait", SpanKind::Internal, since, now);
        }
    }

    /// The call is over.
    pub fn ended(&self, finished: &Finished) {
        let Finished { method, code, begun, handed_on, duration, shares } = *finished;
        if method.is_endless() || !self.context.is_recorded() {
            return;
        }
        let ended = begun + duration;
        if let Some(since) = self.asked.take() {
            self.told(Some(since), ended);
        }
        if let Some(handed_on) = handed_on {
            let answered = self.answered.get().unwrap_or(ended);
            self.part("upstream", SpanKind::Client, handed_on, answered);
        }
        let service = method.service().name();
        let seconds = |name, share: std::time::Duration| KeyValue::new(name, share.as_secs_f64());
        self.tracer.tell(Span {
            context: self.context.clone(),
            parent: self.caller.clone(),
            name: format!("{service}/{}", method.name()).into(),
            kind: SpanKind::Server,
            begun,
            ended,
            attributes: vec![
                KeyValue::new("rpc.system", "grpc"),
                KeyValue::new("rpc.service", service),
                KeyValue::new("rpc.method", method.name()),
                KeyValue::new("rpc.grpc.status_code", i64::from(code.number())),
                seconds("crihook.upstream_seconds", shares.upstream),
                seconds("crihook.hook_wait_seconds", shares.hooks),
                seconds("crihook.client_wait_seconds", shares.client),
                seconds("crihook.overhead_seconds", shares.overhead),
            ],
            error: code.is_servers_failure().then(|| code.name().into()),
        });
    }

    fn part(&self, name: &'static str, kind: SpanKind, begun: Instant, ended: Instant) {
        self.tracer.tell(Span {
            context: self.context.child(),
            parent: Some(self.context.clone()),
            name: name.into(),
            kind,
            begun,
            ended,
            attributes: Vec::new(),
            error: None,
        });
    }
}
