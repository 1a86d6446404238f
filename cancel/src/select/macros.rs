//! The syntax of `select!`: collects the arms one by one, then builds the list that `arms.rs` runs and the
//! match that leads to the handlers. Nothing is decided here: which arm wins is the engine's business.

/// Waits for the first of several select-safe futures and runs its handler; the others are dropped at once.
///
/// ```text
/// select! {
///     biased;                                       optional: the first listed wins ties
///     pattern = future => handler,
///     pattern = future, if condition => { … }       no comma needed after a block
///     else => handler                               optional, last; `complete` means the same
/// }
/// ```
///
/// **Only [`SelectSafe`](trait@crate::SelectSafe) futures are taken**, because all but one are dropped half-way. An
/// `async` block is not one of them, nor is a scope: spawn it and select on `&mut handle`, which stays and can be
/// selected again; or vouch for it with [`select_safe`](crate::select_safe()). A future that is kept outside is
/// taken by `&mut`, if it is select-safe and `Unpin`.
///
/// First all conditions are evaluated, then the futures, in order; the future of an arm whose condition is
/// false is not evaluated. Then they are polled where they are, on this task. The first value that fits its
/// pattern wins; an arm whose value does not fit is over, and its value is dropped. Before the handler runs, all
/// futures are dropped, the last first; so a handler may use what the futures borrowed, and may `await`, `return`,
/// `break`, `continue` and `?`. The macro is an expression, and has the handler's value.
///
/// If several arms are ready in the same poll, chance decides which is first, and the others are not asked; with
/// `biased;`, the order in the list does. If all arms are over, `else` runs: it takes one arm that goes on waiting
/// to keep it from that.
///
/// # Examples
/// ```
/// use futures::channel::mpsc;
/// use futures::{StreamExt, executor::block_on};
/// use selvedge_cancel::{CancelToken, select, select_safe};
///
/// async fn count(mut items: mpsc::Receiver<u32>, token: &CancelToken) -> u32 {
///     let mut sum = 0;
///     loop {
///         select! {
///             biased;
///             _ = token.cancelled() => return sum,
///             item = select_safe(items.next()) => match item {
///                 Some(item) => sum += item,
///                 None => return sum,
///             },
///         }
///     }
/// }
/// # let (mut send, receive) = mpsc::channel(4);
/// # (1..=3).for_each(|item| send.try_send(item).unwrap());
/// # let token = CancelToken::new();
/// # drop(send);
/// # assert_eq!(block_on(count(receive, &token)), 6);
/// ```
///
/// An `async` block is refused, and the message says what to do instead:
/// ```compile_fail,E0277
/// # use selvedge_cancel::select;
/// async fn first() -> u32 {
///     select! {
///         x = async { 1 } => x,
///     }
/// }
/// ```
/// ```
/// # use selvedge_cancel::{select, select_safe};
/// async fn first() -> u32 {
///     select! {
///         x = select_safe(async { 1 }) => x,
///     }
/// }
/// # assert_eq!(futures::executor::block_on(first()), 1);
/// ```
///
/// A future that is kept is taken by `&mut` only if it is select-safe itself; otherwise it would wait unpolled,
/// perhaps with a lock in its hands that a handler needs:
/// ```compile_fail,E0277
/// # use selvedge_cancel::select;
/// async fn first() -> u32 {
///     let mut kept = Box::pin(async { 1 });
///     select! {
///         x = &mut kept => x,
///     }
/// }
/// ```
/// ```
/// # use selvedge_cancel::{select, select_safe};
/// async fn first() -> u32 {
///     let mut kept = Box::pin(select_safe(async { 1 }));
///     select! {
///         x = &mut kept => x,
///     }
/// }
/// # assert_eq!(futures::executor::block_on(first()), 1);
/// ```
///
/// `else` and `complete` are one thing, and the last:
/// ```compile_fail
/// # use selvedge_cancel::select;
/// # use std::future::ready;
/// async fn first() -> u32 {
///     select! {
///         1 = ready(2) => 1,
///         else => 2,
///         complete => 3,
///     }
/// }
/// ```
/// ```
/// # use selvedge_cancel::select;
/// # use std::future::ready;
/// async fn first() -> u32 {
///     select! {
///         1 = ready(2) => 1,
///         complete => 3,
///     }
/// }
/// # assert_eq!(futures::executor::block_on(first()), 3);
/// ```
///
/// # Panics
/// If all arms are over and there is no `else`. A panic in a future goes on here, once the others are dropped. So
/// does a panic in the destructor of a loser: the other losers are dropped all the same, and the value that won is
/// dropped too.
///
/// # Cancel safety
/// The await is one of the task's own: who drops the task there drops the futures of all arms, the last first. The
/// macro loses no value: an arm that was not the first has not been polled after the one that was.
///
/// # Compared with the others
/// `tokio::select!` and `futures::select!` take any future and drop the losers: a half-done send is lost, and
/// nobody is told. The arms are written as for tokio's, whose `if` keeps a future from being polled, but not, as
/// here, from being made.
#[macro_export]
macro_rules! select {
    () => {
        ::core::compile_error!("`select!` needs an arm: `pattern = future => handler`")
    };
    (biased; $($arms:tt)+) => {
        $crate::__select!(@arms [true] [] $($arms)+)
    };
    ($($arms:tt)+) => {
        $crate::__select!(@arms [false] [] $($arms)+)
    };
}

