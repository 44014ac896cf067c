//! What is remembered of each container and sandbox: which hooks have succeeded, what runs, what is queued. No tasks and no clock.
//!
//! `S` is a session, `R` a run, `T` what stops the run under way. A run is *queued* for the background, or waits for a call: for its success
//! (*promised*), or to be repeated (*left* by a process that died in the middle of it).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::HookKey;
use crate::lifecycle::Point;

/// All subjects that there is something to remember of.
pub(super) struct Subjects<S, R, T> {
    all: HashMap<Arc<str>, Subject<S, R, T>>,
    /// Runs in all queues.
    queued: usize,
    max_queued: usize,
    max_known: usize,
    now: u64,
}

struct Subject<S, R, T> {
    points: HashMap<Point, AtPoint<S, R>>,
    /// `None` while nothing is queued and nothing under way in the background.
    lane: Option<Lane<R, T>>,
    /// It is gone: nothing need be remembered once everything has ended.
    forgotten: bool,
    /// When it was last asked for, by a count of such times.
    asked: u64,
}

struct AtPoint<S, R> {
    done: HashSet<HookKey>,
    /// Queued, or under way in the background.
    pending: HashSet<HookKey>,
    session: Option<S>,
    promised: HashMap<HookKey, R>,
    /// Calls that `promised` depends on. The last that fails takes it with it.
    calls: usize,
    left: HashMap<HookKey, R>,
}

impl<S, R> AtPoint<S, R> {
    fn is_idle(&self) -> bool {
        self.session.is_none() && self.calls == 0 && self.promised.is_empty() && self.left.is_empty()
    }
}

impl<S, R> Default for AtPoint<S, R> {
    fn default() -> Self {
        let (done, pending, promised, left) = Default::default();
        Self { done, pending, session: None, promised, calls: 0, left }
    }
}

struct Lane<R, T> {
    queue: VecDeque<Queued<R>>,
    current: Option<(Point, T)>,
}

/// A background run in a lane.
pub(super) struct Queued<R> {
    pub(super) point: Point,
    pub(super) key: HookKey,
    /// Whether its success is remembered.
    pub(super) once: bool,
    pub(super) run: R,
}

/// Where a run was put.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// Into a lane that is being worked on.
    Behind,
    /// Into a new lane: somebody must begin to work on it.
    First,
    /// Nowhere: there are too many.
    Full,
}

impl<S, R, T> Subjects<S, R, T> {
    /// `max_queued` runs, and `max_known` subjects that something is remembered of; beyond these, the one that was not asked for the longest is
    /// forgotten.
    pub(super) fn new(max_queued: usize, max_known: usize) -> Self {
        Self { all: HashMap::new(), queued: 0, max_queued, max_known, now: 0 }
    }

    fn subject(&mut self, name: &str) -> &mut Subject<S, R, T> {
        self.now += 1;
        if !self.all.contains_key(name) {
            if self.all.len() >= self.max_known {
                self.make_room();
            }
            let subject = Subject { points: HashMap::new(), lane: None, forgotten: false, asked: 0 };
            self.all.insert(name.into(), subject);
        }
        let subject = self.all.get_mut(name).unwrap_or_else(|| unreachable!("it was put there"));
        subject.asked = self.now;
        subject
    }

    fn at(&mut self, name: &str, point: Point) -> &mut AtPoint<S, R> {
        self.subject(name).points.entry(point).or_default()
    }

    fn make_room(&mut self) {
        let idle = self.all.iter().filter(|(_, subject)| subject.is_idle());
        if let Some(oldest) = idle.min_by_key(|(_, subject)| subject.asked).map(|(name, _)| Arc::clone(name)) {
            self.all.remove(&oldest);
        }
    }

    /// Forgets a subject that there is nothing to remember of.
    pub(super) fn tidy(&mut self, name: &str) {
        if self.all.get(name).is_some_and(|subject| subject.is_idle() && (subject.forgotten || subject.is_blank())) {
            self.all.remove(name);
        }
    }

    /// The session in progress.
    pub(super) fn session(&self, name: &str, point: Point) -> Option<&S> {
        self.point(name, point)?.session.as_ref()
    }

    /// Begins (`Some`) or ends the session in progress.
    pub(super) fn set_session(&mut self, name: &str, point: Point, session: Option<S>) {
        self.at(name, point).session = session;
        self.tidy(name);
    }

    /// Whether the hook has succeeded.
    pub(super) fn is_done(&self, name: &str, point: Point, key: &HookKey) -> bool {
        self.point(name, point).is_some_and(|at| at.done.contains(key))
    }

    /// Whether the hook is queued, or under way in the background.
    pub(super) fn is_pending(&self, name: &str, point: Point, key: &HookKey) -> bool {
        self.point(name, point).is_some_and(|at| at.pending.contains(key))
    }

    /// The hook has succeeded.
    pub(super) fn done(&mut self, name: &str, point: Point, key: HookKey) {
        self.at(name, point).done.insert(key);
    }

    /// Queues a run. It comes back if that is not possible.
    pub(super) fn put(&mut self, name: &str, queued: Queued<R>) -> (Put, Option<Queued<R>>) {
        if self.queued >= self.max_queued {
            return (Put::Full, Some(queued));
        }
        self.queued += 1;
        if queued.once {
            self.at(name, queued.point).pending.insert(queued.key.clone());
        }
        let lane = &mut self.subject(name).lane;
        let put = if lane.is_some() { Put::Behind } else { Put::First };
        lane.get_or_insert_with(|| Lane { queue: VecDeque::new(), current: None }).queue.push_back(queued);
        (put, None)
    }

