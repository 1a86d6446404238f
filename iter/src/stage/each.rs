//! The last stage of `for_each` and its like: calls a closure that may be synchronous or
//! asynchronous. [`Step`] tells the two apart without the caller naming anything.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::stage_debug;
use super::then::{Nests, ThenFlow, ThenFlowProj, is_over, resume_before, through};
use crate::held::Held;
use crate::pipe::{Begun, Pipe, Shape, sealed::Sealed};
use crate::source::Source;

/// Tells synchronous from asynchronous closures; never written by hand.
pub mod mark {
    /// The closure returned its result.
    #[derive(Debug, Clone, Copy)]
    pub struct Now(());
    /// The closure returned a future of its result.
    #[derive(Debug, Clone, Copy)]
    pub struct Later(());
}

/// What the closure of `for_each` or `try_for_each` may return: the result itself, or a
/// future of it.
///
/// The marker `M` is inferred; it lets one name take both kinds of closure. Sealed: the
/// implementations here are all there are.
pub trait Step<T, M>:
    Late<T, M, Later: Future<Output = T> + Send> + Send + seal::Sealed<T, M>
{
    /// Whether there is anything to wait for.
    #[doc(hidden)]
    const SUSPENDS: bool;
    /// The result, or the future to wait for.
    #[doc(hidden)]
    fn step(self) -> Stepped<T, Self::Later>;
}

/// What a closure has returned.
#[doc(hidden)]
#[derive(Debug)]
pub enum Stepped<T, F> {
    /// The result.
    Now(T),
    /// A future of it.
    Later(F),
}

/// What a closure's result leaves to wait for. Apart from [`Step`] for the same reason as
/// `Shape` from `Pipe`.
#[doc(hidden)]
pub trait Late<T, M> {
    /// The future, or a type without values.
    type Later;
}

impl<R, T> Late<T, mark::Now> for R {
    type Later = Nothing<T>;
}

impl<F, T> Late<T, mark::Later> for F {
    type Later = F;
}

mod seal {
    #[allow(
        unnameable_types,
        reason = "sealing needs a public trait that nobody can name"
    )]
    pub trait Sealed<T, M> {}
    #[allow(unnameable_types, reason = "as above")]
    pub trait Returns {
        type Output;
    }
    impl<R> Returns for fn() -> R {
        type Output = R;
    }
    impl Sealed<(), super::mark::Now> for () {}
    impl Sealed<(), super::mark::Now> for super::Diverges {}
    impl<T, E> Sealed<Result<T, E>, super::mark::Now> for Result<T, E> {}
    impl<F: std::future::Future> Sealed<F::Output, super::mark::Later> for F {}
}

/// The type `!`, of a closure that never returns (`|_| panic!()`). It may be named like this only, so far.
type Diverges = <fn() -> ! as seal::Returns>::Output;

/// The future of a result that is there already: it has no values.
#[doc(hidden)]
#[derive(Debug)]
pub struct Nothing<T> {
    never: crate::pipe::Never,
    out: PhantomData<fn() -> T>,
}

impl<T> Future for Nothing<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<T> {
        match self.never {}
    }
}

impl Step<(), mark::Now> for () {
    const SUSPENDS: bool = false;

    #[inline]
    fn step(self) -> Stepped<(), Nothing<()>> {
        Stepped::Now(())
    }
}

impl Step<(), mark::Now> for Diverges {
    const SUSPENDS: bool = false;

    fn step(self) -> Stepped<(), Nothing<()>> {
        self
    }
}

impl<T, E> Step<Result<T, E>, mark::Now> for Result<T, E>
where
    Result<T, E>: Send,
{
    const SUSPENDS: bool = false;

    #[inline]
    fn step(self) -> Stepped<Self, Nothing<Self>> {
        Stepped::Now(self)
    }
}

impl<T, F: Future<Output = T> + Send> Step<T, mark::Later> for F {
    const SUSPENDS: bool = true;

    #[inline]
    fn step(self) -> Stepped<T, F> {
        Stepped::Later(self)
    }
}

/// The closure of a terminal, as a last stage.
pub struct Each<P, F, R, T, M> {
    pipe: P,
    f: F,
    result: PhantomData<fn() -> (R, T)>,
    mark: PhantomData<fn() -> M>,
}

