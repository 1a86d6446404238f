//! Asynchronous stages: `then` and `then_filter`. The future of an item lives in the flow,
//! inside the lane that works on it: no allocation and no task an item.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;

use super::stage_debug;
use crate::held::Held;
use crate::one_by_one::OneByOne;
use crate::pipe::{Begun, Pipe, Shape, sealed::Sealed};
use crate::source::Source;

/// The stage behind [`ParStream::then`](crate::ParStream::then).
pub struct Then<P, F, T> {
    pipe: P,
    f: F,
    future: PhantomData<fn() -> T>,
}

/// The stage behind [`ParStream::then_filter`](crate::ParStream::then_filter).
pub struct ThenFilter<P, F, T, I> {
    pipe: P,
    f: F,
    future: PhantomData<fn() -> (T, I)>,
}

stage_debug! { Then<P, F, T>; ThenFilter<P, F, T, I>; }

pin_project! {
    /// An item that waits in a stage before `then`, or in `then` itself.
    #[doc(hidden)]
    #[project = ThenFlowProj]
    pub enum ThenFlow<W, T> {
        Before { #[pin] flow: Option<W> },
        Here { #[pin] future: T },
    }
}

pin_project! {
    /// An item that waits in a stage before `then_filter`, or for its verdict.
    #[doc(hidden)]
    #[project = SiftFlowProj]
    pub enum SiftFlow<W, T, I> {
        Before { #[pin] flow: Option<W> },
        Here { #[pin] both: Sifted<T, I> },
    }
}

impl<W, T> std::fmt::Debug for ThenFlow<W, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ThenFlow").finish_non_exhaustive()
    }
}

impl<W, T, I> std::fmt::Debug for SiftFlow<W, T, I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SiftFlow").finish_non_exhaustive()
    }
}

/// The flow of a stage with others before it, in which an item may have to wait.
pub(crate) trait Nests: Sized {
    type Before;

    /// With a place in it for the flow before, empty so far.
    fn open() -> Self;

    /// That place.
    fn before(self: Pin<&mut Self>) -> Option<Pin<&mut Option<Self::Before>>>;
}

impl<W, T> Nests for ThenFlow<W, T> {
    type Before = W;

    fn open() -> Self {
        Self::Before { flow: None }
    }

    fn before(self: Pin<&mut Self>) -> Option<Pin<&mut Option<W>>> {
        match self.project() {
            ThenFlowProj::Before { flow } => Some(flow),
            ThenFlowProj::Here { .. } => None,
        }
    }
}

impl<W, T, I> Nests for SiftFlow<W, T, I> {
    type Before = W;

    fn open() -> Self {
        Self::Before { flow: None }
    }

    fn before(self: Pin<&mut Self>) -> Option<Pin<&mut Option<W>>> {
        match self.project() {
            SiftFlowProj::Before { flow } => Some(flow),
            SiftFlowProj::Here { .. } => None,
        }
    }
}

// Each of these is a function of its own: in a debug build a frame has room for every copy of a big future that is ever made
// in it, and the frames of stages lie above each other.

/// An item goes through the stages before, which have a place for it within that of this stage should it have to wait there.
/// With what comes of it this stage goes on by itself, in a place that is empty.
#[inline]
pub(crate) fn through<P: Pipe, F: Nests<Before = P::Flow>, T>(
    mut place: Pin<&mut Option<F>>,
    before: impl FnOnce(Pin<&mut Option<P::Flow>>) -> Begun<P::Item>,
    goes_on: impl FnOnce(Pin<&mut Option<F>>, P::Item) -> Begun<T>,
) -> Begun<T> {
    let begun = if P::SUSPENDS {
        nested(place.as_mut(), before)
    } else {
        alone(before)
    };
    match begun {
        Begun::Waits => return Begun::Waits,
        // Empty first: the flow before must not outlive its item.
        _ if P::SUSPENDS => empty(place.as_mut()),
        _ => {}
    }
    match begun {
        Begun::Done(x) => goes_on(place, x),
        _ => Begun::Dropped,
    }
}

