//! Shapes of arms that `tokio::select!` takes: `select!` takes them too, and its expansion earns no lint. Not about
//! which arm wins and what is dropped when: see `select/`.
#![cfg(not(selvedge_loom))]
#![deny(warnings, clippy::all)]

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, IntoFuture, Ready, pending, poll_fn, ready};
use std::pin::pin;
use std::task::Poll;

use futures::executor::block_on;
use selvedge_cancel::{select, select_safe};

#[derive(Debug, PartialEq)]
struct Point {
    x: String,
    y: Option<String>,
}

fn point() -> Ready<Point> {
    ready(Point {
        x: "warp".into(),
        y: Some("weft".into()),
    })
}

async fn never() -> ! {
    pending().await
}

#[test]
fn bindings_inside_a_pattern_are_mutable_and_by_reference() {
    let text = || ready(Some(String::from("warp")));
    let seen = block_on(async {
        let by_mutable_reference = select! {
            Some(ref mut x) = text() => { x.push('!'); x.clone() }
        };
        let by_reference = select! { Some(ref x) = text() => x.len() };
        let by_value = select! { Some(mut x) = text() => { x.push('?'); x } };
        let whole = select! { ref mut x = text() => { x.as_mut().unwrap().push('.'); x.take() } };
        let outer = select! { mut x = text() => { x.take(); x } };
        (by_mutable_reference, by_reference, by_value, whole, outer)
    });
    let (a, b, c, d, e) = seen;
    assert_eq!((&*a, b, &*c), ("warp!", 4, "warp?"));
    assert_eq!((d.as_deref(), e), (Some("warp."), None));
}

#[test]
fn bindings_deep_inside_a_pattern_are_mutable_and_by_reference() {
    let tuple = || ready(Ok::<_, ()>((String::from("warp"), 7, [1, 2, 3])));
    block_on(async {
        let struct_pattern = select! {
            Point { ref mut x, y: Some(mut y) } = point() => { x.push('!'); y.push('?'); format!("{x}{y}") }
        };
        assert_eq!(struct_pattern, "warp!weft?");
        let tuple_pattern = select! {
            Ok((ref mut x, 5..=7, [mut first, ref middle, ..])) = tuple() => {
                x.push('!');
                first += *middle;
                (x.clone(), first)
            }
        };
        assert_eq!(tuple_pattern, ("warp!".into(), 3));
        let (mut number, other) = (5, 6);
        let seen = select! { Some(&mut n) = ready(Some(&mut number)) => n };
        assert_eq!(seen, 5);
        let seen = select! { (&a, &Some(b)) = ready((&other, &Some(2))) => a + b };
        assert_eq!(seen, 8);
        let changed =
            select! { Some(&mut ref mut n) = ready(Some(&mut number)) => { *n += 1; *n } };
        assert_eq!((changed, number), (6, 6));
        let either = select! {
            Ok(mut n) | Err(mut n) = ready(Err::<u8, u8>(4)) => { n += 1; n }
        };
        assert_eq!(either, 5);
        let bound = select! { ref mut all @ Some(_) = ready(Some(1)) => all.take() };
        assert_eq!(bound, Some(1));
        let boxed = select! { Some(mut x) = ready(Some(Box::new(1))) => { *x += 1; *x } };
        assert_eq!(boxed, 2);
    });
}

#[test]
fn value_that_does_not_fit_a_pattern_by_mutable_reference_ends_its_arm() {
    let seen = block_on(async {
        select! {
            Some(ref mut x) = ready(None::<u32>) => { *x += 1; *x }
            else => 9,
        }
    });
    assert_eq!(seen, 9);
}

#[test]
fn value_bound_by_reference_lives_through_an_await_of_the_handler() {
    let seen = block_on(async {
        select! {
            Some(ref mut x) = ready(Some(1)) => {
                *x += ready(1).await;
                *x
            }
            x = pending() => x,
        }
    });
    assert_eq!(seen, 2);
}