stage_debug! { Each<P, F, R, T, M>; }

impl<P, F, R, T, M> Each<P, F, R, T, M> {
    pub(crate) fn new(pipe: P, f: F) -> Self {
        Self {
            pipe,
            f,
            result: PhantomData,
            mark: PhantomData,
        }
    }
}

/// The closure has the item; should it return a future, that goes to its place. A function of its own, as in `then.rs`.
#[inline]
fn begin<W, F, T>(
    mut place: Pin<&mut Option<ThenFlow<W, F>>>,
    step: impl FnOnce() -> Stepped<T, F>,
) -> Begun<T> {
    match step() {
        Stepped::Now(out) => Begun::Done(out),
        Stepped::Later(future) => {
            place.set(Some(ThenFlow::Here { future }));
            Begun::Waits
        }
    }
}

/// As `begin`, for an item that has waited before.
#[inline]
fn put<W, F, T, X>(
    mut flow: Pin<&mut ThenFlow<W, F>>,
    item: X,
    step: impl FnOnce(X) -> Stepped<T, F>,
) -> Option<T> {
    // What is dropped may panic, and so may the destructor of the item then.
    let item = Held::new(item);
    flow.set(ThenFlow::open());
    match step(item.give()) {
        Stepped::Now(out) => Some(out),
        Stepped::Later(future) => {
            flow.set(ThenFlow::Here { future });
            None
        }
    }
}

impl<P, F, R, T, M> Sealed for Each<P, F, R, T, M> {}

impl<P: Shape, F, R: Late<T, M>, T, M> Shape for Each<P, F, R, T, M> {
    type Chunk = P::Chunk;
    type State = P::State;
    type Flow = ThenFlow<P::Flow, R::Later>;
}

impl<P, F, R, T, M> Pipe for Each<P, F, R, T, M>
where
    P: Pipe,
    T: Send,
    R: Step<T, M>,
    F: Fn(P::Item) -> R + Send + Sync,
{
    type Item = T;
    type Source = P::Source;
    const SUSPENDS: bool = P::SUSPENDS || R::SUSPENDS;
    const WAITS_AT_ONCE: bool = P::WAITS_AT_ONCE || (R::SUSPENDS && !P::KEEPS);
    const KEEPS: bool = P::KEEPS;

    #[inline]
    fn source(&self) -> &P::Source {
        self.pipe.source()
    }

    fn state(&self) -> P::State {
        self.pipe.state()
    }

    #[inline]
    fn began(&self, state: &mut P::State) -> Duration {
        self.pipe.began(state)
    }

    #[inline]
    fn begin(
        &self,
        state: &mut P::State,
        item: <P::Source as Source>::Item,
        place: Pin<&mut Option<Self::Flow>>,
    ) -> Begun<T> {
        let before = |before: Pin<&mut Option<P::Flow>>| self.pipe.begin(state, item, before);
        through::<P, _, _>(place, before, |place, x| {
            begin(place, || (self.f)(x).step())
        })
    }

    #[inline]
    fn resume(
        &self,
        state: &mut P::State,
        mut flow: Pin<&mut Self::Flow>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<T>> {
        loop {
            match flow.as_mut().project() {
                ThenFlowProj::Before { flow: before } => {
                    let Some(x) = ready!(resume_before(&self.pipe, state, before, cx)) else {
                        return Poll::Ready(None);
                    };
                    if let Some(out) = put(flow.as_mut(), x, |x| (self.f)(x).step()) {
                        return Poll::Ready(Some(out));
                    }
                }
                ThenFlowProj::Here { future } => {
                    let out = ready!(future.poll(cx));
                    return Poll::Ready(Some(is_over(flow, out)));
                }
            }
        }
    }

    #[inline]
    fn flush(&self, state: &mut P::State, place: Pin<&mut Option<Self::Flow>>) -> Begun<T> {
        let before = |before: Pin<&mut Option<P::Flow>>| self.pipe.flush(state, before);
        through::<P, _, _>(place, before, |place, x| {
            begin(place, || (self.f)(x).step())
        })
    }
}
