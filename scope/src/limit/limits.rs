//! What a scope keeps of its limits in time: deadline, the time between a stop and the cancel, and grace.
//! Not the state of the scope, which is its token's; here is only what has to happen when.

use std::task::Waker;
use std::time::Duration;

use selvedge_cancel::{CancelToken, Instant, Phase};

use super::{Act, Alarm, Place, Target};
use crate::sync::{Mutex, lock};
use crate::task::quietly;
use crate::time::Clock;

/// The limits of one scope. Whoever has a handle to the scope may move its deadline, from any thread; the
/// rest is for the scope itself, which has none of this while nothing is set. Limits that are made when the scope runs
/// already begin at once, by the clock that the core has kept.
#[derive(Debug)]
pub(crate) struct Limits {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    stage: Stage,
    /// That of the scope's own poll: a deadline that another thread moves goes by it too.
    clock: Clock,
    wishes: Wishes,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Fresh,
    Begun,
    Ended,
}

/// A length of time that counts from something that has yet to happen.
type Span = (Duration, Place);

#[derive(Debug, Default)]
struct Wishes {
    after: Option<Span>,
    deadline: Option<Target>,
    stop_within: Option<Span>,
    grace: Option<Span>,
    cancel_at_deadline: Option<Alarm>,
    cancel_after_stop: Option<Alarm>,
    abort_after_grace: Option<Alarm>,
}

impl State {
    /// Makes the deadline known to those who ask, and aims the alarm at it; settling is the caller's,
    /// without the lock.
    fn aim_deadline(&mut self, token: &CancelToken, target: Option<Target>) -> Option<Alarm> {
        // In here, so that of two who move it the same one wins in both places.
        let clock = self.clock.clone();
        match target {
            Some(Target { at, place }) => token.set_limit(Some(at), place, clock.installed()),
            None => token.set_deadline(None),
        }
        let alarm = &mut self.wishes.cancel_at_deadline;
        if alarm.is_none() && target.is_some() {
            *alarm = Some(Alarm::new(token.clone(), Act::Cancel, clock));
        }
        let alarm = alarm.clone()?;
        alarm.aim(target);
        Some(alarm)
    }
}

fn sooner_of_spans(one: Option<Span>, other: Span) -> Option<Span> {
    Some(one.filter(|one| one.0 <= other.0).unwrap_or(other))
}

fn sooner(one: Option<Target>, other: Option<Target>) -> Option<Target> {
    match (one, other) {
        (Some(one), Some(other)) if other.at < one.at => Some(other),
        (Some(one), _) => Some(one),
        (None, other) => other,
    }
}

