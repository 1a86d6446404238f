//! Asynchronous stages: `then` and `then_filter`. The future of an item lives in the flow,
//! inside the lane that works on it: no allocation and no task an item.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::stage_debug;
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
        Before { #[pin] flow: W },
        Here { #[pin] future: T },
        Gone,
    }
}

pin_project! {
    /// An item that waits in a stage before `then_filter`, or for its verdict.
    #[doc(hidden)]
    #[project = SiftFlowProj]
    pub enum SiftFlow<W, T, I> {
        Before { #[pin] flow: W },
        Here { #[pin] future: T, item: Option<I> },
        Gone,
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

/// The item's own future begins. Apart from where it is polled, whose frame would have room for each copy of a big
/// one.
fn put<W, T>(mut flow: Pin<&mut ThenFlow<W, T>>, make: impl FnOnce() -> T) {
    // Gone first: the flow before must not outlive its item.
    flow.set(ThenFlow::Gone);
    flow.set(ThenFlow::Here { future: make() });
}

/// As `put`, for an item that waits for a verdict.
fn sift<W, T, I>(mut flow: Pin<&mut SiftFlow<W, T, I>>, item: I, f: impl Fn(&I) -> T) {
    flow.set(SiftFlow::Gone);
    let future = f(&item);
    flow.set(SiftFlow::Here {
        future,
        item: Some(item),
    });
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
    const KEEPS: bool = P::KEEPS;

    #[inline]
    fn source(&self) -> &P::Source {
        self.pipe.source()
    }

    fn state(&self) -> P::State {
        self.pipe.state()
    }

    #[inline]
    fn begin(
        &self,
        state: &mut P::State,
        item: <P::Source as Source>::Item,
    ) -> Begun<Fut::Output, Self::Flow> {
        match self.pipe.begin(state, item) {
            Begun::Done(x) => Begun::Wait(ThenFlow::Here {
                future: (self.f)(x),
            }),
            Begun::Dropped => Begun::Dropped,
            Begun::Wait(flow) => Begun::Wait(ThenFlow::Before { flow }),
        }
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
                    match self.pipe.resume(state, before, cx) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(None) => return Poll::Ready(None),
                        Poll::Ready(Some(x)) => {
                            put(flow.as_mut(), || (self.f)(x));
                        }
                    }
                }
                ThenFlowProj::Here { future } => return future.poll(cx).map(Some),
                ThenFlowProj::Gone => return Poll::Ready(None),
            }
        }
    }

    #[inline]
    fn flush(&self, state: &mut P::State) -> Begun<Fut::Output, Self::Flow> {
        match self.pipe.flush(state) {
            Begun::Done(x) => Begun::Wait(ThenFlow::Here {
                future: (self.f)(x),
            }),
            Begun::Dropped => Begun::Dropped,
            Begun::Wait(flow) => Begun::Wait(ThenFlow::Before { flow }),
        }
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
    const KEEPS: bool = P::KEEPS;

    #[inline]
    fn source(&self) -> &P::Source {
        self.pipe.source()
    }

    fn state(&self) -> P::State {
        self.pipe.state()
    }

    #[inline]
    fn begin(
        &self,
        state: &mut P::State,
        item: <P::Source as Source>::Item,
    ) -> Begun<P::Item, Self::Flow> {
        match self.pipe.begin(state, item) {
            Begun::Done(x) => Begun::Wait(SiftFlow::Here {
                future: (self.f)(&x),
                item: Some(x),
            }),
            Begun::Dropped => Begun::Dropped,
            Begun::Wait(flow) => Begun::Wait(SiftFlow::Before { flow }),
        }
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
                    match self.pipe.resume(state, before, cx) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(None) => return Poll::Ready(None),
                        Poll::Ready(Some(x)) => {
                            sift(flow.as_mut(), x, &self.f);
                        }
                    }
                }
                SiftFlowProj::Here { future, item } => {
                    return future
                        .poll(cx)
                        .map(|keep| if keep { item.take() } else { None });
                }
                SiftFlowProj::Gone => return Poll::Ready(None),
            }
        }
    }

    #[inline]
    fn flush(&self, state: &mut P::State) -> Begun<P::Item, Self::Flow> {
        match self.pipe.flush(state) {
            Begun::Done(x) => Begun::Wait(SiftFlow::Here {
                future: (self.f)(&x),
                item: Some(x),
            }),
            Begun::Dropped => Begun::Dropped,
            Begun::Wait(flow) => Begun::Wait(SiftFlow::Before { flow }),
        }
    }
}