#[test]
fn arm_that_never_gives_a_value_is_fine_beside_one_that_does() {
    let seen = block_on(async {
        let ignored = select! {
            _ = select_safe(never()) => 0,
            x = ready(1) => x,
        };
        let used: u8 = select! {
            x = select_safe(never()) => x,
            x = ready(2) => x,
        };
        let typed: u8 = select! {
            biased;
            x = pending::<Infallible>() => match x {},
            Err(x) = pending::<Result<Infallible, u8>>() => x,
            x = ready(3) => x,
        };
        let left_out = select! {
            _ = select_safe(never()), if false => 0,
            else => 4,
        };
        [ignored, used, typed, left_out]
    });
    assert_eq!(seen, [1, 2, 3, 4]);
}

#[test]
fn handler_that_never_returns_is_fine_beside_one_that_does() {
    async fn first(mut only: Option<u8>) -> Result<u8, u8> {
        loop {
            select! {
                biased;
                Some(x) = ready(only), if only != Some(3) => return Ok(x),
                Some(_) = ready(only) => break,
                else => {
                    only = Some(5);
                    continue;
                }
            }
        }
        Err(3)
    }
    assert_eq!(block_on(first(Some(1))), Ok(1));
    assert_eq!(block_on(first(Some(3))), Err(3));
    assert_eq!(block_on(first(None)), Ok(5));
}

#[test]
fn else_alone_is_the_value() {
    let seen = block_on(async {
        let plain = select! { else => 1 };
        let biased = select! { biased; else => { 2 } };
        let comma = select! { complete => ready(3).await, };
        [plain, biased, comma]
    });
    assert_eq!(seen, [1, 2, 3]);
    async fn leaves(early: bool) -> u8 {
        if early {
            select! { else => return 4 }
        }
        5
    }
    assert_eq!([block_on(leaves(true)), block_on(leaves(false))], [4, 5]);
}

#[test]
#[deny(clippy::pedantic, clippy::default_numeric_fallback)]
fn expansion_earns_no_stricter_lint_either() {
    let seen = block_on(async {
        select! {
            Some(ref mut x) = ready(Some(1_u8)), if true => { *x += 1; *x }
            x = select_safe(never()) => x,
            else => 0_u8,
        }
    });
    assert_eq!(seen, 2);
}

// The type of its output is known to nobody, and it is not polled.
#[test]
fn future_of_no_known_output_is_left_out_by_its_condition() {
    let is_on = Cell::new(false);
    let seen = block_on(async {
        let kept = poll_fn(|_| panic!("polled although it is left out"));
        let one = select! {
            _ = select_safe(poll_fn(|_| panic!("polled although it is left out"))), if false => 0,
            x = ready(1) => x,
        };
        let other = select! {
            _ = select_safe(kept), if is_on.get() => unreachable!("it is left out"),
            x = ready(2) => x,
        };
        let last = select! {
            biased;
            x = select_safe(poll_fn(|_| panic!("polled although it is left out"))), if false => x,
            else => 3,
        };
        [one, other, last]
    });
    assert_eq!(seen, [1, 2, 3]);
}

#[test]
fn arm_takes_what_can_be_made_a_future() {
    struct Request(u8);
    impl IntoFuture for Request {
        type Output = u8;
        type IntoFuture = Ready<u8>;
        fn into_future(self) -> Ready<u8> {
            ready(self.0)
        }
    }
    let seen = block_on(async {
        select! {
            x = Request(3) => x,
            x = Request(4), if false => x,
        }
    });
    assert_eq!(seen, 3);
}

#[test]
fn temporary_future_is_taken_by_reference() {
    let seen = block_on(async {
        select! {
            biased;
            () = &mut pending() => 0,
            x = &mut ready(1) => x,
        }
    });
    assert_eq!(seen, 1);
}

#[test]
fn condition_of_a_kept_future_that_has_ended_leaves_it_out_until_all_are() {
    let (mut order, mut count) = (Vec::new(), 0_u8);
    block_on(async {
        let mut one = pin!(select_safe(async {}));
        let mut two = pin!(select_safe(turn()));
        loop {
            select! {
                biased;
                () = two.as_mut(), if !order.contains(&2) => { count += 1; order.push(2); }
                () = one.as_mut(), if count < 2 && !order.contains(&1) => { count += 1; order.push(1) }
                else => break,
            }
        }
    });
    assert_eq!((order, count), (vec![1, 2], 2));
}

