//! How the closures of `reduce`, `reduce_with` and `try_reduce` join two values.

use std::convert::Infallible;

/// How items become values, two values one, and what stands for none.
///
/// Hidden: it is public only because [`Reduce`](super::reduce::Reduce) is bounded by it.
#[doc(hidden)]
pub trait Join<T>: Send + Sync {
    /// What is joined.
    type Value: Send;
    /// What ends the intake.
    type Error: Send;
    /// What comes of it all.
    type Out;
    /// Whether there can be an error.
    const FAILS: bool;
    /// The value of an item.
    fn value(&self, item: T) -> Result<Self::Value, Self::Error>;
    /// Joins; `left` comes before `right` in the source if the pipeline is ordered.
    fn join(&self, left: Self::Value, right: Self::Value) -> Result<Self::Value, Self::Error>;
    /// The result of everything joined.
    fn out(&self, all: Result<Option<Self::Value>, Self::Error>) -> Self::Out;
}

macro_rules! opaque {
    ($($name:ident<$($g:ident),*>)*) => { $(
        impl<$($g),*> std::fmt::Debug for $name<$($g),*> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )* };
}
opaque! { WithIdentity<I, F> Without<F> Fallible<I, F> }

/// `reduce(identity, f)`.
pub struct WithIdentity<I, F>(pub(crate) I, pub(crate) F);

impl<T: Send, I, F> Join<T> for WithIdentity<I, F>
where
    I: Fn() -> T + Send + Sync,
    F: Fn(T, T) -> T + Send + Sync,
{
    type Value = T;
    type Error = Infallible;
    type Out = T;
    const FAILS: bool = false;

    #[inline]
    fn value(&self, item: T) -> Result<T, Infallible> {
        Ok(item)
    }

    #[inline]
    fn join(&self, left: T, right: T) -> Result<T, Infallible> {
        Ok((self.1)(left, right))
    }

    fn out(&self, all: Result<Option<T>, Infallible>) -> T {
        let Ok(all) = all;
        all.unwrap_or_else(&self.0)
    }
}

/// `reduce_with(f)`.
pub struct Without<F>(pub(crate) F);

impl<T: Send, F: Fn(T, T) -> T + Send + Sync> Join<T> for Without<F> {
    type Value = T;
    type Error = Infallible;
    type Out = Option<T>;
    const FAILS: bool = false;

    #[inline]
    fn value(&self, item: T) -> Result<T, Infallible> {
        Ok(item)
    }

    #[inline]
    fn join(&self, left: T, right: T) -> Result<T, Infallible> {
        Ok((self.0)(left, right))
    }

    fn out(&self, all: Result<Option<T>, Infallible>) -> Option<T> {
        let Ok(all) = all;
        all
    }
}

/// `try_reduce(identity, f)`.
pub struct Fallible<I, F>(pub(crate) I, pub(crate) F);

impl<T: Send, E: Send, I, F> Join<Result<T, E>> for Fallible<I, F>
where
    I: Fn() -> T + Send + Sync,
    F: Fn(T, T) -> Result<T, E> + Send + Sync,
{
    type Value = T;
    type Error = E;
    type Out = Result<T, E>;
    const FAILS: bool = true;

    #[inline]
    fn value(&self, item: Result<T, E>) -> Result<T, E> {
        item
    }

    #[inline]
    fn join(&self, left: T, right: T) -> Result<T, E> {
        (self.1)(left, right)
    }

    fn out(&self, all: Result<Option<T>, E>) -> Result<T, E> {
        all.map(|all| all.unwrap_or_else(&self.0))
    }
}