impl Limits {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                stage: Stage::Fresh,
                clock: Clock::default(),
                wishes: Wishes::default(),
            }),
        }
    }

    /// A deadline that counts from the first poll; the sooner of several wishes holds.
    pub(crate) fn timeout(&self, after: Duration, place: Place) {
        let mut state = lock(&self.state);
        let wishes = &mut state.wishes;
        wishes.after = sooner_of_spans(wishes.after, (after, place));
    }

    /// A deadline; the sooner of several wishes holds.
    pub(crate) fn deadline(&self, at: Instant, place: Place) {
        let mut state = lock(&self.state);
        let wishes = &mut state.wishes;
        wishes.deadline = sooner(wishes.deadline, Some(Target { at, place }));
    }

    /// How long after a cancel the abort phase begins; the sooner of several wishes holds.
    pub(crate) fn grace(&self, after: Duration, place: Place) {
        let mut state = lock(&self.state);
        let wishes = &mut state.wishes;
        wishes.grace = sooner_of_spans(wishes.grace, (after, place));
    }

    /// How long after a stop the cancel follows; the sooner of several wishes holds.
    pub(crate) fn stop_within(&self, after: Duration, place: Place) {
        let mut state = lock(&self.state);
        let wishes = &mut state.wishes;
        wishes.stop_within = sooner_of_spans(wishes.stop_within, (after, place));
    }

    /// In the scope's first poll: deadlines begin to count, by the clock in force here.
    pub(crate) fn begin(&self, token: &CancelToken) {
        if lock(&self.state).stage == Stage::Fresh {
            self.begin_by(token, Clock::current());
        }
    }

    /// Deadlines begin to count, by this clock, which is that of the scope's first poll. One that has passed cancels
    /// before this returns. Later calls do nothing.
    pub(crate) fn begin_by(&self, token: &CancelToken, clock: Clock) {
        let now = clock.now();
        let alarm = {
            let mut state = lock(&self.state);
            if state.stage != Stage::Fresh {
                return;
            }
            state.stage = Stage::Begun;
            state.clock = clock;
            let wishes = &mut state.wishes;
            let after = wishes.after.map(|(after, place)| Target {
                at: now + after,
                place,
            });
            match sooner(wishes.deadline, after) {
                None => None,
                target => state.aim_deadline(token, target),
            }
        };
        if let Some(alarm) = alarm {
            alarm.settle();
        }
    }

    /// Replaces whatever deadline was set, by another or by none; any thread may, at any time. Before the
    /// beginning nothing happens yet, after the end nothing any more.
    pub(crate) fn set_deadline(&self, token: &CancelToken, at: Option<Instant>, place: Place) {
        let target = at.map(|at| Target { at, place });
        // Not under the lock: a timer may be user code.
        let clock = {
            let state = lock(&self.state);
            (state.stage == Stage::Begun).then(|| state.clock.clone())
        };
        let over = target.filter(|target| clock.is_some_and(|clock| target.at <= clock.now()));
        let alarm = {
            let mut state = lock(&self.state);
            match state.stage {
                Stage::Ended => None,
                Stage::Fresh => {
                    token.set_deadline(at);
                    let wishes = &mut state.wishes;
                    wishes.after = None;
                    wishes.deadline = target;
                    None
                }
                Stage::Begun => state.aim_deadline(token, target),
            }
        };
        match (alarm, over) {
            (Some(alarm), Some(over)) => alarm.settle_over(over),
            (Some(alarm), None) => alarm.settle(),
            (None, _) => {}
        }
    }

    /// After the scope has noticed that its token's phase changed: what counts from that change begins to.
    pub(crate) fn look(&self, token: &CancelToken) {
        self.look_in(token, token.phase());
    }

    /// A stop may have been asked for: what counts from there begins to, also while somebody in the scope is in a long
    /// poll. On the thread that asks, so not by a timer of a user's.
    pub(crate) fn look_at_stop(&self, token: &CancelToken) {
        if token.phase() == Phase::Stopping && lock(&self.state).clock.installed().is_none() {
            self.look_in(token, Phase::Stopping);
        }
    }

    fn look_in(&self, token: &CancelToken, phase: Phase) {
        if phase == Phase::Running {
            return;
        }
        let clock = {
            let state = lock(&self.state);
            if state.stage != Stage::Begun {
                return;
            }
            state.clock.clone()
        };
        let now = clock.now();
        let arm = |alarm: &mut Option<Alarm>, span: Option<Span>, act: Act| {
            let (after, place) = span.filter(|_| alarm.is_none())?;
            let new = Alarm::new(token.clone(), act, clock.clone());
            new.aim(Some(Target {
                at: now + after,
                place,
            }));
            Some(alarm.insert(new).clone())
        };
        let settle = {
            let mut state = lock(&self.state);
            if state.stage != Stage::Begun {
                return;
            }
            let Wishes {
                stop_within,
                grace,
                cancel_at_deadline,
                cancel_after_stop,
                abort_after_grace,
                ..
            } = &mut state.wishes;
            if phase == Phase::Stopping {
                [
                    arm(cancel_after_stop, *stop_within, Act::Cancel),
                    None,
                    None,
                ]
            } else {
                // There is nothing left to cancel.
                [
                    cancel_at_deadline.take().inspect(hush),
                    cancel_after_stop.take().inspect(hush),
                    match phase {
                        Phase::Cancelled => arm(abort_after_grace, *grace, Act::Abort),
                        _ => abort_after_grace.take().inspect(hush),
                    },
                ]
            }
        };
        for alarm in settle.into_iter().flatten() {
            alarm.settle();
        }
    }

    /// For the owner, after a poll of the scope that left it waiting: see [`Alarm::attend`].
    pub(crate) fn attend(&self, waker: &Waker) {
        let alarms = {
            let state = lock(&self.state);
            let wishes = &state.wishes;
            [
                wishes.cancel_at_deadline.clone(),
                wishes.cancel_after_stop.clone(),
                wishes.abort_after_grace.clone(),
            ]
        };
        for alarm in alarms.into_iter().flatten() {
            alarm.attend(waker);
        }
    }

    /// When the scope has ended or is dropped: nothing that was set happens any more.
    pub(crate) fn end(&self) {
        let (clock, wishes) = {
            let mut state = lock(&self.state);
            state.stage = Stage::Ended;
            (
                std::mem::take(&mut state.clock),
                std::mem::take(&mut state.wishes),
            )
        };
        let alarms = [
            wishes.cancel_at_deadline,
            wishes.cancel_after_stop,
            wishes.abort_after_grace,
        ];
        // Here, and not with the last reference to the scope: a timer may be user code. What panics in one call or
        // destructor keeps none of the others from its turn.
        for alarm in alarms.into_iter().flatten() {
            quietly(|| alarm.set(None));
            quietly(|| drop(alarm));
        }
        quietly(|| drop(clock));
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        self.end();
    }
}

fn hush(alarm: &Alarm) {
    alarm.aim(None);
}
