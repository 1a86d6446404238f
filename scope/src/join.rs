//! `join`, `join_all` and their `try_` forms: several futures side by side, in parallel, without a scope
//! block. For children that spawn, or that start at different times, open a scope.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use crate::batch::Batch;
use crate::pool::Pool;
use crate::watched::{First, FirstFailed, Watch, Watched, take_first};

/// Runs all futures, in parallel where it pays, and yields their outputs in order.
///
/// A drop-in for `futures::future::join_all` where the futures are `Send`, with one allocation for all of
/// them, and small ones for those that wait at the same time: a waker that is kept for too long keeps one of
/// these, eight kibibytes, and none of the futures. Futures that are not `Send` stay with that one.
///
/// # Examples
/// ```
/// use selvedge_scope::{block_on, join_all};
///
/// let squares = block_on(join_all((1..=3).map(|n| async move { n * n })));
/// assert_eq!(squares, [1, 4, 9]);
/// ```
///
/// # Panics
/// If one panics: the others are asked to stop, all are awaited, then the first payload is raised.
///
/// # Cancel safety
/// Dropping it drops the futures where they are, and the outputs there are.
#[track_caller]
pub fn join_all<I>(futures: I) -> JoinAll<I::Item>
where
    I: IntoIterator,
    I::Item: Future<Output: Send> + Send,
{
    JoinAll {
        // By reference, as below: an array of big futures is not moved once more.
        batch: Batch::new(&mut futures.into_iter()),
    }
}

pin_project! {
    /// The outputs of many futures; from [`join_all`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct JoinAll<F: Future> {
        #[pin]
        batch: Batch<F>,
    }
}

impl<F: Future<Output: Send> + Send> JoinAll<F> {
    /// Polls everything on the thread that polls this future.
    pub fn inline(self) -> Self {
        Self {
            batch: self.batch.inline(),
        }
    }

    /// Lends to this pool instead of the global one.
    pub fn on(self, pool: &Pool) -> Self {
        Self {
            batch: self.batch.on(pool),
        }
    }

    /// Says that each poll computes for long, as [`Scoped::heavy`](crate::Scoped::heavy).
    pub fn heavy(self) -> Self {
        Self {
            batch: self.batch.heavy(),
        }
    }

    /// Says that polls are short, as [`Scoped::cheap`](crate::Scoped::cheap).
    pub fn cheap(self) -> Self {
        Self {
            batch: self.batch.cheap(),
        }
    }
}

impl<F: Future<Output: Send> + Send> Future for JoinAll<F> {
    type Output = Vec<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().batch.poll(cx)
    }
}

/// Runs all futures as [`join_all`] does; the first error cancels the others and is the result.
///
/// # Examples
/// ```
/// use selvedge_scope::{block_on, try_join_all};
///
/// let good = block_on(try_join_all(["1", "2"].map(|text| async move { text.parse::<u8>() })));
/// assert_eq!(good, Ok(vec![1, 2]));
/// let bad = block_on(try_join_all(["1", "x"].map(|text| async move { text.parse::<u8>() })));
/// assert!(bad.is_err());
/// ```
///
/// # Errors
/// The first error that came. The others are asked to stop, and all are awaited before this returns;
/// `futures::future::try_join_all` drops them where they are.
///
/// # Panics
/// As [`join_all`].
///
/// # Cancel safety
/// As [`join_all`].
#[track_caller]
pub fn try_join_all<T: Send, E: Send, I>(futures: I) -> TryJoinAll<I::Item>
where
    I: IntoIterator,
    I::Item: Future<Output = Result<T, E>> + Send,
{
    let first = FirstFailed::none();
    let batch = Batch::new(&mut Watch::new(
        &mut futures.into_iter(),
        &first,
        Result::is_err,
    ));
    TryJoinAll { batch, first }
}

pin_project! {
    /// The values of many futures, or the first error; from [`try_join_all`].
    #[must_use = "futures do nothing unless polled"]
    pub struct TryJoinAll<F: Future> {
        #[pin]
        batch: Batch<Watched<F>>,
        first: First,
    }
}

impl<T: Send, E: Send, F: Future<Output = Result<T, E>> + Send> Future for TryJoinAll<F> {
    type Output = Result<Vec<T>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut outputs = ready!(this.batch.poll(cx));
        if let Some(index) = this.first.get() {
            outputs = vec![take_first(outputs, index)];
        }
        Poll::Ready(outputs.into_iter().collect())
    }
}

