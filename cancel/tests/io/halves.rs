//! The two halves of a connection, one task each, cancelled at every byte boundary while the other
//! goes on: the bytes that the tasks account for are exactly the bytes that were moved.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite};
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestRunner};
use selvedge_cancel::{CancelToken, Cancellable, Cancelled, IoCancelExt};

use crate::probe::{Rings, under};

const LENGTH: usize = 24;

/// When a half is cancelled, counted in the bytes that it has moved.
#[derive(Clone, Copy, Debug)]
enum When {
    /// While the operation that moves byte number `n` is under way.
    During(usize),
    /// Between two polls, once `n` bytes are moved.
    Between(usize),
}

/// One direction of the connection as the far end sees it.
#[derive(Debug)]
struct Direction {
    /// Bytes that went through, in order: the truth against which the tasks are held.
    moved: Vec<u8>,
    /// Bytes that an operation may move, or `None` for one that has to wait; used again and again.
    pace: VecDeque<Option<usize>>,
    token: CancelToken,
    when: When,
}

impl Direction {
    fn new(pace: &[Option<usize>], when: When) -> Self {
        Self {
            moved: Vec::new(),
            pace: pace.iter().copied().collect(),
            token: CancelToken::new(),
            when,
        }
    }

    /// How many of `wanted` bytes this operation moves; stops at the byte where the cancellation is due.
    fn allows(&mut self, cx: &Context<'_>, wanted: usize) -> Poll<usize> {
        let mut pace = self.pace.pop_front().flatten();
        self.pace.push_back(pace);
        if matches!(self.when, Between(at) if at == self.moved.len()) && !self.token.is_cancelled()
        {
            // Here the operation waits in any case, so that the harness has its turn.
            pace = None;
        }
        let Some(pace) = pace else {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        let (During(at) | Between(at)) = self.when;
        let until = at.saturating_sub(self.moved.len());
        let count = wanted.min(pace.max(1));
        Poll::Ready(if until > 0 { count.min(until) } else { count })
    }

    fn moved(&mut self, bytes: &[u8]) {
        self.moved.extend_from_slice(bytes);
        if matches!(self.when, During(at) if at == self.moved.len()) {
            self.token.cancel();
        }
    }

    /// What the harness does between two polls.
    fn between(&self) {
        if matches!(self.when, Between(at) if at == self.moved.len()) {
            self.token.cancel();
        }
    }
}

use When::{Between, During};

/// The near end. What is read is the alphabet of `byte`.
#[derive(Debug)]
struct Connection {
    inward: Rc<RefCell<Direction>>,
    outward: Rc<RefCell<Direction>>,
}

fn byte(at: usize) -> u8 {
    (at % 251) as u8
}

impl Connection {
    fn bring(&self, cx: &Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut inward = self.inward.borrow_mut();
        let from = inward.moved.len();
        let wanted = buf.len().min(LENGTH - from);
        if wanted == 0 {
            return Poll::Ready(Ok(0));
        }
        inward.allows(cx, wanted).map(|count| {
            for (at, slot) in buf[..count].iter_mut().enumerate() {
                *slot = byte(from + at);
            }
            inward.moved(&buf[..count]);
            Ok(count)
        })
    }