/// The steps of `select!`. An arm is collected as `{ [pattern] [future] [condition] [handler] }`.
#[doc(hidden)]
#[macro_export]
macro_rules! __select {
    // The arms are at an end, with or without a last resort.
    (@arms $biased:tt $done:tt) => {
        $crate::__select!(@emit $biased $done [
            ::core::panic!("all arms of `select!` are disabled or did not fit, and it has no `else`")
        ])
    };
    (@arms $biased:tt $done:tt else => $handler:expr $(,)?) => {
        $crate::__select!(@emit $biased $done [$handler])
    };
    (@arms $biased:tt $done:tt complete => $handler:expr $(,)?) => {
        $crate::__select!(@emit $biased $done [$handler])
    };
    (@arms $biased:tt $done:tt else => $($rest:tt)*) => {
        ::core::compile_error!("`else` ends a `select!`: no arm follows it, nor `complete`, which is the same")
    };
    (@arms $biased:tt $done:tt complete => $($rest:tt)*) => {
        ::core::compile_error!("`complete` ends a `select!`: no arm follows it, nor `else`, which is the same")
    };
    (@arms $biased:tt $done:tt $pattern:pat = $($rest:tt)*) => {
        $crate::__select!(@future $biased $done [$pattern] $($rest)*)
    };
    (@future $biased:tt $done:tt $pattern:tt $future:expr, if $condition:expr => $($rest:tt)*) => {
        $crate::__select!(@handler $biased $done { $pattern [$future] [$condition] } $($rest)*)
    };
    (@future $biased:tt $done:tt $pattern:tt $future:expr => $($rest:tt)*) => {
        $crate::__select!(@handler $biased $done { $pattern [$future] [] } $($rest)*)
    };
    (@handler $biased:tt [$($done:tt)*] { $($arm:tt)* } $handler:block, $($rest:tt)*) => {
        $crate::__select!(@arms $biased [$($done)* { $($arm)* [$handler] }] $($rest)*)
    };
    (@handler $biased:tt [$($done:tt)*] { $($arm:tt)* } $handler:block $($rest:tt)*) => {
        $crate::__select!(@arms $biased [$($done)* { $($arm)* [$handler] }] $($rest)*)
    };
    (@handler $biased:tt [$($done:tt)*] { $($arm:tt)* } $handler:expr $(, $($rest:tt)*)?) => {
        $crate::__select!(@arms $biased [$($done)* { $($arm)* [$handler] }] $($($rest)*)?)
    };

    (@emit [$biased:expr] [$({ $pattern:tt $future:tt [$($condition:expr)?] $handler:tt })*] [$else:expr]) => {{
        let out = {
            // Before all futures: a condition may look at what they borrow.
            #[allow(unused_variables)]
            let conditions = [$($crate::__select!(@condition $($condition)?)),*];
            // The `match` keeps temporaries of the future expressions, such as the text in `read(&format!(…))`, until
            // the futures are gone; and this block ends before a handler runs.
            match $crate::__select!(@list conditions [0] $({ $pattern $future [$($condition)?] })*) {
                arms => $crate::__select::run(arms, $biased).await,
            }
        };
        #[allow(unreachable_patterns)]
        match out {
            ::core::option::Option::None => $else,
            ::core::option::Option::Some(out) => $crate::__select!(@match out $({ $pattern $handler })*),
        }
    }};

    (@condition) => { true };
    (@condition $condition:expr) => { $condition };

    // The list of arms, from the first to the last, so that the futures are evaluated in this order.
    (@list $conditions:ident $at:tt) => { $crate::__select::Nil };
    (@list $conditions:ident [$at:expr] { [$pattern:pat] $future:tt $condition:tt } $($rest:tt)*) => {
        $crate::__select::Arm::new(
            $crate::__select!(@optional $conditions [$at] $future $condition),
            |value| {
                let mut fits = false;
                // The guard sees whether the value fits without taking it: a guard that says no has moved nothing. So
                // a pattern may have `mut` and `&` in it, which a match on a reference would refuse.
                #[allow(unused_variables, unused_mut, unreachable_code, unreachable_patterns)]
                match value {
                    $pattern if { fits = true; false } => ::core::unreachable!(),
                    _ => {}
                }
                match fits {
                    true => ::core::option::Option::Some(value),
                    false => ::core::option::Option::None,
                }
            },
            $crate::__select!(@list $conditions [$at + 1] $($rest)*),
        )
    };

    // Without a condition there is no block around the future, at whose end its temporaries would go.
    (@optional $conditions:ident $at:tt [$future:expr] []) => {
        ::core::option::Option::Some($crate::__select::check($future))
    };
    (@optional $conditions:ident [$at:expr] [$future:expr] [$condition:expr]) => {
        match $conditions[$at] {
            true => ::core::option::Option::Some($crate::__select::check($future)),
            false => ::core::option::Option::None,
        }
    };

    (@match $out:ident) => { match $out {} };
    (@match $out:ident { [$pattern:pat] [$handler:expr] } $($rest:tt)*) => {
        match $out {
            $crate::__select::Out::Here($pattern) => $handler,
            $crate::__select::Out::Here(_) => ::core::unreachable!(),
            $crate::__select::Out::There($out) => $crate::__select!(@match $out $($rest)*),
        }
    };
}
