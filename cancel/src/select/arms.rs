//! The engine under `select!` and `select`: a list of arms, any of which may be the first to be ready.
//! The list is nested in its types, so that every arm keeps its own and no number of arms is the limit.
//!
//! Not the syntax (`macros.rs`). Public for the macro's sake only, and hidden.

use std::any::Any;
use std::cell::Cell;
use std::future::Future;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::SelectSafe;
use crate::user::quietly;

pin_project! {
    /// The first arm of a list, and the others.
    #[derive(Debug)]
    pub struct Arm<F, P, R> {
        // Before `future`, because fields are dropped from the first to the last: what was made last is
        // dropped first.
        #[pin]
        rest: R,
        // `None`: the arm was disabled from the start, or its value did not fit, or it is over.
        #[pin]
        future: Option<F>,
        fits: P,
    }
}

impl<F: Future, P: Fn(F::Output) -> Option<F::Output>, R> Arm<F, P, R> {
    /// An arm whose future is there unless its condition was false. `fits` gives a value back if it fits
    /// the pattern, and otherwise drops it.
    pub fn new(future: Option<F>, fits: P, rest: R) -> Self {
        Self { rest, future, fits }
    }
}

/// The end of a list; as an output, the one that never comes.
#[derive(Debug)]
pub enum End {}

/// The end of a list of arms.
#[derive(Debug)]
pub struct Nil;

/// What the first arm gave, or one of the others.
#[derive(Debug)]
pub enum Out<T, R> {
    /// The first arm was first.
    Here(T),
    /// One of the others was.
    There(R),
}

/// In which order the arms are polled: those of one range after those of another.
#[derive(Debug)]
pub struct Order {
    ranges: [Range<usize>; 2],
    is_backward: bool,
}

impl Order {
    /// From the first listed to the last.
    fn listed(len: usize) -> Self {
        Self {
            ranges: [0..len, len..len],
            is_backward: false,
        }
    }

    /// From any arm on, in either direction. Of two arms that are ready, whatever the others are, each comes
    /// before the other equally often; a random start alone would favour the one that follows idle arms.
    fn random(len: usize) -> Self {
        let random = random();
        // The upper half, scaled down: at most `len - 1`.
        let start = (((random >> 32) * len as u64) >> 32) as usize;
        let (upper, lower) = (start..len, 0..start);
        match random & 1 {
            0 => Self {
                ranges: [upper, lower],
                is_backward: false,
            },
            _ => Self {
                ranges: [lower, upper],
                is_backward: true,
            },
        }
    }
}

/// A fast generator of each thread's own (splitmix64). It begins alike everywhere, which does no harm: what is
/// wanted is that arms take turns in no pattern, and not that nobody could guess it.
fn random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = const { Cell::new(0) };
    }
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut mixed = STATE
        .try_with(|state| {
            state.set(state.get().wrapping_add(STEP));
            state.get()
        })
        .unwrap_or(0);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The panic of a destructor, kept until all others have run.
pub type Panic = Box<dyn Any + Send>;

/// A list of arms.
pub trait Arms {
    /// Which arm was first, and its value.
    type Out;
    /// How many arms there are.
    const LEN: usize;

    /// Polls the arms of one range; the first of this list has the position `at`.
    fn poll_range(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        range: &Range<usize>,
        is_backward: bool,
        at: usize,
    ) -> Poll<Self::Out>;

    /// Whether no arm can become ready any more.
    fn is_over(self: Pin<&mut Self>) -> bool;

    /// Drops all futures, the last first. A destructor that panics keeps none of the others from running.
    fn clear(self: Pin<&mut Self>, first: &mut Option<Panic>);
}

impl Arms for Nil {
    type Out = End;
    const LEN: usize = 0;

    fn poll_range(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &Range<usize>,
        _: bool,
        _: usize,
    ) -> Poll<End> {
        Poll::Pending
    }

    fn is_over(self: Pin<&mut Self>) -> bool {
        true
    }

    fn clear(self: Pin<&mut Self>, _: &mut Option<Panic>) {}
}