/// An item that waits in a stage before goes on there.
#[inline]
pub(crate) fn resume_before<P: Pipe>(
    pipe: &P,
    state: &mut P::State,
    before: Pin<&mut Option<P::Flow>>,
    cx: &mut Context<'_>,
) -> Poll<Option<P::Item>> {
    match before.as_pin_mut() {
        Some(before) => pipe.resume(state, before, cx),
        None => Poll::Ready(None),
    }
}

/// The stages before have the item, which may have to wait there.
#[inline]
fn nested<F: Nests, R>(
    mut place: Pin<&mut Option<F>>,
    begin: impl FnOnce(Pin<&mut Option<F::Before>>) -> R,
) -> R {
    open(place.as_mut());
    let before = place.as_pin_mut().and_then(Nests::before);
    begin(before.expect("it has been opened"))
}

#[inline]
fn open<F: Nests>(mut place: Pin<&mut Option<F>>) {
    place.set(Some(F::open()));
}

/// The stages before have the item, and it does not wait there.
#[inline]
pub(crate) fn alone<W, R>(begin: impl FnOnce(Pin<&mut Option<W>>) -> R) -> R {
    begin(pin!(None))
}

/// The item waits nowhere.
#[inline]
fn empty<F>(mut place: Pin<&mut Option<F>>) {
    place.set(None);
}

/// The item's own future begins.
#[inline]
fn begin<W, T, U>(
    mut place: Pin<&mut Option<ThenFlow<W, T>>>,
    make: impl FnOnce() -> T,
) -> Begun<U> {
    place.set(Some(ThenFlow::Here { future: make() }));
    Begun::Waits
}

/// As `begin`, for an item that waits for a verdict.
#[inline]
fn begin_to_sift<W, T, I>(
    mut place: Pin<&mut Option<SiftFlow<W, T, I>>>,
    item: I,
    f: impl Fn(&I) -> T,
) -> Begun<I> {
    place.set(Some(SiftFlow::Here {
        both: Sifted::new(item, f),
    }));
    Begun::Waits
}

// What is dropped or called in these may panic, and so may the destructor of the item then: it is held.

/// The item's own future follows.
fn put<W, T, X>(mut flow: Pin<&mut ThenFlow<W, T>>, item: X, make: impl FnOnce(X) -> T) {
    let item = Held::new(item);
    // Empty first: the flow before must not outlive its item.
    flow.set(ThenFlow::open());
    let item = item.give();
    flow.set(ThenFlow::Here { future: make(item) });
}

/// The item's own future has ended. It goes before the stages behind work on what came of it: it may hold a lock.
pub(crate) fn is_over<W, T, X>(mut flow: Pin<&mut ThenFlow<W, T>>, out: X) -> X {
    let out = Held::new(out);
    flow.set(ThenFlow::open());
    out.give()
}

/// As `put`, for an item that waits for a verdict.
fn sift<W, T, I>(mut flow: Pin<&mut SiftFlow<W, T, I>>, item: I, f: impl Fn(&I) -> T) {
    let item = Held::new(item);
    flow.set(SiftFlow::open());
    let item = item.give();
    flow.set(SiftFlow::Here {
        both: Sifted::new(item, f),
    });
}

pin_project! {
    /// An item and the future of its verdict.
    #[doc(hidden)]
    pub struct Sifted<T, I> {
        #[pin]
        future: Option<T>,
        item: Option<I>,
    }

    /// One after the other: two destructors that panic do not end the process.
    impl<T, I> PinnedDrop for Sifted<T, I> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let mut all = OneByOne::default();
            all.run(|| this.future.set(None));
            all.run(|| drop(this.item.take()));
            all.end();
        }
    }
}

