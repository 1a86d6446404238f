//! The end of a window: the owner waits for helpers, sends them away when the budget is spent, takes back
//! what was shared, and closes. What it polls before is in [`owner`](super::owner).

use std::task::Context;
use std::time::{Duration, Instant};

use super::context::{in_the_open, long_wait};
use super::core::Core;
use super::outer::Around;
use super::owner::{Body, Run, Window};
use super::{policy, stats};
use crate::pool::{Worker, run_a_job};
use crate::sync::spin_loop;
use crate::task::{List, quietly};

/// What an owner did that has sent its helpers away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Polled,
    Nothing,
    /// It left something alone that takes long.
    Later,
}

/// Since when an owner waits that has sent its helpers away, and for how long it had waited when nobody was left of those who
/// were inside then.
#[derive(Clone, Copy)]
struct Drain {
    from: Instant,
    shut: Option<Duration>,
    /// Somebody whose kind is known to be short was polled for long.
    surprised: bool,
}

/// What an owner waits for that has sent its helpers away, besides that.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    TheyAreOut,
    TheyTakeLong,
    /// For a while, in which the tasks beside the scope move to another thread.
    OthersMove,
    /// Those may bring it who leave before others do.
    ThereIsWork,
}

impl Window<'_> {
    /// Waits until helpers or wakers have something for the owner.
    pub(super) fn wait(&self, news: u32) {
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
                let mut left = core.owner.budget.get().map_or(policy::NAP, |budget| {
                    budget.until().saturating_duration_since(Instant::now())
                });
                if Around::of(core).is_some() {
                    // It may be called back there.
                    left = left.min(policy::LONG);
                }
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
            // They all leave, and nobody is to come back for it.
            self.withdraws = false;
            core.monitor.drain();
            let from = Instant::now();
            let mut drain = Drain {
                from,
                shut: None,
                surprised: false,
            };
            let mut others_move = policy::LONG;
            // The poll cannot end before the helpers' polls do, so what is ready here goes on (rule W9).
            while !core.monitor.is_empty() {
                if core.owner.noticed.get() {
                    core.take_notice();
                }
                // What is left after a grace is to be dropped, and not polled.
                if core.owner.aborted.get() {
                    core.monitor.drain();
                    core.sort(core.inbox.take());
                    self.wait_out(Until::TheyAreOut);
                    continue;
                }
                let beside = self.poll_one(body, &mut drain);
                let stays = cfg!(selvedge_loom) || from.elapsed() < others_move;
                match beside {
                    Beside::Nothing => self.wait_out(Until::ThereIsWork),
                    Beside::Polled if stays => {}
                    Beside::Later if stays => self.wait_out(Until::TheyTakeLong),
                    Beside::Polled | Beside::Later => {
                        // Somebody is always ready here, and a helper is in a long poll.
                        others_move *= 8;
                        self.wait_out(Until::OthersMove);
                    }
                }
            }
        }
        self.close();
        // The scope lets others have their turns, whoever came back in it.
        core.owner.came_back.set(false);
        // The thread is no owner any more when the parent is told: what `wake` does is any stranger's doing,
        // and on another thread the next poll may have begun.
        self.leave();
        core.wake_later(cx.waker());
        Run::Rest
    }

    /// Whether others may come, and the owner begin more than what is short: not any more when those who were to leave have, and
    /// only those are inside who have come since. Unless one of them takes as long as all did before. So there may be a few such
    /// turns, each twice as long as the last, and each for a poll that lasts for half of it.
    fn admits(&self, drain: &mut Drain, waited: Duration) -> bool {
        let monitor = &self.core.monitor;
        if !monitor.admit(drain.from) {
            let shut = *drain.shut.get_or_insert(waited);
            if waited < 2 * shut {
                return false;
            }
            monitor.drain();
            if !monitor.admit(drain.from) {
                return false;
            }
        }
        drain.shut = None;
        true
    }

    /// While draining: one poll of something that is ready, and that takes no longer than this has. If somebody is in a long
    /// poll, helpers come for the like.
    fn poll_one(&mut self, body: &mut dyn Body, drain: &mut Drain) -> Beside {
        let core = self.core;
        if core.inbox.has_mail() {
            core.sort(core.inbox.take());
        }
        // A model has no clock.
        let waited = if cfg!(selvedge_loom) {
            Duration::ZERO
        } else {
            drain.from.elapsed()
        };
        let surprised = drain.surprised;
        let admits = waited < policy::LONG || self.admits(drain, waited);
        let is_fine = |key: usize| match admits {
            true => policy::may_begin(key, waited),
            false => policy::is_known_short(key) && !surprised,
        };
        // What was woken may have been spawned and polled on a helper: it is registered before it may end (L4).
        let (news, more) = self.exchange_fitting(is_fine);
        if core.owner.noticed.get() {
            // Who is to be dropped is not polled.
            return Beside::Polled;
        }
        let turns = &core.owner.turns;
        let key = body.next_key(core);
        let its_turn = turns.is_body_ready() && (turns.is_body_due() || self.packet.is_empty());
        if its_turn && is_fine(key) {
            let has_packet = !self.packet.is_empty();
            if has_packet {
                self.share_packet();
            }
            self.poll_beside(drain, key, more || has_packet, |this| {
                this.poll_body(body);
            });
            return Beside::Polled;
        }
        if let Some((header, key)) = self.packet.pop_front_with_key() {
            turns.take();
            self.poll_beside(drain, key, more, |this| {
                if policy::is_known_short(key) {
                    this.poll(header);
                } else {
                    this.poll_and_learn(header, key);
                }
            });
            return Beside::Polled;
        }
        if news.left == 0 && !turns.is_body_ready() {
            Beside::Nothing
        } else {
            Beside::Later
        }
    }

    /// While draining: somebody is polled. With `more`, there are others who might be.
    fn poll_beside(
        &mut self,
        drain: &mut Drain,
        key: usize,
        more: bool,
        poll: impl FnOnce(&mut Self),
    ) {
        let core = self.core;
        let is_short = policy::is_known_short(key);
        if !is_short {
            // The poll of the scope ends no sooner, whoever comes back meanwhile.
            core.monitor.owner_goes(drain.from);
        }
        core.set_big(!is_short);
        if more || (!is_short && core.inbox.has_mail()) {
            core.ask();
        }
        let from = Instant::now();
        poll(self);
        // A model has no clock.
        drain.surprised |= is_short && !cfg!(selvedge_loom) && from.elapsed() >= policy::LONG;
        core.set_big(false);
        if !is_short {
            core.monitor.owner_is_back();
        }
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
                self.wait_out(Until::TheyAreOut);
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

    /// While draining: waits for the helpers to leave, or for mail, or for what else is said.
    fn wait_out(&self, until: Until) {
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
            if until == Until::ThereIsWork {
                let stirred = || called() || core.owner.has_work();
                core.monitor.wait(stirred, Some(most))
            } else {
                core.monitor.wait_empty(called, most)
            }
        };
        let worker = core.pool().worker();
        if worker != Worker::No {
            wait(policy::NAP);
        } else if until == Until::OthersMove {
            long_wait(|| {
                wait(policy::LONG);
            });
        } else if !wait(policy::LONG) && until != Until::TheyTakeLong {
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
