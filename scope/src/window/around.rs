//! What is around the scope where it is polled: the task behind the waker, and whether that is one of tokio's.

use std::task::Waker;

use super::coop;
use super::core::Core;
use super::here;
use super::in_a_row::GaveWay;
use super::outer::{Around, PollId};
use super::parent::Seen;
use super::put_off::{Due, PutOff};
use crate::task::quietly;

/// So many windows of a nested scope are unsure in a row.
const UNSURE: u8 = 4;

/// What became of the first wake that a scope has put off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FirstPutOff {
    NotYet,
    UnderWay,
    Known,
}

impl Core {
    /// Whether polls of the scope are polls of a runtime of tokio's, with a budget; as far as can be told. Owner only; not
    /// in a member's poll, where somebody may have changed that for the time being, unless it
    /// [is known](Self::knows_its_host).
    pub(super) fn is_polled_by_tokio(&self) -> bool {
        self.host(false) == Some(true)
    }

    /// As [`is_polled_by_tokio`](Self::is_polled_by_tokio), for a window that is about to lend. `false`: it cannot be told in
    /// this window, which has to end soon, and in the next one it can.
    pub(super) fn is_sure_of_its_host(&self) -> bool {
        self.host(true).is_some()
    }

    /// `None`: there is no budget, but there may have been one when the poll began. A member that blocks in place where
    /// that is not a worker's poll takes it away for the rest of it. With `again`, the window ends soon, and from the next
    /// one on each asks before it polls anybody; the same of the windows around.
    fn host(&self, again: bool) -> Option<bool> {
        let owner = &self.owner;
        if owner.runtime.get() == coop::RuntimeId::default() {
            return Some(false);
        }
        if let Some(known) = owner.by_tokio.get() {
            return Some(known);
        }
        let known = if coop::has_budget_that_ends() {
            Some(true)
        } else if let Some(around) = Around::of(self).filter(|_| !owner.is_driven.get()) {
            self.host_around(&around, again)
        } else {
            self.host_alone()
        };
        owner.by_tokio.set(known);
        match known {
            Some(true) => owner.unsure.set(0),
            None if again => {
                owner.asks_early.set(true);
                owner.ends_early.set(true);
            }
            _ => {}
        }
        known
    }

    /// There is no budget here, in a window that is polled by a member of another one. Where that one's polls have none
    /// either, that is all. Where they have, either somebody has taken it away for the rest of the poll, and it is there again
    /// in the next; or the member drives the scope in an executor of its own, below `block_in_place`, say, which is seen
    /// when the scope is polled again in the same poll; or the member does without, as `unconstrained` has it, which is what
    /// remains after a few windows.
    fn host_around(&self, around: &Around<'_>, again: bool) -> Option<bool> {
        let by_tokio = match around.owned() {
            None => Some(coop::is_helper_inside()),
            Some(core) if core.owner.runtime.get() == self.owner.runtime.get() => core.host(again),
            Some(_) => return self.host_alone(),
        };
        if by_tokio != Some(true) {
            return by_tokio;
        }
        let unsure = self.owner.unsure.get();
        self.owner
            .unsure
            .set(unsure.saturating_add(u8::from(again)));
        (unsure >= UNSURE).then_some(false)
    }

    /// There is no budget here, and there was none when the poll began unless a member has taken it away.
    fn host_alone(&self) -> Option<bool> {
        self.is_untouched().then_some(false)
    }

    /// Nobody was polled in this window so far.
    fn is_untouched(&self) -> bool {
        self.owner.turns.taken() == self.owner.opened_at.get()
    }

    /// Whether [`is_polled_by_tokio`](Self::is_polled_by_tokio) may be asked from anywhere in this window.
    pub(super) fn knows_its_host(&self) -> bool {
        let owner = &self.owner;
        owner.by_tokio.get().is_some() || owner.runtime.get() == coop::RuntimeId::default()
    }

