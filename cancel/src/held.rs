//! Whether a value of any type still holds a `Cancelled` that was counted at a token: the value prints itself, to
//! nobody, and a `Cancelled` inside that is asked to print itself reports that it is there.
//!
//! Not for users who want the `Cancelled` itself; they have `Cancelled::find_in`.

use std::cell::Cell;
use std::fmt::{self, Write};
use std::sync::Arc;

use crate::node::Mark;
#[cfg(selvedge_loom)]
use crate::sync::thread_local;
use crate::{CancelToken, quietly};

/// Errors and outputs that can be searched for the [`Cancelled`](crate::Cancelled) they hold: all that implement
/// [`Debug`](fmt::Debug).
///
/// A scope, a time-out or a parallel stream that was cancelled has to know whether a value is the answer to that
/// cancellation, or something else. It looks into the value: it has the value print itself (`{:#?}`, then `{:?}`)
/// into a writer that keeps nothing, and a `Cancelled` that is printed is a `Cancelled` that is held. Derived
/// `Debug`, `io::Error`, boxed errors and `anyhow` print what they hold.
///
/// Nothing is printed unless a `Cancelled` lives that the value could hold, and printing ends with the first one
/// that is found. If nothing is found, the value counts as a failure or a result of its own. That is so for types
/// whose `Debug` hides what they hold or panics, for a `Cancelled` that was made a text, and for one that comes
/// after the first MiB of the value's text.
///
/// # Examples
/// ```
/// use selvedge_cancel::{CancelSource, Cancelled};
///
/// #[derive(Debug)]
/// enum Failure {
///     Stopped(Cancelled),
///     Other,
/// }
///
/// fn may_be_searched<E: CancelSource>(_: &E) {}
/// may_be_searched(&Failure::Other);
/// may_be_searched(&Failure::Stopped(Cancelled::new("enough")));
/// may_be_searched(&std::io::Error::other("text"));
/// may_be_searched(&"text");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be searched for a `Cancelled`, since it does not implement `Debug`",
    note = "derive `Debug` for the type; a `timeout` around a `Result` can be a `try_timeout`, which asks it of the \
            error alone"
)]
pub trait CancelSource: fmt::Debug {}

// Without this the compiler would say `Debug` is missing, and not what for.
#[diagnostic::do_not_recommend]
impl<T: fmt::Debug + ?Sized> CancelSource for T {}

/// How much text of a value is looked at, for each of the two forms. An error has some hundred bytes; an output of
/// a time-out may be a vector of millions, and a MiB of it takes some milliseconds.
const MOST: usize = 1 << 20;

/// How much stack the value's `Debug` may take before the look is given up. A value whose `Debug` calls itself for
/// each link of a chain would overflow the stack otherwise, although nobody asked to print it. A level takes up to a
/// KiB in a debug build.
const DEEPEST: usize = 128 << 10;

/// About where the stack ends at present.
#[inline(never)]
fn stack_pointer() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}

/// What is looked for on this thread. It has no destructor, and so is there for as long as the thread.
#[derive(Clone, Copy)]
struct Search {
    /// The address of the node at which the `Cancelled` has to be counted.
    node: usize,
    /// Whether that node has to be the one whose cancellation it tells of.
    own: bool,
    /// Or a node whose cancellation it tells of.
    or_own: Option<usize>,
    found: bool,
}

const NOTHING: Search = Search {
    node: 0,
    own: false,
    or_own: None,
    found: false,
};

#[cfg(not(selvedge_loom))]
thread_local! {
    static SEARCH: Cell<Option<Search>> = const { Cell::new(None) };
}

// All threads of a model run on one thread of the system.
#[cfg(selvedge_loom)]
thread_local! {
    static SEARCH: Cell<Option<Search>> = Cell::new(None);
}

fn current() -> Option<Search> {
    SEARCH.try_with(Cell::get).ok().flatten()
}

fn set(search: Option<Search>) {
    let _ = SEARCH.try_with(|cell| cell.set(search));
}

