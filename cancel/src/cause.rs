//! Why something was cancelled: a kind, an optional text, and the place and task that asked.
//!
//! A cause is copied to every node a cancellation reaches, so it is a few words with at most one
//! counted string inside. It never holds the error of a failed sibling: that stays with its scope.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use crate::{TaskId, ambient};

/// The kind of event that cancelled something.
///
/// # Examples
/// ```
/// use selvedge_cancel::{CancelToken, CauseKind};
///
/// let token = CancelToken::new();
/// token.cancel();
/// assert_eq!(token.cause().map(|cause| cause.kind()), Some(CauseKind::Requested));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CauseKind {
    /// Somebody called `cancel`.
    Requested,
    /// A deadline or a time-out passed.
    Deadline,
    /// Another member of the scope returned an error.
    SiblingFailed,
    /// Another member of the scope panicked.
    SiblingPanicked,
    /// The body and the ordinary children of the scope have ended.
    BodyEnded,
    /// Another racer finished first.
    RaceLost,
    /// The program is shutting down.
    Shutdown,
    /// The time granted for clean-up after a cancellation is over.
    GraceExpired,
}

impl CauseKind {
    fn words(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Deadline => "deadline passed",
            Self::SiblingFailed => "a sibling failed",
            Self::SiblingPanicked => "a sibling panicked",
            Self::BodyEnded => "the body ended",
            Self::RaceLost => "another racer finished first",
            Self::Shutdown => "shutting down",
            Self::GraceExpired => "the grace period expired",
        }
    }
}

impl fmt::Display for CauseKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// Why a token is cancelled.
///
/// The first cause given to a token stays; later ones are ignored. Cloning is cheap.
///
/// # Examples
/// ```
/// use selvedge_cancel::{Cause, CauseKind};
///
/// let cause = Cause::new(CauseKind::Shutdown).with_text("SIGTERM");
/// assert_eq!(cause.kind(), CauseKind::Shutdown);
/// assert_eq!(cause.to_string(), "shutting down: SIGTERM");
/// assert_eq!(Cause::from("enough").kind(), CauseKind::Requested);
/// ```
#[derive(Clone)]
pub struct Cause {
    kind: CauseKind,
    place: Option<&'static Location<'static>>,
    task: Option<TaskId>,
    text: Option<Text>,
}

/// Literals need no count, and owned text is counted so that a million nodes share it.
#[derive(Clone)]
enum Text {
    Literal(&'static str),
    Shared(Arc<str>),
}

impl Cause {
    /// A cause of this kind, without text; the place is filled in by whoever cancels.
    #[must_use]
    pub const fn new(kind: CauseKind) -> Self {
        Self {
            kind,
            place: None,
            task: None,
            text: None,
        }
    }

    /// The same cause with this text.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(Text::Shared(text.into().into()));
        self
    }

    /// The same cause with this place in the source.
    #[must_use]
    pub const fn with_place(mut self, place: &'static Location<'static>) -> Self {
        self.place = Some(place);
        self
    }

    /// The same cause with this task as the one that cancelled, or whose failure did.
    #[must_use]
    pub const fn with_task(mut self, task: TaskId) -> Self {
        self.task = Some(task);
        self
    }

    /// What kind of event it was.
    #[must_use]
    pub const fn kind(&self) -> CauseKind {
        self.kind
    }

    /// What the canceller had to say, if anything.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.text {
            None => None,
            Some(Text::Literal(text)) => Some(text),
            Some(Text::Shared(text)) => Some(text),
        }
    }

    /// Where in the source the cancellation was asked for, if known.
    #[must_use]
    pub const fn place(&self) -> Option<&'static Location<'static>> {
        self.place
    }

    /// The task that asked for the cancellation, or whose end was the reason, if it was one.
    #[must_use]
    pub const fn task(&self) -> Option<TaskId> {
        self.task
    }

    /// Fills in the place and the running task, unless the caller gave better ones.
    pub(crate) fn asked_at(mut self, place: &'static Location<'static>) -> Self {
        self.place = self.place.or(Some(place));
        self.task = self.task.or_else(ambient::task_id);
        self
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cause")
            .field("kind", &self.kind)
            .field("text", &self.text())
            .field("place", &self.place.map(ToString::to_string))
            .field("task", &self.task)
            .finish()
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if let Some(text) = self.text() {
            write!(f, ": {text}")?;
        }
        match (self.task, self.place) {
            (None, None) => Ok(()),
            (Some(task), None) => write!(f, " (by task {task})"),
            (None, Some(place)) => write!(f, " (at {place})"),
            (Some(task), Some(place)) => write!(f, " (by task {task} at {place})"),
        }
    }
}

impl From<CauseKind> for Cause {
    fn from(kind: CauseKind) -> Self {
        Self::new(kind)
    }
}

impl From<&'static str> for Cause {
    fn from(text: &'static str) -> Self {
        Self {
            text: Some(Text::Literal(text)),
            ..Self::new(CauseKind::Requested)
        }
    }
}

impl From<String> for Cause {
    fn from(text: String) -> Self {
        Self::new(CauseKind::Requested).with_text(text)
    }
}