fn turn() -> impl Future<Output = ()> {
    let mut is_over = false;
    poll_fn(move |cx| match std::mem::replace(&mut is_over, true) {
        true => Poll::Ready(()),
        false => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
}

/// 64 arms, which is as many as there may be. Those at `live` give their number, the others wait.
macro_rules! of_64 {
    ([$($first:tt)*] $is_live:ident) => {
        select! {
            $($first)*
            x = ready(0), if $is_live(0) => x, x = ready(1), if $is_live(1) => x,
            x = ready(2), if $is_live(2) => x, x = ready(3), if $is_live(3) => x,
            x = ready(4), if $is_live(4) => { x } x = ready(5), if $is_live(5) => { x }
            x = ready(6), if $is_live(6) => { x }, x = ready(7), if $is_live(7) => { x },
            x = ready(8), if $is_live(8) => x, x = ready(9), if $is_live(9) => x,
            x = ready(10), if $is_live(10) => x, x = ready(11), if $is_live(11) => x,
            x = ready(12), if $is_live(12) => x, x = ready(13), if $is_live(13) => x,
            x = ready(14), if $is_live(14) => x, x = ready(15), if $is_live(15) => x,
            x = ready(16), if $is_live(16) => x, x = ready(17), if $is_live(17) => x,
            x = ready(18), if $is_live(18) => x, x = ready(19), if $is_live(19) => x,
            x = ready(20), if $is_live(20) => x, x = ready(21), if $is_live(21) => x,
            x = ready(22), if $is_live(22) => x, x = ready(23), if $is_live(23) => x,
            x = ready(24), if $is_live(24) => x, x = ready(25), if $is_live(25) => x,
            x = ready(26), if $is_live(26) => x, x = ready(27), if $is_live(27) => x,
            x = ready(28), if $is_live(28) => x, x = ready(29), if $is_live(29) => x,
            x = ready(30), if $is_live(30) => x, x = ready(31), if $is_live(31) => x,
            x = pending::<usize>() => x, x = pending::<usize>() => x, x = pending::<usize>() => x,
            x = pending::<usize>() => x, x = pending::<usize>() => x, x = pending::<usize>() => x,
            x = pending::<usize>() => x, x = pending::<usize>() => x, x = pending::<usize>() => x,
            x = pending::<usize>() => x, x = pending::<usize>() => x, x = pending::<usize>() => x,
            x = pending::<usize>() => x, x = pending::<usize>() => x, x = pending::<usize>() => x,
            x = pending::<usize>() => x, x = pending::<usize>() => x, x = pending::<usize>() => x,
            x = pending::<usize>() => x, x = pending::<usize>() => x, x = pending::<usize>() => x,
            x = pending::<usize>() => x, x = pending::<usize>() => x, x = pending::<usize>() => x,
            x = pending::<usize>() => x, x = pending::<usize>() => x, x = pending::<usize>() => x,
            x = pending::<usize>() => x, x = pending::<usize>() => x, x = pending::<usize>() => x,
            x = ready(62), if $is_live(62) => x, x = ready(63), if $is_live(63) => x,
        }
    };
}

#[test]
fn each_of_64_arms_can_win_and_ties_go_to_the_first_listed_when_biased() {
    let listed = (0..32).chain([62, 63]);
    let only = |at: usize| {
        let is_live = move |arm| arm == at;
        let fair = block_on(is_send(async move { of_64!([] is_live) }));
        let biased = block_on(async { of_64!([biased;] is_live) });
        (fair, biased)
    };
    for at in listed {
        assert_eq!(only(at), (at, at));
    }
    let from = |at: usize| {
        block_on(async move {
            let is_live = |arm| arm >= at;
            of_64!([biased;] is_live)
        })
    };
    assert_eq!([from(0), from(5), from(31), from(33)], [0, 5, 31, 62]);
}

#[test]
fn two_of_64_arms_that_are_ready_win_about_equally_often() {
    let is_live = |arm| arm == 3 || arm == 63;
    let mut wins = 0;
    for _ in 0..1000 {
        let won = block_on(async { of_64!([] is_live) });
        assert!(is_live(won));
        wins += usize::from(won == 3);
    }
    assert!((400..=600).contains(&wins), "{wins}");
}

fn is_send<T: Send>(value: T) -> T {
    value
}
