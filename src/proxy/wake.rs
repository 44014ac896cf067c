//! Wakers that say which part of a task was woken.
//!
//! A connection is one task with several parts: the downstream half, the upstream halves, the calls, the dials. Each part is
//! polled under a [`Flag`] of its own, so that a wake-up polls what it concerns and nothing else. Flags that are raised
//! while the task is at work do not schedule it again: it looks at them before it goes to sleep.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Wake, Waker};

use futures_util::task::AtomicWaker;

/// What the flags of one task share.
#[derive(Debug, Default)]
pub struct Bell {
    task: AtomicWaker,
    busy: AtomicBool,
}

impl Bell {
    /// The task begins to look at its flags.
    pub fn begin(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
        self.busy.store(true, SeqCst);
    }

    /// The task is about to sleep. Flags that were raised before this call must be looked at after it.
    pub fn end(&self) {
        self.busy.store(false, SeqCst);
    }
}

/// One part's flag. It is raised at first, so that every part is polled once.
#[derive(Debug, Clone)]
pub struct Flag {
    inner: Arc<Inner>,
    waker: Waker,
}

#[derive(Debug)]
struct Inner {
    raised: AtomicBool,
    bell: Arc<Bell>,
}

impl Wake for Inner {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // SeqCst here and in `Bell`: either this sees that the task sleeps, or the task sees the flag.
        if !self.raised.swap(true, SeqCst) && !self.bell.busy.load(SeqCst) {
            self.bell.task.wake();
        }
    }
}

impl Flag {
    /// A flag of the task that owns `bell`.
    #[must_use]
    pub fn new(bell: &Arc<Bell>) -> Self {
        let inner = Arc::new(Inner { raised: AtomicBool::new(true), bell: Arc::clone(bell) });
        let waker = Waker::from(Arc::clone(&inner));
        Self { inner, waker }
    }

    /// Lowers the flag; true if it was raised.
    #[must_use]
    pub fn take(&self) -> bool {
        self.inner.raised.load(SeqCst) && self.inner.raised.swap(false, SeqCst)
    }

    /// Whether it is raised.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.inner.raised.load(SeqCst)
    }

    /// Raises it, from within the task.
    pub fn raise(&self) {
        self.inner.raised.store(true, SeqCst);
    }

    /// What the part is polled with.
    #[must_use]
    pub fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }
}