impl<F, P, R> Arms for Arm<F, P, R>
where
    F: Future,
    P: Fn(F::Output) -> Option<F::Output>,
    R: Arms,
{
    type Out = Out<F::Output, R::Out>;
    const LEN: usize = 1 + R::LEN;

    fn poll_range(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        range: &Range<usize>,
        is_backward: bool,
        at: usize,
    ) -> Poll<Self::Out> {
        let mut this = self.project();
        if is_backward {
            let rest = this
                .rest
                .as_mut()
                .poll_range(cx, range, is_backward, at + 1);
            if let Poll::Ready(out) = rest {
                return Poll::Ready(Out::There(out));
            }
        }
        if range.contains(&at) {
            let future = this.future.as_mut().as_pin_mut();
            if let Some(Poll::Ready(value)) = future.map(|future| future.poll(cx)) {
                match (this.fits)(value) {
                    Some(value) => return Poll::Ready(Out::Here(value)),
                    None => this.future.set(None),
                }
            }
        }
        if is_backward {
            return Poll::Pending;
        }
        let rest = this.rest.poll_range(cx, range, is_backward, at + 1);
        rest.map(Out::There)
    }

    fn is_over(self: Pin<&mut Self>) -> bool {
        // No shared reference to a future on the way, which would end its borrows of itself.
        let this = self.project();
        this.future.as_pin_mut().is_none() && this.rest.is_over()
    }

    fn clear(self: Pin<&mut Self>, first: &mut Option<Panic>) {
        let mut this = self.project();
        this.rest.clear(first);
        let dropped = catch_unwind(AssertUnwindSafe(|| this.future.set(None)));
        if let Err(panic) = dropped {
            match first {
                None => *first = Some(panic),
                Some(_) => quietly(|| drop(panic)),
            }
        }
    }
}

/// Polls until an arm's value fits, and drops all futures before it gives that value. `None`: all arms are
/// over.
pub fn poll_first<L: Arms>(
    mut arms: Pin<&mut L>,
    cx: &mut Context<'_>,
    is_biased: bool,
) -> Poll<Option<L::Out>> {
    let order = match is_biased || L::LEN < 2 {
        true => Order::listed(L::LEN),
        false => Order::random(L::LEN),
    };
    for range in &order.ranges {
        let polled = arms.as_mut().poll_range(cx, range, order.is_backward, 0);
        let Poll::Ready(out) = polled else {
            continue;
        };
        let mut panic = None;
        arms.clear(&mut panic);
        let Some(panic) = panic else {
            return Poll::Ready(Some(out));
        };
        // By itself, because a second panic while the first unwinds would end the process.
        quietly(|| drop(out));
        resume_unwind(panic);
    }
    match arms.is_over() {
        true => Poll::Ready(None),
        false => Poll::Pending,
    }
}

/// Drops all futures of a list that goes down with them. The first panic of a destructor goes on when all have run,
/// unless another is under way.
pub fn drop_arms<L: Arms>(arms: Pin<&mut L>) {
    let mut first = None;
    arms.clear(&mut first);
    if let Some(panic) = first {
        if std::thread::panicking() {
            quietly(|| drop(panic));
        } else {
            resume_unwind(panic);
        }
    }
}

pin_project! {
    /// The future that `select!` awaits.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Run<L: Arms> {
        #[pin]
        arms: L,
        is_biased: bool,
    }

    impl<L: Arms> PinnedDrop for Run<L> {
        fn drop(this: Pin<&mut Self>) {
            drop_arms(this.project().arms);
        }
    }
}

/// Waits for the first arm whose value fits; `None` when all are over.
pub fn run<L: Arms>(arms: L, is_biased: bool) -> Run<L> {
    Run { arms, is_biased }
}

impl<L: Arms> Future for Run<L> {
    type Output = Option<L::Out>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        poll_first(this.arms, cx, *this.is_biased)
    }
}

/// The one place of `select!` that asks for the marker, so that the compiler complains once, and there.
pub fn check<F: SelectSafe>(future: F) -> F {
    future
}

/// Takes the value out of whichever arm had it.
pub trait Unify<T> {
    /// The value.
    fn unify(self) -> T;
}
