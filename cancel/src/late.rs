//! Tokens that come into force when somebody asks. Most time limits are around code that ends at its first poll without
//! asking anything of a token: those need none.
//!
//! A stretch of code that would run under a token of its own is *announced* instead, on its thread. Whatever looks at what is
//! in force there goes by `settle` first, which has all that are announced put their tokens in force, the outermost
//! first: from then on it is as if they had done so at once. Announcements never outlast the poll that they were made for.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::rc::Rc;

/// A stretch of code that has been announced.
pub trait Late {
    /// Puts its token in force: somebody asks.
    fn enter(&self);

    /// Where what was announced before it, and encloses it, is kept.
    fn outer(&self) -> &RefCell<Option<Rc<dyn Late>>>;
}

/// The innermost that is announced. No destructor, as for what is in force: there as long as the thread runs code.
struct Announced {
    any: Cell<bool>,
    innermost: RefCell<ManuallyDrop<Option<Rc<dyn Late>>>>,
}

thread_local! {
    static ANNOUNCED: Announced = const {
        Announced {
            any: Cell::new(false),
            innermost: RefCell::new(ManuallyDrop::new(None)),
        }
    };
}

impl Announced {
    fn take(&self) -> Option<Rc<dyn Late>> {
        self.any.set(false);
        self.innermost.borrow_mut().take()
    }
}

/// Announces a stretch, around which is what was announced before. To be [taken back](take_back) on every way out.
#[inline]
pub fn announce(late: Rc<dyn Late>) {
    ANNOUNCED.with(|announced| {
        let mut innermost = announced.innermost.borrow_mut();
        if let Some(outer) = innermost.take() {
            *late.outer().borrow_mut() = Some(outer);
        }
        **innermost = Some(late);
        announced.any.set(true);
    });
}

/// The stretch is over. Nothing is announced of it any more if somebody has asked.
#[inline]
pub fn take_back(late: &Rc<dyn Late>) {
    ANNOUNCED.with(|announced| {
        let mut innermost = announced.innermost.borrow_mut();
        match &**innermost {
            None => {}
            Some(first) if Rc::ptr_eq(first, late) => {
                let outer = late.outer().take();
                announced.any.set(outer.is_some());
                // The caller has another reference, so nothing is dropped under the borrow.
                **innermost = outer;
            }
            Some(first) => unlink(first, late),
        }
    });
}

/// Takes a link out of a chain of which it is not the first: a stackful coroutine has left another one behind.
#[cold]
fn unlink(first: &Rc<dyn Late>, late: &Rc<dyn Late>) {
    let mut link = Rc::clone(first);
    loop {
        let Some(next) = link.outer().borrow().clone() else {
            return;
        };
        if Rc::ptr_eq(&next, late) {
            let rest = next.outer().take();
            *link.outer().borrow_mut() = rest;
            return;
        }
        link = next;
    }
}

/// Somebody is about to look at what is in force: everything that is announced comes into force.
#[inline]
pub(crate) fn settle() {
    if ANNOUNCED.with(|announced| announced.any.get()) {
        enter_all();
    }
}

#[cold]
fn enter_all() {
    let mut chain = Vec::new();
    let mut next = ANNOUNCED.with(Announced::take);
    while let Some(late) = next {
        next = late.outer().take();
        chain.push(late);
    }
    for late in chain.into_iter().rev() {
        late.enter();
    }
}