impl<T, I> Sifted<T, I> {
    #[inline]
    fn new(item: I, f: impl Fn(&I) -> T) -> Self {
        let mut item = Held::new(item);
        Self {
            future: Some(f(item.get())),
            item: Some(item.give()),
        }
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<I>>
    where
        T: Future<Output = bool>,
    {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let keep = ready!(future.poll(cx));
        // As in `is_over`. Should that panic, the item is still in its place.
        this.future.set(None);
        Poll::Ready(this.item.take().filter(|_| keep))
    }
}

impl<P, F, T> Then<P, F, T> {
    pub(crate) fn new(pipe: P, f: F) -> Self {
        Self {
            pipe,
            f,
            future: PhantomData,
        }
    }
}

impl<P, F, T> Sealed for Then<P, F, T> {}

impl<P: Shape, F, T> Shape for Then<P, F, T> {
    type Chunk = P::Chunk;
    type State = P::State;
    type Flow = ThenFlow<P::Flow, T>;
}

impl<P, Fut, F> Pipe for Then<P, F, Fut>
where
    P: Pipe,
    Fut: Future<Output: Send> + Send,
    F: Fn(P::Item) -> Fut + Send + Sync,
{
    type Item = Fut::Output;
    type Source = P::Source;
    const SUSPENDS: bool = true;
    const WAITS_AT_ONCE: bool = P::WAITS_AT_ONCE || !P::KEEPS;
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
    ) -> Begun<Fut::Output> {
        let before = |before: Pin<&mut Option<P::Flow>>| self.pipe.begin(state, item, before);
        through::<P, _, _>(place, before, |place, x| begin(place, || (self.f)(x)))
    }

    #[inline]
    fn resume(
        &self,
        state: &mut P::State,
        mut flow: Pin<&mut Self::Flow>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Fut::Output>> {
        loop {
            match flow.as_mut().project() {
                ThenFlowProj::Before { flow: before } => {
                    match ready!(resume_before(&self.pipe, state, before, cx)) {
                        Some(x) => put(flow.as_mut(), x, &self.f),
                        None => return Poll::Ready(None),
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
    fn flush(
        &self,
        state: &mut P::State,
        place: Pin<&mut Option<Self::Flow>>,
    ) -> Begun<Fut::Output> {
        let before = |before: Pin<&mut Option<P::Flow>>| self.pipe.flush(state, before);
        through::<P, _, _>(place, before, |place, x| begin(place, || (self.f)(x)))
    }
}

impl<P, F, T, I> ThenFilter<P, F, T, I> {
    pub(crate) fn new(pipe: P, f: F) -> Self {
        Self {
            pipe,
            f,
            future: PhantomData,
        }
    }
}

impl<P, F, T, I> Sealed for ThenFilter<P, F, T, I> {}

impl<P: Shape, F, T, I> Shape for ThenFilter<P, F, T, I> {
    type Chunk = P::Chunk;
    type State = P::State;
    type Flow = SiftFlow<P::Flow, T, I>;
}

impl<P, Fut, F> Pipe for ThenFilter<P, F, Fut, P::Item>
where
    P: Pipe,
    Fut: Future<Output = bool> + Send,
    F: Fn(&P::Item) -> Fut + Send + Sync,
{
    type Item = P::Item;
    type Source = P::Source;
    const SUSPENDS: bool = true;
    const WAITS_AT_ONCE: bool = P::WAITS_AT_ONCE || !P::KEEPS;
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
    ) -> Begun<P::Item> {
        let before = |before: Pin<&mut Option<P::Flow>>| self.pipe.begin(state, item, before);
        through::<P, _, _>(place, before, |place, x| begin_to_sift(place, x, &self.f))
    }

    #[inline]
    fn resume(
        &self,
        state: &mut P::State,
        mut flow: Pin<&mut Self::Flow>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<P::Item>> {
        loop {
            match flow.as_mut().project() {
                SiftFlowProj::Before { flow: before } => {
                    match ready!(resume_before(&self.pipe, state, before, cx)) {
                        Some(x) => sift(flow.as_mut(), x, &self.f),
                        None => return Poll::Ready(None),
                    }
                }
                SiftFlowProj::Here { both } => return both.poll(cx),
            }
        }
    }

    #[inline]
    fn flush(&self, state: &mut P::State, place: Pin<&mut Option<Self::Flow>>) -> Begun<P::Item> {
        let before = |before: Pin<&mut Option<P::Flow>>| self.pipe.flush(state, before);
        through::<P, _, _>(place, before, |place, x| begin_to_sift(place, x, &self.f))
    }
}
