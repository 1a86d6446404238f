//! The engine under `select!` and `select`: a list of arms, any of which may be the first to be ready. The list is
//! nested in its types, the last arm outermost, so that each arm keeps the type of its future; what an arm gives is
//! of one type for all of them.
//!
//! Not the syntax (`macros.rs`). Public because the macro's expansion uses it, and hidden.

use std::any::Any;
use std::cell::Cell;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::SelectSafe;
use crate::user::quietly;

pin_project! {
    /// The last arm of a list, and those before it.
    #[derive(Debug)]
    pub struct Arm<F, P, R> {
        // Before `rest`, because fields are dropped from the first to the last: what was made last is
        // dropped first.
        //
        // `None`: the arm was disabled from the start, or its value did not fit, or it is over.
        #[pin]
        future: Option<F>,
        pick: P,
        #[pin]
        rest: R,
    }
}

impl<F, P, R> Arm<F, P, R> {
    /// Adds an arm behind the others. Its future is there unless its condition was false. `pick` makes the output
    /// from a value that fits the pattern, and drops any other.
    pub fn new(future: Option<F>, pick: P, rest: R) -> Self {
        Self { future, pick, rest }
    }
}

/// The list without an arm.
#[derive(Debug)]
pub struct Nil;

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

/// A list of arms which all give an `O`.
pub trait Arms<O> {
    /// How many arms there are.
    const LEN: usize;

    /// Polls the arms whose positions are in `range`.
    fn poll_range(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        range: &Range<usize>,
        is_backward: bool,
    ) -> Poll<O>;

    /// Whether no arm can become ready any more.
    fn is_over(self: Pin<&mut Self>) -> bool;

    /// Drops all futures, the last first. A destructor that panics keeps none of the others from running.
    fn clear(self: Pin<&mut Self>, first: &mut Option<Panic>);
}

impl<O> Arms<O> for Nil {
    const LEN: usize = 0;

    fn poll_range(self: Pin<&mut Self>, _: &mut Context<'_>, _: &Range<usize>, _: bool) -> Poll<O> {
        Poll::Pending
    }

    fn is_over(self: Pin<&mut Self>) -> bool {
        true
    }

    fn clear(self: Pin<&mut Self>, _: &mut Option<Panic>) {}
}

impl<O, F, P, R> Arms<O> for Arm<F, P, R>
where
    F: Future,
    P: Fn(F::Output) -> Option<O>,
    R: Arms<O>,
{
    const LEN: usize = R::LEN + 1;

    fn poll_range(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        range: &Range<usize>,
        is_backward: bool,
    ) -> Poll<O> {
        let mut this = self.project();
        if !is_backward {
            let rest = this.rest.as_mut().poll_range(cx, range, is_backward);
            if rest.is_ready() {
                return rest;
            }
        }
        // The position of this arm is the number of those before it.
        if range.contains(&R::LEN) {
            let future = this.future.as_mut().as_pin_mut();
            if let Some(Poll::Ready(value)) = future.map(|future| future.poll(cx)) {
                match (this.pick)(value) {
                    Some(out) => return Poll::Ready(out),
                    None => this.future.set(None),
                }
            }
        }
        match is_backward {
            true => this.rest.poll_range(cx, range, is_backward),
            false => Poll::Pending,
        }
    }

    fn is_over(self: Pin<&mut Self>) -> bool {
        // No shared reference to a future on the way, which would end its borrows of itself.
        let this = self.project();
        this.future.as_pin_mut().is_none() && this.rest.is_over()
    }

    fn clear(self: Pin<&mut Self>, first: &mut Option<Panic>) {
        let mut this = self.project();
        let dropped = catch_unwind(AssertUnwindSafe(|| this.future.set(None)));
        if let Err(panic) = dropped {
            match first {
                None => *first = Some(panic),
                Some(_) => quietly(|| drop(panic)),
            }
        }
        this.rest.clear(first);
    }
}

/// Polls until an arm's value fits, and drops all futures before it gives that value. `None`: all arms are
/// over.
pub fn poll_first<O, L: Arms<O>>(
    mut arms: Pin<&mut L>,
    cx: &mut Context<'_>,
    is_biased: bool,
) -> Poll<Option<O>> {
    let order = match is_biased || L::LEN < 2 {
        true => Order::listed(L::LEN),
        false => Order::random(L::LEN),
    };
    for range in &order.ranges {
        let polled = arms.as_mut().poll_range(cx, range, order.is_backward);
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
pub fn drop_arms<O, L: Arms<O>>(arms: Pin<&mut L>) {
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

/// The arms of a `select!` while they are listed, which fixes what they give.
#[derive(Debug)]
pub struct List<O, L> {
    arms: L,
    out: PhantomData<fn() -> O>,
}

/// A list without arms.
pub fn list<O>() -> List<O, Nil> {
    List {
        arms: Nil,
        out: PhantomData,
    }
}

impl<O, L> List<O, L> {
    /// Adds an arm behind the others; see [`Arm::new`].
    pub fn arm<F, P>(self, future: Option<F>, pick: P) -> List<O, Arm<F, P, L>>
    where
        F: Future,
        P: Fn(F::Output) -> Option<O>,
    {
        List {
            arms: Arm::new(future, pick, self.arms),
            out: PhantomData,
        }
    }
}

impl<O, L: Arms<O>> List<O, L> {
    /// Waits for the first arm whose value fits; `None` when all are over.
    pub fn run(self, is_biased: bool) -> Run<O, L> {
        Run {
            arms: self.arms,
            is_biased,
            out: PhantomData,
        }
    }
}

pin_project! {
    /// The future that `select!` awaits.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Run<O, L: Arms<O>> {
        #[pin]
        arms: L,
        is_biased: bool,
        out: PhantomData<fn() -> O>,
    }

    impl<O, L: Arms<O>> PinnedDrop for Run<O, L> {
        fn drop(this: Pin<&mut Self>) {
            drop_arms::<O, L>(this.project().arms);
        }
    }
}

impl<O, L: Arms<O>> Future for Run<O, L> {
    type Output = Option<O>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        poll_first(this.arms, cx, *this.is_biased)
    }
}

/// The one place of `select!` that asks for the marker, so that the compiler complains once, and there.
pub fn check<F>(future: F) -> F::IntoFuture
where
    F: IntoFuture,
    F::IntoFuture: SelectSafe,
{
    future.into_future()
}

/// Gives the value back as a temporary, whose parts a pattern may bind by mutable reference.
pub fn own<T>(value: T) -> T {
    value
}
