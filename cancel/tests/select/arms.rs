//! The arms of `select!` as they may be written: patterns, conditions, handlers, `else`, many of them, and what
//! they may borrow. Not about which wins and what is dropped when: see `order.rs`.

use std::cell::RefCell;
use std::future::{Pending, Ready, pending, ready};
use std::panic::catch_unwind;
use std::pin::{Pin, pin};
use std::rc::Rc;

use futures::StreamExt;
use futures::channel::mpsc;
use futures::executor::block_on;
use selvedge_cancel::{SelectSafe, select, select_safe};

use crate::{After, Noted};

#[test]
fn value_that_does_not_fit_disables_its_arm_and_the_others_go_on() {
    let log = RefCell::new(Vec::new());
    let text = block_on(async {
        select! {
            biased;
            Some(x) = ready(None::<u32>) => x.to_string(),
            Ok::<_, Noted<'_>>(()) = select_safe(async { Err(Noted(&log, "misfit")) }) => String::new(),
            1..=6 = After::new(0, &log, "out of range") => String::new(),
            x @ (7 | 8) = After::new(3, &log, "late") => {
                assert_eq!(log.borrow()[..3], ["misfit", "out of range", "late"]);
                format!("late {x}")
            }
        }
    });
    assert_eq!(text, "late 7");
}

#[test]
fn else_and_complete_run_when_all_arms_are_over() {
    block_on(async {
        let with_else = select! {
            Some(x) = ready(None) => x,
            x = pending(), if false => x,
            else => 5,
        };
        let with_complete = select! {
            biased;
            Some(x) = ready(None) => x,
            complete => { 6 }
        };
        assert_eq!((with_else, with_complete), (5, 6));
        // A name like any other where it is a pattern.
        let complete = select! { complete = ready(8) => complete };
        assert_eq!(complete, 8);
    });
}

#[test]
fn all_arms_over_without_else_is_a_panic_that_says_so() {
    let never = || false;
    let caught = catch_unwind(|| {
        block_on(async {
            select! {
                Some(x) = ready(None::<u8>) => x,
                x = ready(1), if never() => x,
            }
        })
    });
    let panic = caught.expect_err("there is nothing to go on with");
    let text = panic.downcast_ref::<&str>().expect("a plain message");
    assert!(text.contains("disabled or did not fit"), "{text}");
}

#[test]
fn conditions_come_before_futures_and_futures_in_order_unless_disabled() {
    let log = RefCell::new(Vec::new());
    let note = |name| log.borrow_mut().push(name);
    let future = |name| {
        note(name);
        ready(name)
    };
    let is_true = |name, value| {
        note(name);
        value
    };
    let won = block_on(async {
        select! {
            biased;
            x = future("first"), if is_true("if first", false) => x,
            x = future("second") => x,
            x = future("third"), if is_true("if third", true) => x,
        }
    });
    assert_eq!(won, "second");
    assert_eq!(
        log.into_inner(),
        ["if first", "if third", "second", "third"]
    );
}

#[test]
fn condition_may_look_at_what_the_futures_borrow() {
    let (mut queue, mut other) = (vec![1], vec![2]);
    block_on(async {
        select! {
            biased;
            x = select_safe(async { queue.pop() }), if queue.len() > 1 => unreachable!("{x:?}"),
            x = select_safe(async { other.pop() }), if queue.len() == 1 => assert_eq!(x, Some(2)),
        }
    });
}

#[test]
fn handlers_borrow_what_the_futures_borrowed_and_may_await_and_leave() {
    async fn drain(mut receive: mpsc::Receiver<u8>) -> Result<Vec<u8>, String> {
        let mut seen = Vec::new();
        'items: loop {
            select! {
                item = select_safe(receive.next()) => match item {
                    None => break 'items,
                    Some(0) => continue,
                    // Not only the future has gone, the stream can be asked again.
                    Some(1) => seen.extend(receive.next().await),
                    Some(9) => return Ok(seen),
                    Some(x) => seen.push(u8::try_from(u32::from(x) * 100).map_err(|e| e.to_string())?),
                },
                () = pending() => {}
            }
        }
        seen.push(255);
        Ok(seen)
    }
    let run = |items: &[u8]| {
        let (mut send, receive) = mpsc::channel(9);
        items.iter().for_each(|item| send.try_send(*item).unwrap());
        drop(send);
        block_on(drain(receive))
    };
    assert_eq!(run(&[0, 2, 1, 7]), Ok(vec![200, 7, 255]));
    assert_eq!(run(&[2, 9, 2]), Ok(vec![200]));
    assert!(run(&[3]).unwrap_err().contains("out of range"));
}

