//! A poll under a time limit. The first one is only announced: token and alarm are made when somebody asks for a token, or
//! when the poll has left something to wait for. Most limits are around code that is ready at once.

use std::cell::RefCell;
use std::rc::Rc;

use selvedge_cancel::ambient::{self, Outer};
use selvedge_cancel::late::{Late, announce, take_back};
use selvedge_cancel::{CancelToken, Instant};

use super::timeout::Limit;
use super::{Act, Alarm, Place, Stretch, Target};
use crate::time::Clock;

/// What a poll is inside of, until it is [over](Self::end) or [rests](Self::rest), or this is dropped by an unwinding.
pub(super) struct Inside(State);

enum State {
    Announced(Rc<First>),
    Entered(Entered),
    Over,
}

/// A token in force, with what it has replaced.
struct Entered {
    stretch: Stretch,
    outer: Outer<CancelToken>,
}

impl Entered {
    fn enter(stretch: Stretch) -> Self {
        let outer = ambient::enter(Some(stretch.token.clone()));
        Self { stretch, outer }
    }

    fn leave(self) -> Stretch {
        drop(ambient::leave(self.outer));
        self.stretch
    }
}

/// The first poll.
struct First {
    limit: Limit,
    /// When it began.
    from: Option<Instant>,
    place: Place,
    clock: Clock,
    entered: RefCell<Option<Entered>>,
    outer: RefCell<Option<Rc<dyn Late>>>,
}

impl First {
    /// A token of its own for what is polled here, and an alarm that cancels it in time.
    fn begin(&self) -> Stretch {
        let place = self.place;
        let at = match (self.limit, self.from) {
            (Limit::At(at), _) => at,
            (Limit::After(after), Some(from)) => from + after,
            (Limit::After(_), None) => unreachable!("the clock was read"),
        };
        let token = match ambient::member() {
            Some(member) => member.child(),
            None => CancelToken::new(),
        };
        token.set_limit(Some(at), place, self.clock.installed());
        let alarm = Alarm::new(token.clone(), Act::Cancel, self.clock.clone());
        alarm.set(Some(Target { at, place }));
        Stretch {
            token,
            alarm: Some(alarm),
        }
    }

    /// It is over: the token is out of force, if it was in.
    fn leave(self: Rc<Self>) -> Option<Stretch> {
        if let Some(entered) = self.entered.take() {
            return Some(entered.leave());
        }
        let late: Rc<dyn Late> = self;
        take_back(&late);
        None
    }
}

impl Late for First {
    fn enter(&self) {
        let entered = Entered::enter(self.begin());
        *self.entered.borrow_mut() = Some(entered);
    }

    fn outer(&self) -> &RefCell<Option<Rc<dyn Late>>> {
        &self.outer
    }
}

impl Inside {
    /// A poll after the first.
    pub(super) fn entered(stretch: Stretch) -> Self {
        Self(State::Entered(Entered::enter(stretch)))
    }

    /// The first. The time counts from here.
    pub(super) fn announced(limit: Limit, place: Place) -> Self {
        let clock = Clock::current();
        let from = matches!(limit, Limit::After(_)).then(|| clock.now());
        let first = Rc::new(First {
            limit,
            from,
            place,
            clock,
            entered: RefCell::new(None),
            outer: RefCell::new(None),
        });
        announce(Rc::<First>::clone(&first));
        Self(State::Announced(first))
    }

    /// The poll has left something to wait for.
    pub(super) fn rest(mut self) -> Stretch {
        match std::mem::replace(&mut self.0, State::Over) {
            State::Entered(entered) => entered.leave(),
            State::Announced(first) => match Rc::clone(&first).leave() {
                Some(stretch) => stretch,
                None => first.begin(),
            },
            State::Over => unreachable!("it is used up by this"),
        }
    }

    /// What was polled has ended. The token that it ran under, if anybody has asked for one.
    pub(super) fn end(mut self) -> Option<CancelToken> {
        let stretch = match std::mem::replace(&mut self.0, State::Over) {
            State::Entered(entered) => Some(entered.leave()),
            State::Announced(first) => first.leave(),
            State::Over => unreachable!("it is used up by this"),
        };
        stretch.map(|stretch| stretch.token.clone())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.0, State::Over) {
            State::Entered(entered) => drop(entered.leave()),
            State::Announced(first) => drop(first.leave()),
            State::Over => {}
        }
    }
}
