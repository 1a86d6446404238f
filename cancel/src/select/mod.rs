//! Waiting for the first of several select-safe futures: `select`, over a tuple of futures with one
//! output type. Its sibling `select!` (`macros.rs`) has patterns and handlers; both run on `arms.rs`.
//!
//! Not for futures that must be heard out: whatever is selected here may be dropped at any await.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::SelectSafe;

pub mod arms;
mod macros;

use arms::{Arm, Arms, Nil};

/// Waits for the first of these futures that is ready, gives its value, and drops the others at once.
///
/// Takes a tuple of 2 to 12 futures with the same output, all [`SelectSafe`]: what loses is dropped where
/// it stands, the last of the tuple first. If several are ready in the same poll, the first listed wins,
/// and those after it are not polled. For unlike outputs, patterns and conditions there is
/// [`select!`](macro@crate::select).
///
/// # Examples
/// ```
/// use futures::executor::block_on;
/// use selvedge_cancel::{CancelToken, select, select_safe};
///
/// let token = CancelToken::new();
/// let stopped = async |token: &CancelToken| {
///     let stop = select_safe(async { token.cancelled().await.to_string() });
///     let work = select_safe(async { "done".to_owned() });
///     select((stop, work)).await
/// };
/// assert_eq!(block_on(stopped(&token)), "done");
/// token.cancel_with("enough");
/// assert!(block_on(stopped(&token)).starts_with("requested: enough"));
/// ```
///
/// An `async` block is not select-safe, and is refused:
/// ```compile_fail,E0277
/// selvedge_cancel::select((async { 1 }, std::future::ready(2)));
/// ```
///
/// # Panics
/// A panic in one of the futures goes on here, once the others are dropped. So does a panic in the
/// destructor of a loser: the other losers are dropped all the same, and the value that won is dropped too.
///
/// # Cancel safety
/// Drops all the futures, the last of the tuple first; a panic in a destructor keeps none of the others from being
/// dropped. It is [`SelectSafe`], as they are.
pub fn select<S: SelectTuple>(futures: S) -> Select<S> {
    Select {
        arms: futures.into_arms(),
    }
}

pin_project! {
    /// Waits for the first of several futures; from [`select`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Select<S: SelectTuple> {
        #[pin]
        arms: S::Arms,
    }

    impl<S: SelectTuple> PinnedDrop for Select<S> {
        fn drop(this: Pin<&mut Self>) {
            arms::drop_arms(this.project().arms);
        }
    }
}

impl<S: SelectTuple> Future for Select<S> {
    type Output = S::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<S::Output> {
        match arms::poll_first(self.project().arms, cx, true) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(out)) => Poll::Ready(out),
            Poll::Ready(None) => panic!("`Select` polled after it was ready"),
        }
    }
}

impl<S: SelectTuple> SelectSafe for Select<S> {}

impl<S: SelectTuple> fmt::Debug for Select<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Select").finish_non_exhaustive()
    }
}

/// A tuple of 2 to 12 select-safe futures with the same output, for [`select`].
///
/// Implemented here only.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no tuple of 2 to 12 futures with one output type",
    note = "for unlike outputs use `select!`, or map them to an enum first"
)]
pub trait SelectTuple: sealed::Sealed {
    /// What each of the futures gives.
    type Output;
    #[doc(hidden)]
    type Arms: Arms<Self::Output>;
    #[doc(hidden)]
    fn into_arms(self) -> Self::Arms;
}

#[allow(unnameable_types)]
mod sealed {
    /// Keeps `SelectTuple` to the tuples of this file.
    pub trait Sealed {}
}

/// The type of a list of arms whose values always fit; the last arm is the outermost.
macro_rules! list {
    ([$list:ty]) => { $list };
    ([$list:ty] $first:ident $($rest:ident)*) => {
        list!([Arm<$first, fn(T) -> Option<T>, $list>] $($rest)*)
    };
}

macro_rules! into_list {
    ([$list:expr]) => { $list };
    ([$list:expr] $first:ident $($rest:ident)*) => {
        into_list!([Arm::new(Some($first), Some as fn(T) -> Option<T>, $list)] $($rest)*)
    };
}

macro_rules! tuples {
    ($($future:ident)+) => {
        impl<$($future),+> sealed::Sealed for ($($future,)+) {}

        impl<T, $($future: SelectSafe<Output = T>),+> SelectTuple for ($($future,)+) {
            type Output = T;
            type Arms = list!([Nil] $($future)+);

            #[allow(non_snake_case, reason = "one name for a type and for its value")]
            fn into_arms(self) -> Self::Arms {
                let ($($future,)+) = self;
                into_list!([Nil] $($future)+)
            }
        }
    };
}

tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
tuples!(A B C D E);
tuples!(A B C D E F);
tuples!(A B C D E F G);
tuples!(A B C D E F G H);
tuples!(A B C D E F G H I);
tuples!(A B C D E F G H I J);
tuples!(A B C D E F G H I J K);
tuples!(A B C D E F G H I J K L);
