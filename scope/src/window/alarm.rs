//! The alarm behind a wake that was put off: somebody may block the worker that has it for later, in another executor, so
//! that the worker never comes to it. Whoever has given way and is not polled for [`PATIENCE`] is woken by the timer.
//!
//! A worker that is not blocked may take longer to come round: it has many tasks, or some of them are long. So who is woken
//! by the alarm asks first ([`PutOff::polled`](super::put_off::PutOff::polled)).
//!
//! The timer has one entry at most for it, in force for many windows, since to set one costs more than a short window. When
//! it is due it looks at what the owner has done meanwhile: while the scope is polled it is given up, and where the scope
//! was polled and gave way again it is set for later. A window of the scope's own, however long, is no wait.

use crate::sync::{AtomicU64, Ordering};

/// Nanoseconds after which a wait is too long.
pub(crate) const PATIENCE: u64 = 10_000_000;

/// The timer has no entry.
const UNSET: u64 = 0;
/// It has one, and the scope is being polled, or rests.
const POLLED: u64 = 1;
/// It had one, which has woken the task.
const RUNG: u64 = 2;
/// It has one, and the scope waits: since the moment that is left when this is taken off.
const SINCE: u64 = 3;

/// What an entry that is due has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Due {
    /// Nobody waits; the entry is over.
    Nothing,
    /// To wake the task; the entry is over.
    Wake,
    /// To come again then.
    Again(u64),
}

/// The owner's word with the timer. Moments are nanoseconds since any beginning.
#[derive(Debug)]
pub(crate) struct Ring(AtomicU64);

impl Ring {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(UNSET))
    }

    /// The owner waits from now on to be polled. `true`: there is no entry, and it has to make one.
    pub(crate) fn wait(&self, now: u64) -> bool {
        // Relaxed, here and below: one word, which each side changes in one step, and which orders nothing else.
        matches!(self.0.swap(SINCE + now, Ordering::Relaxed), UNSET | RUNG)
    }

    /// Whether the entry has woken the task; it is over then. Once.
    pub(crate) fn has_rung(&self) -> bool {
        let rung = |seen| (seen == RUNG).then_some(UNSET);
        self.change(rung).is_ok()
    }

    /// Whether the owner waits.
    pub(crate) fn waits(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= SINCE
    }

    /// The owner does not wait any more.
    pub(crate) fn rest(&self) {
        let rests = |seen| match seen {
            UNSET | POLLED => None,
            RUNG => Some(UNSET),
            _ => Some(POLLED),
        };
        let _ = self.change(rests);
    }

    /// The entry is due.
    pub(crate) fn due(&self, now: u64) -> Due {
        let due = |seen| match seen {
            UNSET | RUNG => None,
            POLLED => Some(UNSET),
            since => (since - SINCE + PATIENCE <= now).then_some(RUNG),
        };
        match self.change(due) {
            Ok(POLLED) | Err(UNSET | RUNG) => Due::Nothing,
            Ok(_) => Due::Wake,
            Err(since) => Due::Again(since - SINCE + PATIENCE),
        }
    }

    /// The entry cannot wait until it is due.
    pub(crate) fn rings_early(&self) {
        self.0.store(RUNG, Ordering::Relaxed);
    }

    fn change(&self, to: impl FnMut(u64) -> Option<u64>) -> Result<u64, u64> {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, to)
    }
}

#[cfg(feature = "tokio")]
mod entry {
    use std::sync::Arc;
    use std::task::{Wake, Waker};
    use std::time::{Duration, Instant};

    use selvedge_cancel::Ticket;

    use super::{Due, PATIENCE, Ring};
    use crate::sync::{AtomicU32, Mutex, Ordering, lock};
    use crate::task::quietly;

    /// The alarm of one task around a scope.
    #[derive(Debug)]
    pub(crate) struct Alarm {
        entry: Arc<Entry>,
        ticket: Option<Ticket>,
    }

    #[derive(Debug)]
    struct Entry {
        ring: Ring,
        began: Instant,
        /// Whom it wakes. Away with the alarm, whatever the timer still has of it.
        waker: Mutex<Option<Arc<Waker>>>,
        /// Somebody makes an entry. Woken meanwhile: the timer has no thread for it.
        in_making: AtomicU32,
    }

    impl Alarm {
        /// Runs code of the waker.
        pub(crate) fn new(waker: &Waker) -> Self {
            let entry = Arc::new(Entry {
                ring: Ring::new(),
                began: Instant::now(),
                waker: Mutex::new(Some(Arc::new(waker.clone()))),
                in_making: AtomicU32::new(0),
            });
            Self {
                entry,
                ticket: None,
            }
        }

        /// The task waits from now on.
        pub(crate) fn wait(&mut self) {
            let now = self.entry.now();
            if self.entry.ring.wait(now) {
                // One that found no thread to serve it may be there still.
                self.silence();
                self.ticket = Some(self.entry.set(now + PATIENCE));
            }
        }

        pub(crate) fn waits(&self) -> bool {
            self.entry.ring.waits()
        }

        pub(crate) fn has_rung(&self) -> bool {
            self.entry.ring.has_rung()
        }

        pub(crate) fn rest(&self) {
            self.entry.ring.rest();
        }

        fn silence(&mut self) {
            if let Some(ticket) = self.ticket.take() {
                quietly(|| crate::rt::embedded().cancel(ticket));
            }
        }
    }

    impl Drop for Alarm {
        fn drop(&mut self) {
            self.entry.ring.rest();
            let waker = lock(&self.entry.waker).take();
            quietly(|| drop(waker));
            self.silence();
        }
    }

    impl Entry {
        fn now(&self) -> u64 {
            u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX / 2)
        }

        fn set(self: &Arc<Self>, at: u64) -> Ticket {
            let at = self.began + Duration::from_nanos(at);
            let waker = Waker::from(Arc::clone(self));
            // Relaxed: a thread that sees it late wakes the task once too often.
            self.in_making.store(1, Ordering::Relaxed);
            let ticket =
                crate::rt::embedded().schedule(selvedge_cancel::Instant::from_std(at), &waker);
            self.in_making.store(0, Ordering::Relaxed);
            ticket
        }
    }

    impl Wake for Entry {
        /// On the timer's thread, as a rule.
        fn wake(self: Arc<Self>) {
            let due = if self.in_making.load(Ordering::Relaxed) == 0 {
                self.ring.due(self.now())
            } else {
                self.ring.rings_early();
                Due::Wake
            };
            match due {
                Due::Nothing => {}
                Due::Again(at) => {
                    self.set(at);
                }
                Due::Wake => {
                    let waker = lock(&self.waker).clone();
                    if let Some(waker) = waker {
                        // One by one: both are a user's, and may panic.
                        quietly(|| waker.wake_by_ref());
                        quietly(|| drop(waker));
                    }
                }
            }
        }
    }
}

#[cfg(feature = "tokio")]
pub(crate) use entry::Alarm;
