//! `Cancelled` and `TimedOut` on their way through other error types, and `Instant` at the ends of
//! time. No tree: causes are made by hand.
#![cfg(not(selvedge_loom))]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use selvedge_cancel::{Cancelled, Cause, CauseKind, Instant, TimedOut};

#[derive(Debug)]
enum AppError {
    Io(io::Error),
    Other,
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("application error")
    }
}

impl Error for AppError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Other => None,
        }
    }
}

fn cancelled() -> Cancelled {
    Cancelled::new("reason")
}

fn found<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a str> {
    Cancelled::find_in(error)?.cause().text()
}

#[test]
fn cancelled_is_found_in_itself_io_errors_enums_boxes_and_arcs() {
    let wrapped = || io::Error::from(cancelled());
    let boxed: Box<dyn Error + Send + Sync> = Box::new(AppError::Io(wrapped()));
    assert_eq!(found(&cancelled()), Some("reason"));
    assert_eq!(found(&wrapped()), Some("reason"));
    assert_eq!(found(&io::Error::other(wrapped())), Some("reason"));
    assert_eq!(found(&AppError::Io(wrapped())), Some("reason"));
    assert_eq!(found(boxed.as_ref()), Some("reason"));
    assert_eq!(found(&io::Error::other(boxed)), Some("reason"));
    assert_eq!(found(&Box::new(cancelled())), Some("reason"));
    assert_eq!(found(&Arc::new(wrapped())), Some("reason"));
}

#[test]
fn cancelled_is_not_found_in_errors_without_one() {
    assert!(found(&AppError::Other).is_none());
    assert!(found(&io::Error::other(cancelled().to_string())).is_none());
    assert!(found(&io::Error::from(io::ErrorKind::NotFound)).is_none());
    assert!(found(&io::Error::from(TimedOut::new())).is_none());
}

#[test]
fn io_errors_have_kinds_that_nobody_retries() {
    assert_eq!(io::Error::from(cancelled()).kind(), io::ErrorKind::Other);
    assert_eq!(
        io::Error::from(TimedOut::new()).kind(),
        io::ErrorKind::TimedOut
    );
}

#[test]
fn messages_say_who_and_why() {
    let cause = Cause::new(CauseKind::RaceLost).with_text(String::from("mirror 2"));
    assert_eq!(
        Cancelled::new(cause).to_string(),
        "cancelled: another racer finished first: mirror 2"
    );
    let place = std::panic::Location::caller();
    let cause = Cause::from(CauseKind::Deadline).with_place(place);
    assert!(cause.to_string().contains(file!()));
    assert!(TimedOut::new().to_string().contains(file!()));
}

#[test]
fn far_instants_saturate_and_keep_their_order() {
    let now = Instant::now();
    let far = now + Duration::MAX;
    assert!(far > now + Duration::from_secs(1 << 40));
    assert_eq!(far + Duration::MAX, far);
    assert!(far - now >= Duration::from_secs(1 << 40));
    assert_eq!(now - far, Duration::ZERO);
    let past = now - Duration::MAX;
    assert!(past < now);
    assert_eq!(past - Duration::from_secs(1), past);
    let mut moving = now;
    moving += Duration::from_secs(2);
    moving -= Duration::from_secs(1);
    assert_eq!(moving - now, Duration::from_secs(1));
    assert_eq!(Instant::from_std(now.into_std()), now);
}
