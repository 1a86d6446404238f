//! Synchronous stages: `map`, `filter`, `filter_map`, `inspect`. They add no state and
//! nothing to wait for. What keeps values between items is in `fold`.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::stage_debug;
use crate::held::Held;
use crate::pipe::{Begun, Pipe, Shape, sealed::Sealed};
use crate::source::Source;

/// The stage behind [`ParStream::map`](crate::ParStream::map).
pub struct Map<P, F> {
    pipe: P,
    f: F,
}

/// The stage behind [`ParStream::filter`](crate::ParStream::filter).
pub struct Filter<P, F> {
    pipe: P,
    f: F,
}

/// The stage behind [`ParStream::filter_map`](crate::ParStream::filter_map).
pub struct FilterMap<P, F> {
    pipe: P,
    f: F,
}

/// The stage behind [`ParStream::inspect`](crate::ParStream::inspect).
pub struct Inspect<P, F> {
    pipe: P,
    f: F,
}

stage_debug! { Map<P, F>; Filter<P, F>; FilterMap<P, F>; Inspect<P, F>; }

/// One synchronous stage, given what it makes of an item: `Some` goes on, `None` is dropped.
macro_rules! synchronous {
    ($stage:ident<P, F>, [$($g:tt)*], $bound:path, $item:ty, |$f:ident, $x:ident| $apply:expr) => {
        impl<P, F> $stage<P, F> {
            pub(crate) fn new(pipe: P, f: F) -> Self {
                Self { pipe, f }
            }
        }

        impl<P, F> Sealed for $stage<P, F> {}

        impl<P: Shape, F> Shape for $stage<P, F> {
            type Chunk = P::Chunk;
            type State = P::State;
            type Flow = P::Flow;
        }

        impl<P: Pipe, $($g)* F: $bound + Send + Sync> Pipe for $stage<P, F> {
            type Item = $item;
            type Source = P::Source;
            const SUSPENDS: bool = P::SUSPENDS;
            const WAITS_AT_ONCE: bool = P::WAITS_AT_ONCE;
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
                place: Pin<&mut Option<P::Flow>>,
            ) -> Begun<$item> {
                let $f = &self.f;
                match self.pipe.begin(state, item, place) {
                    Begun::Done($x) => match $apply {
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
                state: &mut P::State,
                flow: Pin<&mut P::Flow>,
                cx: &mut Context<'_>,
            ) -> Poll<Option<$item>> {
                let $f = &self.f;
                self.pipe.resume(state, flow, cx).map(|came| came.and_then(|$x| $apply))
            }

            #[inline]
            fn flush(
                &self,
                state: &mut P::State,
                mut place: Pin<&mut Option<P::Flow>>,
            ) -> Begun<$item> {
                let $f = &self.f;
                loop {
                    match self.pipe.flush(state, place.as_mut()) {
                        // `Dropped` would say that nothing is left, so ask on.
                        Begun::Done($x) => {
                            if let Some(out) = $apply {
                                return Begun::Done(out);
                            }
                        }
                        Begun::Dropped => return Begun::Dropped,
                        Begun::Waits => return Begun::Waits,
                    }
                }
            }
        }
    };
}

synchronous!(Map<P, F>, [R: Send,], Fn(P::Item) -> R, R, |f, x| Some(f(x)));
// The item is held while the closure runs, which may panic: so may the item's destructor.
synchronous!(Filter<P, F>, [], Fn(&P::Item) -> bool, P::Item, |f, x| {
    let (item, stays) = Held::while_seen(x, f);
    stays.then_some(item)
});
synchronous!(FilterMap<P, F>, [R: Send,], Fn(P::Item) -> Option<R>, R, |f, x| f(x));
synchronous!(Inspect<P, F>, [], Fn(&P::Item), P::Item, |f, x| {
    let (item, ()) = Held::while_seen(x, f);
    Some(item)
});
