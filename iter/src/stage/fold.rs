//! `fold` and `try_fold`: stages that gather many items into few accumulators, one for each
//! run of items that a lane works through. What joins the accumulators is a terminal.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::stage_debug;
use crate::held::Held;
use crate::pipe::{Begun, Pipe, Shape, sealed::Sealed};
use crate::source::Source;

/// The stage behind [`ParStream::fold`](crate::ParStream::fold).
pub struct Fold<P, I, F, A> {
    pipe: P,
    init: I,
    f: F,
    kept: PhantomData<fn() -> A>,
}

/// The stage behind [`ParStream::try_fold`](crate::ParStream::try_fold).
pub struct TryFold<P, I, F, A> {
    pipe: P,
    init: I,
    f: F,
    kept: PhantomData<fn() -> A>,
}

/// What a lane keeps of a gathering stage.
#[doc(hidden)]
#[derive(Debug)]
pub struct Kept<A> {
    /// The accumulator of the open run, once it has an item.
    value: Option<A>,
    /// How long accumulators took to make, since that was last asked.
    began: Duration,
}

impl<A> Kept<A> {
    const NOTHING: Self = Self {
        value: None,
        began: Duration::ZERO,
    };

    /// The accumulator, or a new one.
    #[inline]
    fn take(&mut self, init: impl FnOnce() -> A) -> A {
        match self.value.take() {
            Some(value) => value,
            None => self.begin(init),
        }
    }

    fn begin(&mut self, init: impl FnOnce() -> A) -> A {
        let from = Instant::now();
        let value = init();
        self.began += from.elapsed();
        value
    }
}

stage_debug! { Fold<P, I, F, A>; TryFold<P, I, F, A>; }

/// One gathering stage, given how an item changes the accumulator: `Some` goes on to the
/// next stage at once, `None` was kept.
macro_rules! gathering {
    ($stage:ident, [$($g:tt)*], $step:ty, $item:ty, |$a:ident| $last:expr,
     |$self:ident, $kept:ident, $x:ident| $take:expr) => {
        impl<P, I, F, A> $stage<P, I, F, A> {
            pub(crate) fn new(pipe: P, init: I, f: F) -> Self {
                Self { pipe, init, f, kept: PhantomData }
            }
        }

        impl<P, I, F, A> Sealed for $stage<P, I, F, A> {}

        impl<P: Shape, I, F, A> Shape for $stage<P, I, F, A> {
            type Chunk = P::Chunk;
            type State = (P::State, Kept<A>);
            type Flow = P::Flow;
        }

        impl<P: Pipe, A: Send, $($g)* I, F> $stage<P, I, F, A>
        where
            I: Fn() -> A + Send + Sync,
            F: Fn(A, P::Item) -> $step + Send + Sync,
        {
            #[inline]
            fn take(&$self, $kept: &mut Kept<A>, $x: P::Item) -> Option<$item> {
                $take
            }
        }

        impl<P: Pipe, A: Send, $($g)* I, F> Pipe for $stage<P, I, F, A>
        where
            I: Fn() -> A + Send + Sync,
            F: Fn(A, P::Item) -> $step + Send + Sync,
        {
            type Item = $item;
            type Source = P::Source;
            const SUSPENDS: bool = P::SUSPENDS;
            const WAITS_AT_ONCE: bool = P::WAITS_AT_ONCE;
            const KEEPS: bool = true;

            #[inline]
            fn source(&self) -> &P::Source {
                self.pipe.source()
            }

            fn state(&self) -> Self::State {
                (self.pipe.state(), Kept::NOTHING)
            }

            #[inline]
            fn began(&self, state: &mut Self::State) -> Duration {
                self.pipe.began(&mut state.0) + std::mem::take(&mut state.1.began)
            }

            #[inline]
            fn begin(
                &self,
                state: &mut Self::State,
                item: <P::Source as Source>::Item,
                place: Pin<&mut Option<P::Flow>>,
            ) -> Begun<$item> {
                match self.pipe.begin(&mut state.0, item, place) {
                    Begun::Done(x) => match self.take(&mut state.1, x) {
                        Some(out) => Begun::Done(out),
                        None => Begun::Dropped,
                    },
                    Begun::Dropped => Begun::Dropped,
                    Begun::Waits => Begun::Waits,
                }
            }

            #[inline]
            fn resume(
                &self,
                state: &mut Self::State,
                flow: Pin<&mut P::Flow>,
                cx: &mut Context<'_>,
            ) -> Poll<Option<$item>> {
                let (before, kept) = state;
                self.pipe.resume(before, flow, cx).map(|came| came.and_then(|x| self.take(kept, x)))
            }

            #[inline]
            fn flush(
                &self,
                state: &mut Self::State,
                mut place: Pin<&mut Option<P::Flow>>,
            ) -> Begun<$item> {
                loop {
                    match self.pipe.flush(&mut state.0, place.as_mut()) {
                        Begun::Done(x) => {
                            if let Some(out) = self.take(&mut state.1, x) {
                                return Begun::Done(out);
                            }
                        }
                        Begun::Waits => return Begun::Waits,
                        // Nothing is left before this stage: hand out its own.
                        Begun::Dropped => {
                            return match state.1.value.take() {
                                Some($a) => Begun::Done($last),
                                None => Begun::Dropped,
                            };
                        }
                    }
                }
            }
        }
    };
}

gathering!(Fold, [], A, A, |a| a, |self, kept, x| {
    let item = Held::new(x);
    let a = kept.take(&self.init);
    kept.value = Some((self.f)(a, item.give()));
    None
});

gathering!(TryFold, [E: Send,], Result<A, E>, Result<A, E>, |a| Ok(a), |self, kept, x| {
    let item = Held::new(x);
    let a = kept.take(&self.init);
    match (self.f)(a, item.give()) {
        Ok(a) => {
            kept.value = Some(a);
            None
        }
        Err(e) => Some(Err(e)),
    }
});
