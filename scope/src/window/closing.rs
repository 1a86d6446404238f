//! The end of a window: the owner waits for helpers, sends them away when the budget is spent, takes back
//! what was shared, and closes. What it polls before is in [`owner`](super::owner).

use std::task::Context;
use std::time::Instant;

use super::context::{in_the_open, long_wait};
use super::core::Core;
use super::owner::{Body, Run, Window};
use super::{policy, stats};
use crate::pool::{Worker, run_a_job};
use crate::sync::spin_loop;
use crate::task::{List, quietly};

impl Window<'_> {
    /// Waits until helpers or wakers have something for the owner.
    pub(super) fn wait(&self, news: usize) {
        let core = self.core;
        let from = Instant::now();
        let mut spins = 0u32;
        loop {
            if core.inbox.has_mail() || core.monitor.news() != news {
                return;
            }
            spin_loop();
            spins += 1;
            if spins == policy::SPINS {
                if from.elapsed() >= policy::SPIN {
                    break;
                }
                spins = 0;
            }
        }
        stats::count(&stats::PARKS);
        let worker = core.pool().worker();
        if !core.inbox.park() {
            return;
        }
        // Tokio may wake what it has put off on this very thread, past the inbox.
        let stirred = || !core.inbox.is_parked() || core.owner.has_work();
        if worker == Worker::No {
            if !core.monitor.wait(stirred, Some(policy::LONG)) {
                // No longer than the budget: a helper that polls on and on rings for nothing else.
                let left = self.until.map_or(policy::NAP, |until| {
                    until.saturating_duration_since(Instant::now())
                });
                long_wait(|| {
                    core.monitor.wait(stirred, Some(left));
                });
            }
        } else {
            core.monitor.wait(stirred, Some(policy::NAP));
        }
        core.inbox.unpark();
        look_after(core, worker);
    }

    /// The budget is spent: takes everything back and lets the tasks beside the scope run.
    pub(super) fn give_way(&mut self, cx: &Context<'_>, body: &mut dyn Body) -> Run {
        let core = self.core;
        core.hear_at_last();
        // There is no new one before the next poll: whoever is polled below and lacks it must wait.
        self.budgeted = false;
        if core.owner.lent.get() {
            core.monitor.drain();
            // The poll cannot end before the helpers' polls do, so what is ready here goes on (rule W9).
            while !core.monitor.is_empty() {
                if core.owner.noticed.get() {
                    core.take_notice();
                }
                // What is left after a grace is to be dropped, and not polled.
                if core.owner.aborted.get() {
                    core.sort(core.inbox.take());
                    self.wait_out(false);
                } else if !self.poll_one(body) {
                    self.wait_out(true);
                }
            }
        }
        self.close();
        // The scope lets others have their turns, whoever came back in it.
        core.owner.came_back.set(false);
        // The thread is no owner any more when the parent is told: what `wake` does is any stranger's doing,
        // and on another thread the next poll may have begun.
        drop(self.frame.take());
        core.wake_later(cx.waker());
        Run::Rest
    }

    /// While draining: one poll of something that is ready.
    fn poll_one(&mut self, body: &mut dyn Body) -> bool {
        let core = self.core;
        if core.inbox.has_mail() {
            core.sort(core.inbox.take());
        }
        // What was woken may have been spawned and polled on a helper: it is registered before it may end (L4).
        let most = usize::from(self.packet.is_empty());
        self.exchange(&core.owner.local, most);
        if core.owner.turns.is_body_due() && self.poll_body(body) {
            return true;
        }
        if let Some(header) = self.packet.pop_front() {
            core.owner.turns.take();
            self.poll(header);
            return true;
        }
        self.poll_body(body)
    }

    /// Sends the helpers away, takes back what is shared, and closes the window.
    pub(super) fn close(&mut self) {
        if self.over {
            return;
        }
        let core = self.core;
        // Again, should dropping what the helpers had been given spawn and lend.
        while core.owner.lent.get() {
            core.monitor.drain();
            while !core.monitor.is_empty() {
                // Or the wait would end at once, again and again.
                core.sort(core.inbox.take());
                self.wait_out(false);
            }
            self.end_lending();
        }
        while !core.inbox.close() {
            core.sort(core.inbox.take());
        }
        self.over = true;
    }

    /// No helper is inside: closes the monitor and takes what is left in it.
    pub(super) fn end_lending(&mut self) {
        let core = self.core;
        let Some(context) = core.monitor.close() else {
            return;
        };
        core.owner.lent.set(false);
        // On a helper, perhaps.
        core.owner.came_back.set(true);
        core.set_big(false);
        self.withdraws = false;
        let (back, mail) = (List::new(), List::new());
        back.append(&self.packet);
        let news = core.monitor.take_back(&back, &mail, &core.owner.done);
        self.take_in(&news);
        core.owner.local.prepend(&back);
        core.owner.turns.mail.prepend(&mail);
        quietly(|| drop(context));
    }

    /// While draining: waits for the helpers to leave. If the owner `polls` meanwhile, for something to do as well, which
    /// those may bring who leave before others do.
    fn wait_out(&self, polls: bool) {
        let core = self.core;
        let news = core.monitor.news();
        let from = Instant::now();
        while core.monitor.news() == news && !core.inbox.has_mail() && from.elapsed() < policy::SPIN
        {
            spin_loop();
        }
        if !core.inbox.park() {
            return;
        }
        let wait = |most| {
            let called = || !core.inbox.is_parked();
            if polls {
                let stirred = || called() || core.owner.has_work();
                core.monitor.wait(stirred, Some(most))
            } else {
                core.monitor.wait_empty(called, most)
            }
        };
        let worker = core.pool().worker();
        if worker != Worker::No {
            wait(policy::NAP);
        } else if !wait(policy::LONG) {
            long_wait(|| {
                wait(policy::ENDLESS);
            });
        }
        core.inbox.unpark();
        look_after(core, worker);
    }
}

/// The one exception to "nothing but its own scope" (rule W9): a rayon worker looks after its queue.
fn look_after(core: &Core, worker: Worker) {
    // No task is being polled, and a job that comes up now is none of the scope's: it may await whatever it likes,
    // and sees nothing of what is in force here.
    core.owner.node.set_task(std::ptr::null());
    match worker {
        Worker::No => {}
        Worker::Own => in_the_open(|| {
            run_a_job(rayon_core::yield_local);
        }),
        Worker::Foreign => in_the_open(|| {
            run_a_job(rayon_core::yield_now);
        }),
    }
}
