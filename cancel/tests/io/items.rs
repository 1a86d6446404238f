//! Streams and sinks: the cancellation in the item and in the error, with types of their own and
//! with those of what is wrapped.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::channel::mpsc;
use futures::stream::FusedStream;
use futures::{Sink, Stream, StreamExt, stream};
use selvedge_cancel::{
    CancelToken, Cancellable, Cancelled, CancelledOr, IoCancelExt, TryCancellable,
};

use crate::probe::{Probe, RESULT, Rings, cancelled_text, under};

type SinkPoll = Poll<Result<(), CancelledOr<io::Error>>>;
type TrySinkPoll = Poll<io::Result<()>>;

fn next<S: Stream + Unpin>(stream: &mut S, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
    Pin::new(stream).poll_next(cx)
}

fn is_cancelled(polled: &SinkPoll) -> bool {
    matches!(polled, Poll::Ready(Err(CancelledOr::Cancelled(_))))
}

/// What of a sink can wait.
const SINK: [fn(&mut Cancellable<Probe>, &mut Context<'_>) -> SinkPoll; 3] = [
    |sink, cx| Sink::<u8>::poll_ready(Pin::new(sink), cx),
    |sink, cx| Sink::<u8>::poll_flush(Pin::new(sink), cx),
    |sink, cx| Sink::<u8>::poll_close(Pin::new(sink), cx),
];

/// The same, of a sink whose error has room for a `Cancelled`.
const TRY_SINK: [fn(&mut TryCancellable<Probe>, &mut Context<'_>) -> TrySinkPoll; 3] = [
    |sink, cx| Sink::<u8>::poll_ready(Pin::new(sink), cx),
    |sink, cx| Sink::<u8>::poll_flush(Pin::new(sink), cx),
    |sink, cx| Sink::<u8>::poll_close(Pin::new(sink), cx),
];

// CT-038, CT-039
#[test]
fn cancelled_stream_gives_the_error_each_time_and_the_inner_one_is_untouched() {
    let (token, rings) = (CancelToken::new(), Rings::new());
    let mut letters = stream::iter(["a", "b"]).cancellable();
    let polled = under(&token, &rings, |cx| next(&mut letters, cx));
    assert!(matches!(polled, Poll::Ready(Some(Ok("a")))));
    token.cancel_with("enough");
    for _ in 0..3 {
        let polled = under(&token, &rings, |cx| next(&mut letters, cx));
        let Poll::Ready(Some(Err(cancelled))) = polled else {
            panic!("{polled:?}");
        };
        assert_eq!(cancelled.cause().text(), Some("enough"));
    }
    let rest: Vec<_> = futures::executor::block_on(letters.into_inner().collect());
    assert_eq!(rest, ["b"]);
}

#[test]
fn pending_stream_is_woken_and_fails() {
    let (token, rings) = (CancelToken::new(), Rings::new());
    let (sender, receiver) = mpsc::channel::<u8>(1);
    let mut receiver = receiver.cancellable();
    assert!(under(&token, &rings, |cx| next(&mut receiver, cx)).is_pending());
    token.cancel();
    assert_eq!(rings.get(), 1);
    let polled = under(&token, &rings, |cx| next(&mut receiver, cx));
    assert!(matches!(polled, Poll::Ready(Some(Err(_)))));
    drop(sender);
}

// CT-047
#[test]
fn item_that_is_there_when_the_cancellation_comes_is_given_and_the_next_is_not() {
    let (token, rings) = (CancelToken::new(), Rings::new());
    let mut probe = Probe::ready();
    probe.get_mut().cancels = Some(token.clone());
    let polled = under(&token, &rings, |cx| next(&mut probe, cx));
    assert!(matches!(polled, Poll::Ready(Some(Ok(Ok(item)))) if u64::from(item) == RESULT));
    let polled = under(&token, &rings, |cx| next(&mut probe, cx));
    assert!(matches!(polled, Poll::Ready(Some(Err(_)))));
    assert_eq!(probe.get_ref().touched, 1);
}

#[test]
fn stream_that_ends_says_so() {
    let (token, rings) = (CancelToken::new(), Rings::new());
    let mut none = stream::empty::<u8>().fuse().cancellable();
    assert!(matches!(
        under(&token, &rings, |cx| next(&mut none, cx)),
        Poll::Ready(None)
    ));
    assert!(none.is_terminated());
    let mut none = stream::empty::<io::Result<u8>>().fuse().try_cancellable();
    assert!(matches!(
        under(&token, &rings, |cx| next(&mut none, cx)),
        Poll::Ready(None)
    ));
    assert!(none.is_terminated());
}

#[test]
fn number_of_items_has_no_upper_bound() {
    assert_eq!(Probe::ready().size_hint(), (2, None));
    assert_eq!(Probe::default().try_cancellable().size_hint(), (2, None));
}

#[test]
fn stream_of_results_keeps_its_items_and_gets_the_cancellation_as_their_error() {
    let (token, rings) = (CancelToken::new(), Rings::new());
    let items = [
        io::Result::Ok(1),
        Err(io::ErrorKind::NotFound.into()),
        Ok(3),
    ];
    let mut items = stream::iter(items).try_cancellable();
    let first = under(&token, &rings, |cx| next(&mut items, cx));
    assert!(matches!(first, Poll::Ready(Some(Ok(1)))));
    let second = under(&token, &rings, |cx| next(&mut items, cx));
    assert!(
        matches!(second, Poll::Ready(Some(Err(error))) if error.kind() == io::ErrorKind::NotFound)
    );
    token.cancel_with("enough");
    for _ in 0..2 {
        let polled = under(&token, &rings, |cx| next(&mut items, cx));
        let polled = polled.map(|item| item.expect("a cancelled stream has not ended"));
        assert_eq!(cancelled_text(&polled), Some("enough"));
    }
    assert_eq!(items.get_ref().size_hint().0, 1, "the third is still there");
}

// CT-038, CT-039
#[test]
fn sink_begun_after_the_cancellation_fails_untouched_and_fails_again() {
    let (token, rings) = (CancelToken::new(), Rings::new());
    token.cancel_with("early");
    for operation in SINK {
        let mut sink = Probe::ready();
        for _ in 0..2 {
            assert!(is_cancelled(&under(&token, &rings, |cx| operation(
                &mut sink, cx
            ))));
        }
        assert_eq!(sink.get_ref().touched, 0);
    }
    for operation in TRY_SINK {
        let mut sink = Probe::ready().into_inner().try_cancellable();
        for _ in 0..2 {
            let polled = under(&token, &rings, |cx| operation(&mut sink, cx));
            assert_eq!(cancelled_text(&polled), Some("early"));
        }
        assert_eq!(sink.get_ref().touched, 0);
    }
}

#[test]
fn pending_sink_is_woken_and_fails() {
    for operation in SINK {
        let (token, rings) = (CancelToken::new(), Rings::new());
        let mut sink = Probe::pending();
        assert!(under(&token, &rings, |cx| operation(&mut sink, cx)).is_pending());
        token.cancel();
        assert_eq!(rings.get(), 1);
        assert!(is_cancelled(&under(&token, &rings, |cx| operation(
            &mut sink, cx
        ))));
    }
    for operation in TRY_SINK {
        let (token, rings) = (CancelToken::new(), Rings::new());
        let mut sink = Probe::default().try_cancellable();
        assert!(under(&token, &rings, |cx| operation(&mut sink, cx)).is_pending());
        token.cancel_with("late");
        assert_eq!(rings.get(), 1);
        let polled = under(&token, &rings, |cx| operation(&mut sink, cx));
        assert_eq!(cancelled_text(&polled), Some("late"));
    }
}

#[test]
fn item_whose_place_was_given_is_taken_although_the_cancellation_came_between() {
    let (token, rings) = (CancelToken::new(), Rings::new());
    let mut sink = Probe::ready();
    let mut try_sink = Probe::ready().into_inner().try_cancellable();
    under(&token, &rings, |cx| {
        assert!(SINK[0](&mut sink, cx).is_ready());
        assert!(TRY_SINK[0](&mut try_sink, cx).is_ready());
        token.cancel();
        Pin::new(&mut sink).start_send(5).expect("there is a place");
        Pin::new(&mut try_sink)
            .start_send(6)
            .expect("there is a place");
    });
    assert!(is_cancelled(&under(&token, &rings, |cx| {
        SINK[1](&mut sink, cx)
    })));
    assert_eq!(sink.into_inner().items, [5]);
    assert_eq!(try_sink.into_inner().items, [6]);
}

#[test]
fn error_of_the_sink_itself_is_the_other_one() {
    let (token, rings) = (CancelToken::new(), Rings::new());
    let (sender, receiver) = mpsc::channel::<u8>(1);
    drop(receiver);
    let mut sender = sender.cancellable();
    let polled = under(&token, &rings, |cx| Pin::new(&mut sender).poll_ready(cx));
    assert!(
        matches!(polled, Poll::Ready(Err(CancelledOr::Other(error))) if error.is_disconnected())
    );
    token.cancel();
    let polled = under(&token, &rings, |cx| Pin::new(&mut sender).poll_ready(cx));
    assert!(matches!(
        polled,
        Poll::Ready(Err(CancelledOr::Cancelled(_)))
    ));
}

#[test]
fn stream_and_sink_in_one_wait_apart() {
    let token = CancelToken::new();
    let (taker, giver) = (Rings::new(), Rings::new());
    let mut both = Probe::pending();
    assert!(under(&token, &taker, |cx| next(&mut both, cx)).is_pending());
    let polled = under(&token, &giver, |cx| SINK[0](&mut both, cx));
    assert!(polled.is_pending());
    token.cancel();
    assert_eq!((taker.get(), giver.get()), (1, 1));
}

#[test]
fn cancelled_or_shows_and_hands_on_the_error_inside() {
    let cancelled = || CancelledOr::<io::Error>::from(Cancelled::new("enough"));
    let wrapped = CancelledOr::Other(io::Error::from(Cancelled::new("inside")));
    let text = |error: &(dyn std::error::Error + 'static)| {
        Cancelled::find_in(error).and_then(|found| found.cause().text().map(str::to_owned))
    };
    assert_eq!(text(&cancelled()).as_deref(), Some("enough"));
    assert_eq!(text(&wrapped).as_deref(), Some("inside"));
    assert_eq!(
        text(&io::Error::from(cancelled())).as_deref(),
        Some("enough")
    );
    assert_eq!(text(&io::Error::from(wrapped)).as_deref(), Some("inside"));
    assert!(cancelled().to_string().ends_with("enough"));
    let other = CancelledOr::Other(io::Error::from(io::ErrorKind::NotFound));
    assert_eq!(text(&other), None);
    assert_eq!(other.to_string(), "entity not found");
    assert_eq!(io::Error::from(other).kind(), io::ErrorKind::NotFound);
}