impl<F: Future> fmt::Debug for TryJoinAll<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryJoinAll")
            .field("batch", &self.batch)
            .finish_non_exhaustive()
    }
}

#[allow(unnameable_types)]
mod private {
    /// Only tuples of this crate implement the join traits.
    pub trait Sealed {}
}

/// Tuples of futures that [`join`] takes: up to twelve, all `Send`.
pub trait JoinTuple: private::Sealed {
    /// A tuple of the outputs.
    type Output;
    /// One future out of the tuple.
    #[doc(hidden)]
    type Child: Future<Output: Send> + Send;
    #[doc(hidden)]
    type Children: AsMut<[Option<Self::Child>]>;
    #[doc(hidden)]
    fn children(self) -> Self::Children;
    #[doc(hidden)]
    fn merge(outputs: Vec<<Self::Child as Future>::Output>) -> Self::Output;
}

/// Tuples of fallible futures that [`try_join`] takes: up to twelve, all `Send`, with one error type.
pub trait TryJoinTuple: JoinTuple {
    /// A tuple of the values.
    type Values;
    /// The error of every member.
    type Error;
    #[doc(hidden)]
    fn failed(output: &<Self::Child as Future>::Output) -> bool;
    #[doc(hidden)]
    fn settle(
        outputs: Vec<<Self::Child as Future>::Output>,
        first: Option<usize>,
    ) -> Result<Self::Values, Self::Error>;
}

/// Runs the futures of a tuple side by side and yields a tuple of their outputs.
///
/// # Examples
/// ```
/// use selvedge_scope::{block_on, join};
///
/// let text = String::from("selvedge");
/// let both = block_on(join((async { text.len() }, async { text.starts_with('s') })));
/// assert_eq!(both, (8, true));
/// ```
///
/// # Panics
/// As [`join_all`].
///
/// # Cancel safety
/// As [`join_all`].
#[track_caller]
pub fn join<J: JoinTuple>(futures: J) -> Join<J> {
    Join {
        batch: Batch::new(Children(futures.children().as_mut().iter_mut())),
    }
}

pin_project! {
    /// The outputs of a tuple of futures; from [`join`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Join<J: JoinTuple> {
        #[pin]
        batch: Batch<J::Child>,
    }
}

impl<J: JoinTuple> Future for Join<J> {
    type Output = J::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().batch.poll(cx).map(J::merge)
    }
}

impl<J: JoinTuple> fmt::Debug for Join<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Join").finish_non_exhaustive()
    }
}

/// Runs the futures of a tuple side by side; the first error cancels the others and is the result.
///
/// # Examples
/// ```
/// use selvedge_scope::{block_on, try_join};
///
/// let both = block_on(try_join((async { "1".parse::<u8>() }, async { Ok("one") })));
/// assert_eq!(both, Ok((1, "one")));
/// ```
///
/// # Errors
/// As [`try_join_all`].
///
/// # Panics
/// As [`join_all`].
///
/// # Cancel safety
/// As [`join_all`].
#[track_caller]
pub fn try_join<J: TryJoinTuple>(futures: J) -> TryJoin<J> {
    let first = FirstFailed::none();
    let mut children = futures.children();
    let mut children = Children(children.as_mut().iter_mut());
    let batch = Batch::new(&mut Watch::new(&mut children, &first, J::failed));
    TryJoin { batch, first }
}

pin_project! {
    /// The values of a tuple of futures, or the first error; from [`try_join`].
    #[must_use = "futures do nothing unless polled"]
    pub struct TryJoin<J: TryJoinTuple> {
        #[pin]
        batch: Batch<Watched<J::Child>>,
        first: First,
    }
}

impl<J: TryJoinTuple> Future for TryJoin<J> {
    type Output = Result<J::Values, J::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outputs = ready!(this.batch.poll(cx));
        Poll::Ready(J::settle(outputs, this.first.get()))
    }
}

impl<J: TryJoinTuple> fmt::Debug for TryJoin<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryJoin").finish_non_exhaustive()
    }
}

