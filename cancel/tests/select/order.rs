//! Which arm is first, what is dropped when, and what becomes of values and panics.
//! Not about how arms are written: see `arms.rs`.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use futures::channel::mpsc;
use futures::executor::block_on;
use futures::{SinkExt, StreamExt};
use selvedge_cancel::{SelectSafe, select, select_safe};

use crate::{After, Noted, poll_once};

//
#[test]
fn losers_are_dropped_in_reverse_order_before_the_handler_runs() {
    let log = RefCell::new(Vec::new());
    let value = block_on(async {
        select! {
            _ = After::new(9, &log, "first") => 0,
            x = After::new(2, &log, "second") => {
                log.borrow_mut().push("handler");
                x
            }
            _ = After::new(9, &log, "third") => 0,
            _ = After::new(9, &log, "fourth") => 0,
        }
    });
    assert_eq!(value, 7);
    assert_eq!(
        log.into_inner(),
        ["fourth", "third", "second", "first", "handler"]
    );
}

//
#[test]
fn block_dropped_at_an_await_drops_its_values_in_reverse_and_runs_no_await() {
    let log = RefCell::new(Vec::new());
    let awaited = Cell::new(0);
    block_on(async {
        select! {
            biased;
            () = select_safe(async {
                let _outer = Noted(&log, "outer");
                let _inner = Noted(&log, "inner");
                awaited.set(awaited.get() + 1);
                pending::<()>().await;
                awaited.set(awaited.get() + 1);
            }) => unreachable!("it waits for ever"),
            x = ready(3) => assert_eq!(x, 3, "the sibling is not affected"),
        }
    });
    assert_eq!(awaited.get(), 1, "it was polled, and not past its await");
    assert_eq!(log.into_inner(), ["inner", "outer"]);
}

//
#[test]
fn select_dropped_while_it_waits_drops_its_arms_in_reverse() {
    let log = RefCell::new(Vec::new());
    {
        let mut waiting = Box::pin(async {
            select! {
                _ = After::new(9, &log, "first") => {}
                _ = After::new(9, &log, "second") => {}
                _ = After::new(9, &log, "third") => {}
            }
        });
        assert!(poll_once(waiting.as_mut()).is_pending());
    }
    assert_eq!(log.borrow_mut().split_off(0), ["third", "second", "first"]);
    {
        let arms = (
            After::new(9, &log, "first"),
            After::new(9, &log, "second"),
            After::new(9, &log, "third"),
        );
        let mut waiting = pin!(select(arms));
        assert!(poll_once(waiting.as_mut()).is_pending());
    }
    assert_eq!(log.into_inner(), ["third", "second", "first"]);
}

/// Panics when dropped, after it told the log.
struct Bomb<'a>(Option<Noted<'a>>);

impl Future for Bomb<'_> {
    type Output = u32;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u32> {
        Poll::Pending
    }
}

impl SelectSafe for Bomb<'_> {}

impl Drop for Bomb<'_> {
    fn drop(&mut self) {
        drop(self.0.take());
        panic!("a loser's destructor");
    }
}

#[test]
fn panicking_destructors_of_losers_keep_no_other_from_running_and_the_first_panic_goes_on() {
    let log = RefCell::new(Vec::new());
    let bomb = |name| Bomb(Some(Noted(&log, name)));
    let caught = catch_unwind(AssertUnwindSafe(|| {
        block_on(async {
            select! {
                _ = bomb("first") => 0,
                _value = select_safe(async { Noted(&log, "value") }) => 1,
                _ = bomb("third") => 2,
                _ = After::new(9, &log, "fourth") => 3,
            }
        })
    }));
    let panic = caught.expect_err("the panic goes on");
    assert_eq!(panic.downcast_ref(), Some(&"a loser's destructor"));
    assert_eq!(log.into_inner(), ["fourth", "third", "first", "value"]);
}

#[test]
fn panic_of_an_arm_goes_on_and_drops_the_others() {
    let log = RefCell::new(Vec::new());
    let caught = catch_unwind(AssertUnwindSafe(|| {
        block_on(async {
            select! {
                biased;
                _ = After::new(9, &log, "first") => {}
                () = select_safe(async { panic!("an arm") }) => {}
                _ = After::new(9, &log, "third") => {}
            }
        })
    }));
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"an arm"));
    assert_eq!(log.into_inner(), ["third", "first"]);
}