    fn accept(&self, cx: &Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut outward = self.outward.borrow_mut();
        outward.allows(cx, buf.len()).map(|count| {
            outward.moved(&buf[..count]);
            Ok(count)
        })
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.bring(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.accept(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(feature = "tokio")]
mod tokio_family {
    use super::{Connection, Context, Pin, Poll, io};
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    impl AsyncRead for Connection {
        fn poll_read(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.bring(cx, buf.initialize_unfilled())
                .map_ok(|count| buf.advance(count))
        }
    }

    impl AsyncWrite for Connection {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.accept(cx, buf)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
}

/// What a task saw: its own account of the bytes, and whether a cancellation ended it.
#[derive(Debug, Default)]
struct Account {
    bytes: Vec<u8>,
    cancelled: bool,
}

impl Account {
    /// Notes the end of an operation; `false` is the end of the task.
    fn goes_on(&mut self, result: io::Result<&[u8]>) -> bool {
        match result {
            Ok(bytes) => {
                self.bytes.extend_from_slice(bytes);
                !bytes.is_empty()
            }
            Err(error) => {
                assert!(Cancelled::find_in(&error).is_some(), "{error}");
                self.cancelled = true;
                false
            }
        }
    }
}

/// The task at the reading half: chunks of five until the end; after a failure it tries again.
async fn reads(
    mut read: impl FnMut(&mut Context<'_>, &mut [u8]) -> Poll<io::Result<usize>>,
) -> Account {
    let (mut account, mut buf) = (Account::default(), [0; 5]);
    loop {
        let result = poll_fn(|cx| read(cx, &mut buf)).await;
        if !account.goes_on(result.map(|count| &buf[..count])) {
            break;
        }
    }
    if account.cancelled {
        let again = poll_fn(|cx| read(cx, &mut buf)).await;
        assert!(again.is_err(), "a retry fails the same way");
    }
    account
}

/// The task at the writing half, likewise.
async fn writes(
    mut write: impl FnMut(&mut Context<'_>, &[u8]) -> Poll<io::Result<usize>>,
) -> Account {
    let (mut account, data) = (
        Account::default(),
        (0..LENGTH).map(byte).collect::<Vec<_>>(),
    );
    loop {
        let rest = &data[account.bytes.len()..];
        let rest = &rest[..rest.len().min(7)];
        if rest.is_empty() {
            break;
        }
        let result = poll_fn(|cx| write(cx, rest)).await;
        if !account.goes_on(result.map(|count| &rest[..count])) {
            break;
        }
    }
    if account.cancelled {
        let again = poll_fn(|cx| write(cx, &[255])).await;
        assert!(again.is_err(), "a retry fails the same way");
    }
    account
}

/// Runs both tasks by turns, each under the token of its direction, with the cancellations between.
fn run(
    connection: (&Rc<RefCell<Direction>>, &Rc<RefCell<Direction>>),
    reader: impl Future<Output = Account>,
    writer: impl Future<Output = Account>,
) -> [Account; 2] {
    let mut tasks: [Pin<&mut dyn Future<Output = Account>>; 2] = [pin!(reader), pin!(writer)];
    let mut accounts = [None, None];
    let rings = Rings::new();
    for _ in 0..1000 {
        for (at, direction) in [connection.0, connection.1].into_iter().enumerate() {
            direction.borrow().between();
            let token = direction.borrow().token.clone();
            if accounts[at].is_none() {
                let before = rings.get();
                match under(&token, &rings, |cx| tasks[at].as_mut().poll(cx)) {
                    Poll::Ready(account) => accounts[at] = Some(account),
                    Poll::Pending => assert!(rings.get() > before, "it is woken"),
                }
            }
        }
        if let [Some(_), Some(_)] = accounts {
            break;
        }
    }
    accounts.map(|account| account.expect("the task ended"))
}

/// The halves as one family makes them.
type Split = fn(Cancellable<Connection>) -> Tasks;
type Tasks = [Pin<Box<dyn Future<Output = Account>>>; 2];

const SPLITS: &[Split] = &[
    split_by_futures,
    #[cfg(feature = "tokio")]
    split_by_tokio,
];

fn split_by_futures(connection: Cancellable<Connection>) -> Tasks {
    let (mut reader, mut writer) = connection.split();
    [
        Box::pin(reads(move |cx, buf| {
            Pin::new(&mut reader).poll_read(cx, buf)
        })),
        Box::pin(writes(move |cx, buf| {
            Pin::new(&mut writer).poll_write(cx, buf)
        })),
    ]
}

#[cfg(feature = "tokio")]
fn split_by_tokio(connection: Cancellable<Connection>) -> Tasks {
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    let (mut reader, mut writer) = tokio::io::split(connection);
    [
        Box::pin(reads(move |cx, buf| {
            let mut buf = ReadBuf::new(buf);
            let polled = AsyncRead::poll_read(Pin::new(&mut reader), cx, &mut buf);
            polled.map_ok(|()| buf.filled().len())
        })),
        Box::pin(writes(move |cx, buf| {
            AsyncWrite::poll_write(Pin::new(&mut writer), cx, buf)
        })),
    ]
}

/// Holds the account of a task against the truth. A half that was cancelled at a boundary has moved what was
/// before it and, after that, nothing; the one beside it is not disturbed.
fn check(account: &Account, direction: &Direction) {
    assert_eq!(account.bytes, direction.moved);
    let truth: Vec<_> = (0..LENGTH).map(byte).collect();
    let (During(at) | Between(at)) = direction.when;
    let all = at > LENGTH || (at == LENGTH && !account.cancelled);
    assert_eq!(account.bytes, truth[..if all { LENGTH } else { at }]);
    assert_eq!(account.cancelled, direction.token.is_cancelled() && !all);
}

fn half_cancelled(split: Split, pace: [&[Option<usize>]; 2], when: [When; 2]) -> [bool; 2] {
    let directions = [0, 1].map(|at| Rc::new(RefCell::new(Direction::new(pace[at], when[at]))));
    let [inward, outward] = &directions;
    let connection = Connection {
        inward: Rc::clone(inward),
        outward: Rc::clone(outward),
    };
    let [reader, writer] = split(connection.cancellable());
    let accounts = run((inward, outward), reader, writer);
    check(&accounts[0], &inward.borrow());
    check(&accounts[1], &outward.borrow());
    accounts.map(|account| account.cancelled)
}

#[test]
fn halves_cancelled_at_every_byte_boundary_account_for_exactly_the_bytes_moved() {
    // At least one operation of a round moves something, or nobody would end.
    let steps =
        proptest::collection::vec(prop_oneof![Just(None), (1..9_usize).prop_map(Some)], 0..8);
    let pace = steps.prop_map(|mut steps| {
        steps.push(Some(2));
        steps
    });
    let during = any::<[bool; 2]>();
    let seen = Rc::new(RefCell::new([0; 2]));
    let mut runner = TestRunner::new(Config::with_cases(64));
    let result = runner.run(
        &(pace.clone(), pace, during),
        |(inward, outward, during)| {
            for split in SPLITS {
                // One more than there are bytes: that half is not cancelled at all.
                for at in 0..=LENGTH + 1 {
                    let at = [at, LENGTH + 1 - at];
                    let when = [0, 1].map(|half| match during[half] && at[half] > 0 {
                        true => During(at[half]),
                        false => Between(at[half]),
                    });
                    let cancelled = half_cancelled(*split, [&inward, &outward], when);
                    for half in [0, 1] {
                        seen.borrow_mut()[half] += usize::from(cancelled[half]);
                    }
                }
            }
            Ok(())
        },
    );
    result.unwrap();
    let seen = seen.borrow();
    assert!(seen.iter().all(|times| *times >= 64 * LENGTH), "{seen:?}");
}
