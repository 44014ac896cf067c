//! How many runs are under way at once, and whose turn it is.
//!
//! A hook may take a slot only while it holds less than three times as many as are free: one whose server hangs fills three quarters of them
//! and no more, the next one three quarters of the rest, and so on, so that there is always room for those that work. Those of one hook come in
//! the order in which they asked; hooks take turns.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use super::{HookKey, locked};

/// How many slots a hook may hold for each that is free.
const SHARE: usize = 3;

/// Whether a hook that holds `held` slots may take one more.
const fn may_take(held: usize, free: usize) -> bool {
    free > 0 && (held == 0 || held < SHARE * free)
}

/// Who holds and who waits, without tasks: `W` is whoever waits.
struct Ledger<W> {
    free: usize,
    flows: HashMap<HookKey, Flow<W>>,
    /// Hooks with somebody waiting, whose turn it is first.
    turns: VecDeque<HookKey>,
    next: u64,
}

struct Flow<W> {
    held: usize,
    waiting: VecDeque<(u64, W)>,
}

impl<W> Ledger<W> {
    fn new(slots: usize) -> Self {
        Self { free: slots, flows: HashMap::new(), turns: VecDeque::new(), next: 0 }
    }

    /// Takes a slot, or else waits under the number that is given.
    fn ask(&mut self, key: &HookKey, who: impl FnOnce() -> W) -> Option<u64> {
        let flow = self.flows.entry(key.clone()).or_insert_with(|| Flow { held: 0, waiting: VecDeque::new() });
        if flow.waiting.is_empty() && may_take(flow.held, self.free) {
            flow.held += 1;
            self.free -= 1;
            return None;
        }
        if flow.waiting.is_empty() {
            self.turns.push_back(key.clone());
        }
        let number = self.next;
        self.next += 1;
        flow.waiting.push_back((number, who()));
        Some(number)
    }

    /// Gives a slot back; those who get one now.
    fn give(&mut self, key: &HookKey) -> Vec<(HookKey, W)> {
        self.free += 1;
        if let Some(flow) = self.flows.get_mut(key) {
            flow.held = flow.held.saturating_sub(1);
        }
        self.tidy(key);
        let mut granted = Vec::new();
        let mut refused = 0;
        while refused < self.turns.len() && self.free > 0 {
            let Some(key) = self.turns.pop_front() else { break };
            let Some(flow) = self.flows.get_mut(&key) else { continue };
            if may_take(flow.held, self.free)
                && let Some((_, who)) = flow.waiting.pop_front()
            {
                flow.held += 1;
                self.free -= 1;
                refused = 0;
                granted.push((key.clone(), who));
            } else {
                refused += 1;
            }
            if !flow.waiting.is_empty() {
                self.turns.push_back(key);
            }
        }
        granted
    }

    /// Whoever waits under that number does not any more.
    fn withdraw(&mut self, key: &HookKey, number: u64) {
        if let Some(flow) = self.flows.get_mut(key) {
            flow.waiting.retain(|(waiting, _)| *waiting != number);
            if flow.waiting.is_empty() {
                self.turns.retain(|waiting| waiting != key);
            }
        }
        self.tidy(key);
    }

    /// Forgets a hook that neither holds nor waits.
    fn tidy(&mut self, key: &HookKey) {
        if self.flows.get(key).is_some_and(|flow| flow.held == 0 && flow.waiting.is_empty()) {
            self.flows.remove(key);
        }
    }
}

/// A pool of slots; cheap to clone.
#[derive(Clone)]
pub(super) struct Slots(Arc<Mutex<Ledger<oneshot::Sender<Slot>>>>);

/// Held by a run while an attempt is under way.
pub(super) struct Slot {
    slots: Slots,
    key: HookKey,
}

/// A place in the queue; left when dropped.
struct Place<'a> {
    slots: &'a Slots,
    key: &'a HookKey,
    /// `None` once it has got its slot.
    number: Option<u64>,
}

impl Slots {
    pub(super) fn new(slots: usize) -> Self {
        Self(Arc::new(Mutex::new(Ledger::new(slots.max(1)))))
    }

