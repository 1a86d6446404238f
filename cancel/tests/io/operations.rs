//! Every operation on bytes, of futures-io and of tokio, in every order of operation and
//! cancellation. Where a test loops over all of them, its message names the one that failed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use selvedge_cancel::CancelToken;

use crate::probe::{Probe, RESULT, Rings, cancelled_text, operations, under};

fn finished(polled: Poll<std::io::Result<u64>>) -> u64 {
    match polled {
        Poll::Ready(Ok(number)) => number,
        other => panic!("it did not finish: {other:?}"),
    }
}

#[test]
fn operations_without_a_cancellation_give_what_the_inner_gives() {
    let (token, rings) = (CancelToken::new(), Rings::new());
    for (name, operation) in operations() {
        let mut io = Probe::ready();
        let polled = under(&token, &rings, |cx| operation(&mut io, cx));
        assert_eq!(finished(polled), RESULT, "{name}");
        assert_eq!(io.get_ref().touched, 1, "{name}");
    }
}

// CT-039
#[test]
fn operation_begun_after_the_cancellation_fails_without_touching_the_inner() {
    let (token, rings) = (CancelToken::new(), Rings::new());
    token.cancel_with("early");
    for (name, operation) in operations() {
        let mut io = Probe::ready();
        let polled = under(&token, &rings, |cx| operation(&mut io, cx));
        assert_eq!(cancelled_text(&polled), Some("early"), "{name}");
        assert_eq!(io.get_ref().touched, 0, "{name}");
    }
}

// CT-038, X-01
#[test]
fn pending_operation_is_woken_and_fails_and_a_retry_fails_the_same_way() {
    for (name, operation) in operations() {
        let (token, rings) = (CancelToken::new(), Rings::new());
        let mut io = Probe::pending();
        assert!(under(&token, &rings, |cx| operation(&mut io, cx)).is_pending());
        assert_eq!(rings.get(), 0, "{name}");
        token.cancel_with("first");
        token.cancel_with("second");
        assert_eq!(rings.get(), 1, "{name}");
        // Now the inner could finish; it is not asked.
        io.get_mut().ready = true;
        for _ in 0..3 {
            let polled = under(&token, &rings, |cx| operation(&mut io, cx));
            assert_eq!(cancelled_text(&polled), Some("first"), "{name}");
        }
        assert_eq!(io.get_ref().touched, 1, "{name}");
    }
}

// CT-047
#[test]
fn operation_that_finishes_while_the_cancellation_comes_gives_its_value_and_the_next_fails() {
    for (name, operation) in operations() {
        let (token, rings) = (CancelToken::new(), Rings::new());
        let mut io = Probe::ready();
        io.get_mut().cancels = Some(token.clone());
        let polled = under(&token, &rings, |cx| operation(&mut io, cx));
        assert!(token.is_cancelled());
        assert_eq!(finished(polled), RESULT, "{name}");
        let polled = under(&token, &rings, |cx| operation(&mut io, cx));
        assert!(matches!(polled, Poll::Ready(Err(_))), "{name}");
        assert_eq!(io.get_ref().touched, 1, "{name}");
    }
}

#[test]
fn operation_that_waits_while_the_cancellation_comes_fails_in_the_same_poll() {
    for (name, operation) in operations() {
        let (token, rings) = (CancelToken::new(), Rings::new());
        let mut io = Probe::pending();
        io.get_mut().cancels = Some(token.clone());
        let polled = under(&token, &rings, |cx| operation(&mut io, cx));
        assert!(matches!(polled, Poll::Ready(Err(_))), "{name}");
        assert_eq!(io.get_ref().touched, 1, "{name}");
    }
}

#[test]
fn token_above_the_current_one_counts_too() {
    for (name, operation) in operations() {
        let (above, rings) = (CancelToken::new(), Rings::new());
        let token = above.child();
        let mut io = Probe::pending();
        assert!(under(&token, &rings, |cx| operation(&mut io, cx)).is_pending());
        above.cancel_with("above");
        assert_eq!(rings.get(), 1, "{name}");
        let polled = under(&token, &rings, |cx| operation(&mut io, cx));
        assert_eq!(cancelled_text(&polled), Some("above"), "{name}");
    }
}

#[test]
fn operation_that_went_to_another_task_listens_to_that_one() {
    for (name, operation) in operations() {
        let (one, two) = (CancelToken::new(), CancelToken::new());
        let (first, second) = (Rings::new(), Rings::new());
        let mut io = Probe::pending();
        assert!(under(&one, &first, |cx| operation(&mut io, cx)).is_pending());
        assert!(under(&two, &second, |cx| operation(&mut io, cx)).is_pending());
        one.cancel_with("one");
        assert_eq!((first.get(), second.get()), (0, 0), "{name}");
        assert!(under(&two, &second, |cx| operation(&mut io, cx)).is_pending());
        two.cancel_with("two");
        assert_eq!((first.get(), second.get()), (0, 1), "{name}");
        let polled = under(&two, &second, |cx| operation(&mut io, cx));
        assert_eq!(cancelled_text(&polled), Some("two"), "{name}");
    }
}