    /// A window begins, in which nobody was polled yet.
    #[inline]
    pub(super) fn look_around(&self) {
        let owner = &self.owner;
        owner.runtime.set(coop::RuntimeId::current());
        owner.opened_at.set(owner.turns.taken());
        owner.ends_early.set(false);
        let around = Around::of(self).map_or_else(PollId::default, |around| around.poll());
        let before = owner.around.replace(around);
        owner
            .is_driven
            .set(around == before && around != PollId::default());
        if owner.by_tokio.get() == Some(false) {
            owner.by_tokio.set(None);
        }
        if owner.asks_early.get() {
            let _ = self.host(true);
        }
    }

    /// A poll begins, with this waker. `true`: nobody is to be polled in it, and the task around is woken for another one.
    #[inline(always)]
    pub(super) fn puts_off_poll(&self, is_first: bool, waker: &Waker) -> bool {
        if !is_first {
            return self.puts_off_again(waker);
        }
        // Should it go on, the waker is noted when it comes to closing.
        let gives_way = here::gives_way_first();
        if gives_way {
            self.give_way_first(waker);
        }
        gives_way
    }

    fn puts_off_again(&self, waker: &Waker) -> bool {
        let again = self.owner.gave_way.get() != GaveWay::Never && self.gives_way_again(waker);
        again || self.polled_early(waker)
    }

    #[cold]
    fn give_way_first(&self, waker: &Waker) {
        self.owner.gave_way.set(GaveWay::First);
        self.wake_for_another(waker);
        self.owner.gave_way_in.set(here::has_told());
    }

    /// It gave way in its first poll. In the same poll of its task it may be polled again, where it was tried once and is waited
    /// for then: once more. But not for ever, for somebody may poll it in a loop.
    #[cold]
    fn gives_way_again(&self, waker: &Waker) -> bool {
        let before = self.owner.gave_way.replace(GaveWay::Never);
        let again = before == GaveWay::First && here::gave_way_just_now();
        if again {
            self.owner.gave_way.set(GaveWay::Twice);
            self.wake_for_another(waker);
        } else {
            if here::has_given_way(self.owner.gave_way_in.get()) {
                self.task_is_polled_anew(None);
            }
        }
        again
    }

    fn wake_for_another(&self, waker: &Waker) {
        self.polled_with(waker);
        if here::in_window() {
            return wake_at_once(waker);
        }
        self.look_around();
        self.wake_later(waker);
    }

    /// A poll begins, with this waker. `true`: nobody is to be polled in it ([`PutOff::polled`]).
    #[inline]
    fn polled_early(&self, waker: &Waker) -> bool {
        let seen = self.polled_with(waker);
        self.owner.put_off.borrow().is_some() && self.is_put_off(seen, waker)
    }

    /// A wake was put off when the last window gave way.
    #[cold]
    fn is_put_off(&self, seen: Seen, waker: &Waker) -> bool {
        let owner = &self.owner;
        let Some(mut put_off) = owner.put_off.take() else {
            return false;
        };
        if seen == Seen::Called {
            // Something has come for it, whatever the alarm has done.
            put_off.begin_anew();
        }
        let rung = (owner.alarm.borrow().as_ref()).is_some_and(coop::Alarm::has_rung);
        // Should the waker panic, the scope goes on.
        let mut due = Due::Blocked;
        quietly(|| {
            due = match seen {
                Seen::Called if put_off.is_open_here() => Due::Beside,
                _ => put_off.polled(rung, waker),
            }
        });
        match due {
            Due::Ask | Due::Wait => {
                owner.put_off.replace(Some(put_off));
                if due == Due::Ask {
                    self.wake_again(waker);
                } else {
                    self.keep_alarm(waker);
                }
                return true;
            }
            Due::Beside => {
                owner.put_off.replace(Some(put_off));
            }
            Due::Served => self.has_put_off(true),
            // After some windows it is tried again.
            Due::Blocked => self.has_put_off(false),
        }
        if let Some(alarm) = &*owner.alarm.borrow() {
            alarm.rest();
        }
        false
    }