    /// Waits for a slot.
    pub(super) async fn take(&self, key: &HookKey) -> Slot {
        let mut granted = None;
        let number = locked(&self.0).ask(key, || {
            let (grant, on_grant) = oneshot::channel();
            granted = Some(on_grant);
            grant
        });
        let mut place = Place { slots: self, key, number };
        if let Some(granted) = granted {
            match granted.await {
                Ok(slot) => {
                    place.number = None;
                    return slot;
                }
                // A ledger keeps whom it has not served until they withdraw.
                Err(_never) => std::future::pending::<()>().await,
            }
        }
        Slot { slots: self.clone(), key: key.clone() }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number.take() {
            locked(&self.slots.0).withdraw(self.key, number);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let granted = locked(&self.slots.0).give(&self.key);
        for (key, grant) in granted {
            // If nobody waits there any more, the slot comes back and is dropped here: it goes on to the next.
            let _unwanted = grant.send(Slot { slots: self.slots.clone(), key });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(hook: &str) -> HookKey {
        HookKey { policy: "p".into(), hook: hook.into() }
    }

    #[test]
    fn hooks_that_hang_leave_room_for_those_that_do_not() {
        let mut ledger = Ledger::new(64);
        let mut fill = |hook: &str| (0..100).filter(|n| ledger.ask(&key(hook), || *n).is_none()).count();
        assert_eq!(["a", "b", "c", "d", "e", "f", "g", "h"].map(&mut fill), [48, 12, 3, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn those_of_one_hook_come_in_order_and_hooks_take_turns() {
        let mut ledger = Ledger::new(1);
        assert_eq!(ledger.ask(&key("a"), || "a0"), None);
        for (hook, who) in [("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("b", "b2")] {
            assert!(ledger.ask(&key(hook), || who).is_some());
        }
        let mut holder = key("a");
        let mut order = Vec::new();
        while let Some((next, who)) = ledger.give(&holder).pop() {
            holder = next;
            order.push(who);
        }
        assert_eq!(order, ["a1", "b1", "a2", "b2", "a3"]);
        assert!(ledger.flows.is_empty() && ledger.turns.is_empty(), "nothing is kept of those who are done");
    }

    #[tokio::test]
    async fn one_who_leaves_the_queue_is_passed_over() {
        let slots = Slots::new(1);
        let (one, two) = (key("one"), key("two"));
        let held = slots.take(&one).await;
        let waits = Box::pin(slots.take(&one));
        let mut leaves = Box::pin(slots.take(&two));
        tokio::select! { biased; _ = &mut leaves => panic!("there is but one slot"), () = std::future::ready(()) => {} }
        drop(leaves);
        drop(held);
        drop(waits.await);
        assert_eq!(locked(&slots.0).free, 1);
        assert!(locked(&slots.0).flows.is_empty());
    }

    proptest! {
        #[test]
        fn slots_are_bounded_and_nobody_waits_who_could_go(
            slots in 1_usize..20, steps in proptest::collection::vec((0_u8..3, 0_usize..4, 0_usize..50), 1..300),
        ) {
            let keys = ["a", "b", "c", "d"].map(key);
            let mut ledger = Ledger::new(slots);
            let (mut holders, mut waiters) = (Vec::new(), Vec::new());
            for (step, hook, which) in steps {
                match step {
                    0 => match ledger.ask(&keys[hook], || ()) {
                        None => holders.push(keys[hook].clone()),
                        Some(number) => waiters.push((keys[hook].clone(), number)),
                    },
                    1 if !holders.is_empty() => {
                        let key = holders.swap_remove(which % holders.len());
                        for (key, ()) in ledger.give(&key) {
                            let first = waiters.iter().position(|(waiting, _)| *waiting == key);
                            waiters.remove(first.expect("it waited"));
                            holders.push(key);
                        }
                    }
                    2 if !waiters.is_empty() => {
                        let (key, number) = waiters.remove(which % waiters.len());
                        ledger.withdraw(&key, number);
                    }
                    _ => {}
                }
                prop_assert_eq!(ledger.free + holders.len(), slots);
                for key in &keys {
                    let held = holders.iter().filter(|holder| *holder == key).count();
                    let waits = waiters.iter().any(|(waiting, _)| waiting == key);
                    prop_assert!(!waits || !may_take(held, ledger.free), "{key:?} waits for nothing");
                }
            }
        }
    }
}