// CT-039: what shields an operation is that another token is current in its polls.
#[test]
fn operation_polled_under_a_token_that_is_not_cancelled_works_after_it_failed_elsewhere() {
    let (outer, inner, rings) = (CancelToken::new(), CancelToken::new(), Rings::new());
    outer.cancel();
    for (name, operation) in operations() {
        let mut io = Probe::ready();
        let refused = under(&outer, &rings, |cx| operation(&mut io, cx));
        assert!(matches!(refused, Poll::Ready(Err(_))), "{name}");
        let polled = under(&inner, &rings, |cx| operation(&mut io, cx));
        assert_eq!(finished(polled), RESULT, "{name}");
    }
}

#[test]
fn nothing_stays_registered_after_an_operation_has_finished_or_failed() {
    for (name, operation) in operations() {
        for fails in [false, true] {
            let (token, rings) = (CancelToken::new(), Rings::new());
            let mut io = Probe::pending();
            assert!(under(&token, &rings, |cx| operation(&mut io, cx)).is_pending());
            assert_eq!(Arc::strong_count(&rings), 2, "{name} is registered");
            match fails {
                true => token.cancel(),
                false => io.get_mut().ready = true,
            }
            let polled = under(&token, &rings, |cx| operation(&mut io, cx));
            assert_eq!(matches!(polled, Poll::Ready(Err(_))), fails, "{name}");
            assert_eq!(Arc::strong_count(&rings), 1, "{name}");
        }
    }
}

#[test]
fn nothing_stays_registered_after_the_wrapper_is_gone() {
    for (name, operation) in operations() {
        let (token, rings) = (CancelToken::new(), Rings::new());
        let mut io = Probe::pending();
        assert!(under(&token, &rings, |cx| operation(&mut io, cx)).is_pending());
        let inner = io.into_inner();
        assert_eq!(inner.touched, 1, "{name}");
        assert_eq!(Arc::strong_count(&rings), 1, "{name}");
        token.cancel();
        assert_eq!(rings.get(), 0, "{name}");
    }
}

#[test]
fn reading_and_writing_tasks_are_both_woken() {
    let all = operations();
    let inward = |name: &str| ["read", "fill", "seek"].iter().any(|it| name.contains(it));
    let mut pairs = 0;
    for (reads, read) in all.iter().filter(|(name, _)| inward(name)) {
        for (writes, write) in all.iter().filter(|(name, _)| !inward(name)) {
            let token = CancelToken::new();
            let (reader, writer) = (Rings::new(), Rings::new());
            let mut io = Probe::pending();
            assert!(under(&token, &reader, |cx| read(&mut io, cx)).is_pending());
            assert!(under(&token, &writer, |cx| write(&mut io, cx)).is_pending());
            token.cancel();
            let rings = (reader.get(), writer.get());
            assert_eq!(rings, (1, 1), "{reads}, {writes}");
            pairs += 1;
        }
    }
    assert!(pairs >= 4 * 4, "{pairs}");
}

#[test]
fn reading_and_writing_under_different_tokens_fail_apart() {
    let all = operations();
    let (read, write) = (all[0].1, all[3].1);
    assert_eq!((all[0].0, all[3].0), ("read", "write"));
    let (reading, writing) = (CancelToken::new(), CancelToken::new());
    let (reader, writer) = (Rings::new(), Rings::new());
    let mut io = Probe::pending();
    assert!(under(&reading, &reader, |cx| read(&mut io, cx)).is_pending());
    assert!(under(&writing, &writer, |cx| write(&mut io, cx)).is_pending());
    reading.cancel_with("no more to read");
    assert_eq!((reader.get(), writer.get()), (1, 0));
    let polled = under(&reading, &reader, |cx| read(&mut io, cx));
    assert_eq!(cancelled_text(&polled), Some("no more to read"));
    assert!(under(&writing, &writer, |cx| write(&mut io, cx)).is_pending());
    writing.cancel();
    assert_eq!((reader.get(), writer.get()), (1, 1));
}

#[test]
fn what_was_seen_is_consumed_after_a_cancellation_too() {
    let (token, rings) = (CancelToken::new(), Rings::new());
    token.cancel();
    let mut io = Probe::ready();
    under(&token, &rings, |_| {
        futures::AsyncBufRead::consume(Pin::new(&mut io), 2);
        #[cfg(feature = "tokio")]
        tokio::io::AsyncBufRead::consume(Pin::new(&mut io), 2);
    });
    let times = if cfg!(feature = "tokio") { 2 } else { 1 };
    assert_eq!(io.get_ref().consumed, 2 * times);
}

#[cfg(feature = "tokio")]
#[test]
fn seek_of_tokio_does_not_begin_after_a_cancellation() {
    use std::io::SeekFrom;
    use tokio::io::AsyncSeek;

    let (token, rings) = (CancelToken::new(), Rings::new());
    let mut io = Probe::ready();
    let seek = |io: &mut _| AsyncSeek::start_seek(Pin::new(io), SeekFrom::Start(7));
    under(&token, &rings, |_| seek(&mut io)).expect("nobody cancelled");
    token.cancel();
    let refused = under(&token, &rings, |_| seek(&mut io)).map(Poll::Ready);
    let refused = Poll::Ready(refused.map(|_| ()));
    assert!(cancelled_text(&refused).is_none(), "it has no text");
    assert!(matches!(refused, Poll::Ready(Err(_))));
    assert_eq!(io.get_ref().touched, 1);
}

#[cfg(feature = "tokio")]
#[test]
fn writers_say_whether_they_take_many_buffers() {
    use tokio::io::AsyncWrite;

    assert!(Probe::ready().is_write_vectored());
    assert!(!Probe::pending().is_write_vectored());
}