    /// The poll may have come by a wake of the scope's own, which is spent now; and the worker may never come to the one that
    /// was put off.
    fn keep_alarm(&self, waker: &Waker) {
        let alarm = self.owner.alarm.borrow();
        if alarm.as_ref().is_some_and(coop::Alarm::waits) {
            return;
        }
        drop(alarm);
        quietly(|| self.set_alarm(waker));
    }

    fn wake_again(&self, waker: &Waker) {
        let mut told = false;
        quietly(|| {
            waker.wake_by_ref();
            told = true;
        });
        if !told {
            quietly(|| self.set_alarm(waker));
        }
    }

    /// Whether the wake of a window that gives way is put off. Owner only.
    pub(super) fn puts_off(&self) -> bool {
        if !coop::may_put_off(self.is_polled_by_tokio()) {
            return false;
        }
        let owner = &self.owner;
        if !owner.lateness.may_put_off() {
            return false;
        }
        // The first time nothing is known of that here. There may have been many scopes before that have found out.
        let goes_by_thread = owner.first_put_off.get() == FirstPutOff::NotYet;
        if goes_by_thread {
            if !here::may_put_off() {
                return false;
            }
            owner.first_put_off.set(FirstPutOff::UnderWay);
        }
        true
    }

    /// What this scope has put off came, or it did not. The first time others on this thread are to know.
    fn has_put_off(&self, came: bool) {
        self.owner.lateness.note(came, 9);
        let first = &self.owner.first_put_off;
        if first.replace(FirstPutOff::Known) == FirstPutOff::UnderWay {
            here::put_off(came);
        }
    }

    /// The scope has given way: the task around is to poll it again, after others.
    pub(super) fn wake_later(&self, waker: &Waker) {
        let puts_off = self.puts_off();
        if puts_off {
            quietly(|| self.set_alarm(waker));
        }
        let mut told = false;
        quietly(|| {
            if puts_off {
                self.wake_after_others(waker);
            } else {
                waker.wake_by_ref();
            }
            told = true;
        });
        if !told {
            // A waker that cannot be cloned, or that panics after it has woken: once too often is no harm.
            wake_at_once(waker);
        }
    }

    /// The wake is put off from here on.
    pub(super) fn set_alarm(&self, waker: &Waker) {
        let alarm = self.owner.alarm.take();
        let mut alarm = alarm.unwrap_or_else(|| coop::Alarm::new(waker));
        alarm.wait();
        self.owner.alarm.replace(Some(alarm));
    }

    /// The window has given way, and its thread is a worker of tokio's. A wake that this has put off already will come: it is
    /// for the same task, or [`polled_with`](Self::polled_with) has let go of it.
    pub(super) fn wake_after_others(&self, waker: &Waker) {
        let owner = &self.owner;
        let open = owner.put_off.take();
        let open = open.filter(PutOff::is_open_here);
        let put_off = open.unwrap_or_else(|| PutOff::begin(waker));
        owner.put_off.replace(Some(put_off));
    }

    /// A poll begins, with this waker. One by another task or executor than the last is looked at anew, and one inside
    /// another window, which may be on any thread.
    #[inline]
    pub(super) fn polled_with(&self, waker: &Waker) -> Seen {
        let seen = self.parent.register(waker);
        if seen == Seen::Other {
            self.silence();
        }
        if seen == Seen::Other || here::in_window() {
            self.owner.by_tokio.set(None);
        }
        seen
    }
}

/// Wakes the task around. A waker that panics is tried once more.
fn wake_at_once(waker: &Waker) {
    let mut told = false;
    for _ in 0..2 {
        if !told {
            quietly(|| {
                waker.wake_by_ref();
                told = true;
            });
        }
    }
}