    /// The next run of a lane, which is under way from now on and can be stopped by `stop`. If there is none, the lane is no more.
    pub(super) fn take(&mut self, name: &str, stop: T) -> Option<Queued<R>> {
        let subject = self.all.get_mut(name)?;
        let lane = subject.lane.as_mut()?;
        let Some(queued) = lane.queue.pop_front() else {
            subject.lane = None;
            self.tidy(name);
            return None;
        };
        lane.current = Some((queued.point, stop));
        self.queued -= 1;
        Some(queued)
    }

    /// The run under way has ended.
    pub(super) fn ended(&mut self, name: &str, point: Point, key: HookKey, once: bool, succeeded: bool) {
        if let Some(lane) = self.all.get_mut(name).and_then(|subject| subject.lane.as_mut()) {
            lane.current = None;
        }
        if once {
            let at = self.at(name, point);
            at.pending.remove(&key);
            if succeeded {
                at.done.insert(key);
            }
        }
    }

    /// Takes out what is queued, of `point` or of all points.
    pub(super) fn take_queued(&mut self, name: &str, point: Option<Point>) -> Vec<Queued<R>> {
        let Some(subject) = self.all.get_mut(name) else { return Vec::new() };
        let Some(lane) = subject.lane.as_mut() else { return Vec::new() };
        let all = std::mem::take(&mut lane.queue);
        let (taken, left): (Vec<_>, _) =
            all.into_iter().partition(|queued| point.is_none_or(|point| queued.point == point));
        lane.queue = left.into();
        for queued in taken.iter().filter(|queued| queued.once) {
            if let Some(at) = subject.points.get_mut(&queued.point) {
                at.pending.remove(&queued.key);
            }
        }
        self.queued -= taken.len();
        taken
    }

    /// What stops the run under way, if it is one of `point`.
    pub(super) fn current(&self, name: &str, point: Point) -> Option<&T> {
        let (at, stop) = self.all.get(name)?.lane.as_ref()?.current.as_ref()?;
        (*at == point).then_some(stop)
    }

    fn point(&self, name: &str, point: Point) -> Option<&AtPoint<S, R>> {
        self.all.get(name)?.points.get(&point)
    }

    fn point_mut(&mut self, name: &str, point: Point) -> Option<&mut AtPoint<S, R>> {
        self.all.get_mut(name)?.points.get_mut(&point)
    }

    /// One more call is under way that runs follow.
    pub(super) fn call(&mut self, name: &str, point: Point) {
        self.at(name, point).calls += 1;
    }

    /// Whether a run of the hook waits for such a call.
    pub(super) fn is_promised(&self, name: &str, point: Point, key: &HookKey) -> bool {
        self.point(name, point).is_some_and(|at| at.promised.contains_key(key))
    }

    /// Whether any does.
    pub(super) fn promises(&self, name: &str, point: Point) -> bool {
        self.point(name, point).is_some_and(|at| !at.promised.is_empty())
    }

    /// A run follows those calls.
    pub(super) fn promise(&mut self, name: &str, point: Point, key: HookKey, run: R) {
        self.at(name, point).promised.insert(key, run);
    }

    /// Such a call has succeeded (`kept`), or failed. Gives the runs that it decides upon: all, or those that no other call can save.
    pub(super) fn called(&mut self, name: &str, point: Point, kept: bool) -> HashMap<HookKey, R> {
        let Some(at) = self.point_mut(name, point) else { return HashMap::new() };
        at.calls = at.calls.saturating_sub(1);
        let decided = if kept || at.calls == 0 { std::mem::take(&mut at.promised) } else { HashMap::new() };
        self.tidy(name);
        decided
    }

    /// A run was left that a repeated call goes on with.
    pub(super) fn leave(&mut self, name: &str, point: Point, key: HookKey, run: R) {
        self.at(name, point).left.insert(key, run);
    }

    /// Whether there is such a run.
    pub(super) fn is_left(&self, name: &str, point: Point, key: &HookKey) -> bool {
        self.point(name, point).is_some_and(|at| at.left.contains_key(key))
    }

    /// Takes it, to go on with it or to end it.
    pub(super) fn take_left(&mut self, name: &str, point: Point, key: &HookKey) -> Option<R> {
        let taken = self.point_mut(name, point)?.left.remove(key);
        self.tidy(name);
        taken
    }

    /// Takes all runs that wait for a call, of `point` or of all points.
    pub(super) fn take_waiting(&mut self, name: &str, point: Option<Point>) -> Vec<R> {
        let Some(subject) = self.all.get_mut(name) else { return Vec::new() };
        let points = subject.points.iter_mut().filter(|(at, _)| point.is_none_or(|point| **at == point));
        let waiting = |at: &mut AtPoint<S, R>| {
            std::mem::take(&mut at.left).into_values().chain(std::mem::take(&mut at.promised).into_values())
        };
        let taken = points.flat_map(|(_, at)| waiting(at)).collect();
        self.tidy(name);
        taken
    }

    /// Whether anything is remembered of it.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.all.contains_key(name)
    }

    /// Nothing need be remembered of it, once everything has ended.
    pub(super) fn forget(&mut self, name: &str) {
        if let Some(subject) = self.all.get_mut(name) {
            subject.forgotten = true;
            self.tidy(name);
        }
    }

    /// How many subjects something is remembered of, and how many runs are queued.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.all.len(), self.queued)
    }
}

impl<S, R, T> Subject<S, R, T> {
    fn is_idle(&self) -> bool {
        self.lane.is_none() && self.points.values().all(AtPoint::is_idle)
    }

    fn is_blank(&self) -> bool {
        self.points.values().all(|at| at.done.is_empty())
    }
}

#[cfg(test)]
mod tests;