// CT-049
#[test]
fn item_that_comes_as_the_other_arm_finishes_is_in_the_result_or_still_in_the_stream() {
    let (mut send, mut receive) = mpsc::unbounded();
    let (mut taken, mut left_there) = (Vec::new(), 0);
    block_on(async {
        for item in 0..1000 {
            send.send(item).await.unwrap();
            select! {
                Some(item) = select_safe(receive.next()) => taken.push(item),
                () = ready(()) => left_there += 1,
            }
        }
        drop(send);
        assert!(taken.len() > 100 && left_there > 100, "both have won");
        assert_eq!(taken.len() + left_there, 1000);
        taken.extend(receive.collect::<Vec<_>>().await);
    });
    assert!(taken.iter().copied().eq(0..1000), "none lost, none twice");
}

#[test]
fn ready_arms_win_about_equally_often_and_whatever_idles_beside_them() {
    let idle = || pending::<u32>();
    for at in 0..3 {
        let mut wins = [0; 4];
        block_on(async {
            for _ in 0..1000 {
                // Two are ready, and which two takes turns.
                let is_ready = |arm| arm == at || arm == at + 1;
                select! {
                    () = ready(()), if is_ready(0) => wins[0] += 1,
                    () = ready(()), if is_ready(1) => wins[1] += 1,
                    () = ready(()), if is_ready(2) => wins[2] += 1,
                    () = ready(()), if is_ready(3) => wins[3] += 1,
                    _ = idle() => {}
                    _ = idle() => {}
                }
            }
        });
        let (one, other) = (wins[at], wins[at + 1]);
        assert_eq!(one + other, 1000);
        assert!((300..=700).contains(&one), "{wins:?}");
    }
    let mut wins = [0; 3];
    block_on(async {
        for _ in 0..1000 {
            select! {
                () = ready(()) => wins[0] += 1,
                () = ready(()) => wins[1] += 1,
                () = ready(()) => wins[2] += 1,
            }
        }
    });
    assert!(wins.iter().all(|won| (250..=420).contains(won)), "{wins:?}");
}

#[test]
fn arms_that_wait_once_win_equally_often_too() {
    let log = RefCell::new(Vec::new());
    let mut wins = [0; 2];
    block_on(async {
        for _ in 0..1000 {
            // Two polls a round: a start that merely rotates would favour the same arm for ever.
            select! {
                _ = After::new(1, &log, "") => wins[0] += 1,
                _ = After::new(1, &log, "") => wins[1] += 1,
            }
        }
    });
    assert_eq!(wins[0] + wins[1], 1000);
    assert!((300..=700).contains(&wins[0]), "{wins:?}");
}

#[test]
fn first_listed_wins_ties_when_biased_and_in_select() {
    let polled = Cell::new(0);
    let never_asked = || {
        poll_fn(|_| {
            polled.set(polled.get() + 1);
            Poll::Ready(2)
        })
    };
    block_on(async {
        for _ in 0..100 {
            let won = select! {
                biased;
                x = pending() => x,
                x = ready(1) => x,
                x = select_safe(never_asked()) => x,
            };
            assert_eq!(won, 1);
            let tuple = (
                select_safe(async { 1 }),
                ready(3),
                select_safe(never_asked()),
            );
            assert_eq!(select(tuple).await, 1);
        }
    });
    assert_eq!(polled.get(), 0, "what comes after the winner is not polled");
}

#[test]
fn selects_are_select_safe_and_nest() {
    let nested = block_on(select((
        select((pending(), ready(1))),
        select((pending(), pending())),
    )));
    assert_eq!(nested, 1);
}

#[test]
fn finished_select_that_is_polled_again_panics() {
    let mut done = pin!(select((ready(1), ready(2))));
    assert_eq!(poll_once(done.as_mut()), Poll::Ready(1));
    let again = catch_unwind(AssertUnwindSafe(|| poll_once(done)));
    assert!(again.is_err());
}

#[test]
fn twelve_futures_make_a_select() {
    let p = || pending::<u32>();
    let twelve = select((
        p(),
        p(),
        p(),
        p(),
        p(),
        p(),
        p(),
        p(),
        p(),
        p(),
        p(),
        pending(),
    ));
    assert!(poll_once(pin!(twelve)).is_pending());
}
