//! The syntax of `select!`: collects the arms one by one, then builds the list that `arms.rs` runs and the
//! match that leads to the handlers. Not about which arm wins: the engine decides that.
//!
//! The compiler stops a macro that calls itself 128 levels deep. So an arm takes one level, and what is built from the
//! arms is built by repetition, without a level for each.

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
/// taken by `&mut`, if it is select-safe and `Unpin`. An arm also takes what is made into a select-safe future by
/// [`IntoFuture`](std::future::IntoFuture).
///
/// There may be up to 64 arms. A pattern is any pattern of the language, with `mut`, `ref mut` and `&` at any depth.
/// `else` may stand alone; the macro then has the value of its handler.
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
/// here, from being made. A temporary in the expression of a future, as in `&mut ready(1)` or `read(&format!(…))`,
/// lives until the future is gone; behind an `if` it does not, so bind it to a name before the `select!`.
#[macro_export]
macro_rules! select {
    () => {
        ::core::compile_error!("`select!` needs an arm: `pattern = future => handler`")
    };
    (biased; $($arms:tt)+) => {
        $crate::__select!(@named [true] $($arms)+)
    };
    ($($arms:tt)+) => {
        $crate::__select!(@named [false] $($arms)+)
    };
}

/// The steps of `select!`. An arm is collected as `{ name [pattern] [future] [condition] [handler] }`.
///
/// Callers of the edition before are served too:
/// ```edition2021
/// #![deny(warnings)]
/// use selvedge_cancel::{select, select_safe};
/// use std::future::{pending, poll_fn, ready};
///
/// async fn first() -> u32 {
///     let left_out = poll_fn(|_| panic!());
///     select! {
///         _ = select_safe(async { pending::<()>().await; panic!() }) => 0,
///         _ = select_safe(left_out), if false => 0,
///         Some(ref mut x) = ready(Some(1)) => { *x += 1; *x }
///     }
/// }
/// assert_eq!(futures::executor::block_on(first()), 2);
/// ```
///
/// A 65th arm is one too many:
/// ```compile_fail
/// # use selvedge_cancel::select;
/// # let p = std::future::pending::<u8>;
/// # let _ = async move { select! {
/// x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x,
/// x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x,
/// x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x,
/// x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x,
/// x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x,
/// x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x,
/// x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x,
/// x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x,
/// x = p() => x,
/// # } };
/// ```
/// ```
/// # use selvedge_cancel::select;
/// # let p = std::future::pending::<u8>;
/// # let _ = async move { select! {
/// x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x,
/// x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x,
/// x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x,
/// x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x,
/// x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x,
/// x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x,
/// x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x,
/// x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x,
/// # } };
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __select {
    // A name for each arm there may be: of its condition, and of its variant in what the list gives.
    (@named $biased:tt $($arms:tt)+) => {
        $crate::__select!(@arms $biased [] [
            _0 _1 _2 _3 _4 _5 _6 _7 _8 _9 _10 _11 _12 _13 _14 _15 _16 _17 _18 _19 _20 _21 _22 _23 _24 _25 _26 _27 _28 _29
            _30 _31 _32 _33 _34 _35 _36 _37 _38 _39 _40 _41 _42 _43 _44 _45 _46 _47 _48 _49 _50 _51 _52 _53 _54 _55 _56
            _57 _58 _59 _60 _61 _62 _63
        ] $($arms)+)
    };

    // Only a last resort.
    (@arms $biased:tt [] $names:tt else => $handler:expr $(,)?) => {
        match () {
            () => $handler,
        }
    };
    (@arms $biased:tt [] $names:tt complete => $handler:expr $(,)?) => {
        match () {
            () => $handler,
        }
    };
    // The arms are at an end, with or without a last resort.
    (@arms $biased:tt $done:tt $names:tt) => {
        $crate::__select!(@emit $biased $done [
            ::core::panic!("all arms of `select!` are disabled or did not fit, and it has no `else`")
        ])
    };
    (@arms $biased:tt $done:tt $names:tt else => $handler:expr $(,)?) => {
        $crate::__select!(@emit $biased $done [$handler])
    };
    (@arms $biased:tt $done:tt $names:tt complete => $handler:expr $(,)?) => {
        $crate::__select!(@emit $biased $done [$handler])
    };
    (@arms $biased:tt $done:tt $names:tt else => $($rest:tt)*) => {
        ::core::compile_error!("`else` ends a `select!`: no arm follows it, nor `complete`, which is the same")
    };
    (@arms $biased:tt $done:tt $names:tt complete => $($rest:tt)*) => {
        ::core::compile_error!("`complete` ends a `select!`: no arm follows it, nor `else`, which is the same")
    };
    (@arms $biased:tt $done:tt [] $($rest:tt)*) => {
        ::core::compile_error!("`select!` takes at most 64 arms; select in an arm, or spawn and await the handles")
    };

    // One arm: its handler is a block with a comma, a block without, or any expression.
    (@arms $biased:tt [$($done:tt)*] [$name:ident $($names:ident)*]
        $pattern:pat = $future:expr $(, if $condition:expr)? => $handler:block, $($rest:tt)*
    ) => {
        $crate::__select!(@arms $biased
            [$($done)* { $name [$pattern] [$future] [$($condition)?] [$handler] }] [$($names)*] $($rest)*)
    };
    (@arms $biased:tt [$($done:tt)*] [$name:ident $($names:ident)*]
        $pattern:pat = $future:expr $(, if $condition:expr)? => $handler:block $($rest:tt)*
    ) => {
        $crate::__select!(@arms $biased
            [$($done)* { $name [$pattern] [$future] [$($condition)?] [$handler] }] [$($names)*] $($rest)*)
    };
    (@arms $biased:tt [$($done:tt)*] [$name:ident $($names:ident)*]
        $pattern:pat = $future:expr $(, if $condition:expr)? => $handler:expr $(, $($rest:tt)*)?
    ) => {
        $crate::__select!(@arms $biased
            [$($done)* { $name [$pattern] [$future] [$($condition)?] [$handler] }] [$($names)*] $($($rest)*)?)
    };

    (@emit [$biased:expr]
        [$({ $name:ident [$pattern:pat] [$future:expr] [$($condition:expr)?] [$handler:expr] })+] [$else:expr]
    ) => {{
        // Which arm was first, and its value.
        enum __Select<$($name),+> {
            $($name($name)),+
        }
        // Before all futures: a condition may look at what they borrow.
        let ($($name,)+) = ($($crate::__select!(@condition $($condition)?),)+);
        // One statement: temporaries of the future expressions, such as the text in `read(&format!(…))`, live until its
        // end, and with it the futures are gone before a handler runs.
        let out = $crate::__select::list()
            $(.arm(
                $crate::__select!(@optional $name [$future] [$($condition)?]),
                |value| {
                    // The value may be of type `!`, and a pattern may bind what is not used here.
                    #[allow(unused_variables, unused_mut, unreachable_code, unreachable_patterns)]
                    {
                        let mut fits = false;
                        // A value of any type would do in the place of the panic. This lets the compiler choose the type
                        // of an output that nothing else tells it: that of `poll_fn(|_| panic!())`.
                        let mut value = match true {
                            true => value,
                            false => ::core::unreachable!(),
                        };
                        // The guard sees whether the value fits without taking it: a guard that says no has moved
                        // nothing. So a pattern may have `mut` and `&` in it, which a match on a reference would refuse.
                        match value {
                            $pattern if { fits = true; false } => ::core::unreachable!(),
                            _ => {}
                        }
                        match fits {
                            true => ::core::option::Option::Some(__Select::$name(value)),
                            false => ::core::option::Option::None,
                        }
                    }
                },
            ))+
            .run($biased)
            .await;
        match $crate::__select::own(out) {
            $(::core::option::Option::Some(__Select::$name($pattern)) => $handler,)+
            ::core::option::Option::None => $else,
            #[allow(unreachable_patterns)]
            _ => ::core::unreachable!(),
        }
    }};

    (@condition) => { true };
    (@condition $condition:expr) => { $condition };

    // Without a condition there is no block around the future, at whose end its temporaries would go.
    (@optional $name:ident [$future:expr] []) => {
        ::core::option::Option::Some($crate::__select::check($future))
    };
    (@optional $name:ident [$future:expr] [$condition:expr]) => {
        match $name {
            true => ::core::option::Option::Some($crate::__select::check($future)),
            false => ::core::option::Option::None,
        }
    };
}