fn is_found() -> bool {
    current().is_some_and(|search| search.found)
}

/// Whether a value is being searched on this thread, so that what is printed is read by nobody.
#[must_use]
pub fn is_searching() -> bool {
    current().is_some()
}

/// A `Cancelled` is about to be printed: tells the search, if there is one. It is printed all the same: if this is what was
/// looked for, the writer of the search refuses it, so that nothing else is; unless it goes to another one, into a text that
/// somebody keeps, perhaps.
pub(crate) fn report(mark: Option<&Mark>) {
    let Some(search) = current() else {
        return;
    };
    let is_it = |mark: &Mark| {
        mark.is_counted_at(search.node, search.own)
            || search
                .or_own
                .is_some_and(|node| mark.is_counted_at(node, true))
    };
    if mark.is_some_and(is_it) {
        set(Some(Search {
            found: true,
            ..search
        }));
    }
}

/// Puts the search back during which this one began.
struct Restore(Option<Search>);

impl Drop for Restore {
    fn drop(&mut self) {
        set(self.0);
    }
}

/// Keeps nothing, and refuses more once a search has found what it is for, or has come too deep.
struct Nowhere {
    left: usize,
    /// Where the stack ended when the search began.
    from: usize,
}

impl Nowhere {
    fn new() -> Self {
        Self {
            left: MOST,
            from: stack_pointer(),
        }
    }
}

impl Write for Nowhere {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match self.left.checked_sub(text.len()) {
            Some(left) if !is_found() && stack_pointer().abs_diff(self.from) <= DEEPEST => {
                self.left = left;
                Ok(())
            }
            _ => Err(fmt::Error),
        }
    }
}

fn shows(value: &(impl fmt::Debug + ?Sized), search: Search) -> bool {
    let _restore = Restore(current());
    set(Some(search));
    // `Debug` is user code. A panic in it ends the search, and what was found before it counts.
    // `anyhow` prints what the error is made of in this form; in the other one texts, and a backtrace, which takes long.
    quietly(|| {
        let _ = write!(Nowhere::new(), "{value:#?}");
        if !is_found() {
            let _ = write!(Nowhere::new(), "{value:?}");
        }
    });
    is_found()
}

/// For engines, which have to tell a member's cancellation from its failure.
#[doc(hidden)]
impl CancelToken {
    /// Whether the value holds a `Cancelled` that [`has_live`](Self::has_live) counts at this token.
    ///
    /// Runs the value's `Debug`, caught, if a `Cancelled` that is counted here lives at all.
    #[must_use]
    pub fn has_live_in(&self, value: &(impl CancelSource + ?Sized)) -> bool {
        self.has_live() && shows(value, self.search(false))
    }

    /// As `has_live_in`, for those that [`has_live_own`](Self::has_live_own) counts.
    #[must_use]
    pub fn has_live_own_in(&self, value: &(impl CancelSource + ?Sized)) -> bool {
        self.has_live_own() && shows(value, self.search(true))
    }

    /// Whether the value holds a `Cancelled` for which this token, or one above it, was cancelled, wherever it was
    /// made: by code below this token, or by other code, which has passed it on.
    ///
    /// Runs the value's `Debug`, as [`has_live_in`](Self::has_live_in) does. `false` if this token is not cancelled.
    #[must_use]
    pub fn is_cause_of(&self, value: &(impl CancelSource + ?Sized)) -> bool {
        if !self.is_cancelled() {
            return false;
        }
        let mut above = self.node().live_above().into_iter();
        let first = Search {
            or_own: above.next(),
            ..self.search(false)
        };
        let may_hold = self.has_live() || first.or_own.is_some();
        (may_hold && shows(value, first))
            || above.any(|node| {
                let own = true;
                shows(
                    value,
                    Search {
                        node,
                        own,
                        ..NOTHING
                    },
                )
            })
    }

    fn search(&self, own: bool) -> Search {
        Search {
            node: Arc::as_ptr(self.node()).addr(),
            own,
            ..NOTHING
        }
    }
}