#[test]
fn patterns_may_be_mutable_take_apart_and_see_through_references() {
    struct Point {
        x: String,
        y: u8,
    }
    block_on(async {
        let point = || Point {
            x: "weft".into(),
            y: 3,
        };
        let number = 5_u8;
        let grown = select! { mut x = ready(vec![1]) => { x.push(2); x } };
        assert_eq!(grown, [1, 2]);
        let deep = select! { Some((mut a, ref b)) = ready(Some((1, 2))) => { a += *b; a } };
        assert_eq!(deep, 3);
        let seen = select! { Ok::<_, ()>(&n) = ready(Ok(&number)) => n };
        assert_eq!(seen, 5);
        let moved = select! { Point { mut x, y: 1..=4 } = ready(point()) => { x.push('!'); x } };
        assert_eq!(moved, "weft!");
        let misfit = select! { Point { x, y: 9 } = ready(point()) => x, else => "no".into() };
        assert_eq!(misfit, "no");
        let either = select! { Ok(n) | Err(n) = ready(Err::<u8, u8>(4)) => n };
        assert_eq!(either, 4);
        let whole = select! { all @ [_, ..] = ready([1, 2]) => all };
        assert_eq!(whole, [1, 2]);
        assert_eq!(point().y, 3);
    });
}

#[test]
fn temporaries_of_a_future_live_until_it_is_gone() {
    async fn length(text: &str) -> usize {
        text.len()
    }
    let sum = block_on(async {
        select! {
            biased;
            n = select_safe(length(&format!("{}{}", "warp", 1))) => n,
            n = select_safe(length(&String::from("weft"))) => n,
        }
    });
    assert_eq!(sum, 5);
}

#[test]
fn kept_futures_are_taken_by_reference_and_go_on_in_the_next_round() {
    let log = RefCell::new(Vec::new());
    let mut kept = After::new(3, &log, "kept");
    let mut boxed: Pin<Box<dyn SelectSafe<Output = u32> + '_>> =
        Box::pin(select_safe(After::new(5, &log, "boxed")));
    let mut pinned = pin!(After::new(9, &log, "pinned"));
    let (mut rounds, mut is_done) = (0, false);
    block_on(async {
        loop {
            rounds += 1;
            select! {
                biased;
                _ = &mut kept, if !is_done => is_done = true,
                _ = &mut boxed => break,
                _ = pinned.as_mut() => unreachable!("it takes longest"),
                () = ready(()), if rounds % 2 == 1 => {}
                _ = After::new(0, &log, "round") => {}
            }
        }
    });
    assert!(is_done);
    assert!(rounds > 4, "{rounds}");
    assert!(!log.borrow().contains(&"kept"), "it outlives the rounds");
}

#[test]
fn twelve_arms_and_more_and_handlers_that_select_again() {
    let p = || pending::<u32>();
    let won = block_on(async {
        select! {
            x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x,
            x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x,
            x = p() => x,
            x = ready(14) => x + select! {
                x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x,
                x = p() => x, x = p() => x, x = p() => x, x = p() => x, x = p() => x,
                x = ready(12) => x,
            },
        }
    });
    assert_eq!(won, 26);
}

#[test]
fn select_is_send_if_its_arms_are_and_works_with_what_is_not() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let mut shared = vec![1];
    let sent = is_send(async {
        let borrowed = &mut shared;
        select! {
            Some(mut x) = select_safe(async { borrowed.pop() }), if true => {
                x += 1;
                ready(()).await;
                x
            }
            x = pending() => x,
            else => 0,
        }
    });
    assert_eq!(block_on(sent), 2);
    drop(is_send(select((ready(1), pending()))));
    let local = block_on(async {
        select! {
            x = select_safe(async { Rc::new(3) }) => *x,
            x = pending() => x,
        }
    });
    assert_eq!(local, 3);
}

#[test]
fn unlike_outputs_and_outputs_that_never_come_are_fine() {
    let never: Pending<std::convert::Infallible> = pending();
    let text: Ready<&str> = ready("now");
    let won = block_on(async {
        select! {
            x = never => match x {},
            x = text => x.len(),
            (a, _) = pending::<(usize, u8)>() => a,
        }
    });
    assert_eq!(won, 3);
}