/// Takes the members of a tuple one by one, from where they are: an array by value would lie on the stack some
/// times more.
struct Children<'a, F>(std::slice::IterMut<'a, Option<F>>);

impl<F> Iterator for Children<'_, F> {
    type Item = F;

    fn next(&mut self) -> Option<F> {
        self.0.next()?.take()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

/// One enum of futures and one of outputs for each length of tuple.
macro_rules! tuples {
    ($($module:ident $n:literal: $($ty:ident $value:ident $field:tt),+;)+) => { $(
        #[allow(missing_docs, missing_debug_implementations, unreachable_pub, unnameable_types)]
        mod $module {
            use super::{Context, Future, Pin, Poll, pin_project};

            pin_project! {
                #[project = Project]
                pub enum Child<$($ty),+> { $($ty { #[pin] future: $ty },)+ }
            }

            pub enum Output<$($ty),+> { $($ty($ty),)+ }

            impl<$($ty: Future),+> Future for Child<$($ty),+> {
                type Output = Output<$($ty::Output),+>;

                fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
                    match self.project() {
                        $(Project::$ty { future } => future.poll(cx).map(Output::$ty),)+
                    }
                }
            }
        }

        impl<$($ty),+> private::Sealed for ($($ty,)+) {}

        impl<$($ty: Future<Output: Send> + Send),+> JoinTuple for ($($ty,)+) {
            type Output = ($($ty::Output,)+);
            type Child = $module::Child<$($ty),+>;
            type Children = [Option<Self::Child>; $n];

            fn children(self) -> Self::Children {
                [$(Some($module::Child::$ty { future: self.$field }),)+]
            }

            #[allow(unreachable_patterns)]
            fn merge(outputs: Vec<<Self::Child as Future>::Output>) -> Self::Output {
                let mut outputs = outputs.into_iter();
                ($(match outputs.next() {
                    Some($module::Output::$ty(value)) => value,
                    _ => unreachable!("a batch yields its outputs in order"),
                },)+)
            }
        }

        #[allow(non_snake_case)]
        impl<Er: Send, $($value: Send, $ty: Future<Output = Result<$value, Er>> + Send),+> TryJoinTuple
            for ($($ty,)+)
        {
            type Values = ($($value,)+);
            type Error = Er;

            fn failed(output: &<Self::Child as Future>::Output) -> bool {
                match output {
                    $($module::Output::$ty(result) => result.is_err(),)+
                }
            }

            fn settle(
                outputs: Vec<<Self::Child as Future>::Output>,
                first: Option<usize>,
            ) -> Result<Self::Values, Er> {
                if let Some(index) = first {
                    match take_first(outputs, index) {
                        $($module::Output::$ty(Err(error)) => return Err(error),)+
                        _ => unreachable!("the member that was noted has failed"),
                    }
                }
                let ($($value,)+) = Self::merge(outputs);
                Ok(($($value?,)+))
            }
        }
    )+ };
}

tuples! {
    one 1: A VA 0;
    two 2: A VA 0, B VB 1;
    three 3: A VA 0, B VB 1, C VC 2;
    four 4: A VA 0, B VB 1, C VC 2, D VD 3;
    five 5: A VA 0, B VB 1, C VC 2, D VD 3, E VE 4;
    six 6: A VA 0, B VB 1, C VC 2, D VD 3, E VE 4, F VF 5;
    seven 7: A VA 0, B VB 1, C VC 2, D VD 3, E VE 4, F VF 5, G VG 6;
    eight 8: A VA 0, B VB 1, C VC 2, D VD 3, E VE 4, F VF 5, G VG 6, H VH 7;
    nine 9: A VA 0, B VB 1, C VC 2, D VD 3, E VE 4, F VF 5, G VG 6, H VH 7, I VI 8;
    ten 10: A VA 0, B VB 1, C VC 2, D VD 3, E VE 4, F VF 5, G VG 6, H VH 7, I VI 8, J VJ 9;
    eleven 11: A VA 0, B VB 1, C VC 2, D VD 3, E VE 4, F VF 5, G VG 6, H VH 7, I VI 8, J VJ 9, K VK 10;
    twelve 12: A VA 0, B VB 1, C VC 2, D VD 3, E VE 4, F VF 5, G VG 6, H VH 7, I VI 8, J VJ 9, K VK 10, L VL 11;
}
