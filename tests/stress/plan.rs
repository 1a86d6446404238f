//! A tree of scopes, batches and pipelines as data: what the seed decides, and what a fault prints. Not how it is
//! made (`make`) or run (`ops`, `scopes`, `groups`).

use crate::values::Nasty;

/// Everything that a seed decides.
#[derive(Debug)]
#[allow(dead_code, reason = "the seed is there to be printed")]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) runner: Runner,
    pub(crate) lending: Mode,
    /// The pool of the seed stands on a rayon pool whose handles are counted.
    pub(crate) rayon: bool,
    pub(crate) root: ScopePlan,
    /// How many members there are.
    pub(crate) members: usize,
}

/// Who polls the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runner {
    BlockOn,
    Virtual,
    Futures,
    Smol,
    SmolTask,
    TokioCurrent,
    TokioMulti,
    TokioMultiTask,
    ByHand,
    /// `block_on`, with a thread beside it that has a handle to the root scope.
    Threads,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Never,
    Adaptive,
    Forced,
}

#[derive(Debug)]
pub(crate) struct ScopePlan {
    pub(crate) kind: Kind,
    pub(crate) knobs: Knobs,
    pub(crate) fate: Fate,
    /// Spawned by the closure of the body, before the first poll.
    pub(crate) early: Vec<Spawn>,
    pub(crate) body: TaskPlan,
    /// Some child ends only when it is cancelled, so the body cancels the scope last of all.
    pub(crate) endless: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Try,
    TryAll,
}

#[derive(Debug, Default)]
pub(crate) struct Knobs {
    pub(crate) inline: bool,
    /// An index into the pools of 0, 1, 2 and 4 threads; 4 is the seed's own.
    pub(crate) pool: Option<u8>,
    pub(crate) name: bool,
    pub(crate) grace: Option<u32>,
    pub(crate) timeout: Option<u32>,
    pub(crate) deadline: Option<u32>,
    pub(crate) stop_within: Option<u32>,
    pub(crate) token: bool,
}

/// What becomes of a scope, counted in polls that left it pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Run,
    Drop(u32),
    Forget(u32),
}

#[derive(Debug)]
pub(crate) struct TaskPlan {
    /// Numbered through the tree; a member waits only for members with a larger number.
    pub(crate) id: u32,
    pub(crate) ops: Vec<Op>,
    pub(crate) end: End,
    /// Whether a cancelled operation ends it, or it goes on.
    pub(crate) heeds: bool,
    /// Waits for its cancellation after its operations.
    pub(crate) endless: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Value,
    /// In a scope whose members may fail; `nasty`: the error panics when dropped.
    Error {
        nasty: bool,
    },
    Panic {
        nasty: bool,
    },
}

#[derive(Debug)]
pub(crate) struct Spawn {
    pub(crate) how: How,
    pub(crate) size: Size,
    pub(crate) then: Then,
    pub(crate) name: bool,
    pub(crate) task: TaskPlan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Spawn,
    With,
    Function,
    Try,
    SelectSafe,
}

/// Layouts of a future and its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// Nothing but the state of the interpreter.
    Common,
    /// A zero-sized future and output, which does nothing.
    Nothing,
    /// A zero-sized output.
    ZeroOutput,
    Byte,
    Line,
    Page,
    /// The output panics when it is dropped.
    Explosive,
}

/// What is done with a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Join,
    Drop,
    Forget,
    /// Left where any member of the scope finds it.
    Share,
    /// Until the end of the member that spawned.
    Keep,
    CancelJoin,
    CancelDrop,
    CancelWait(Nasty),
    CancelWaitGivenUp(u8, Nasty),
    JoinGivenUp(u8, Nasty),
}

#[derive(Debug)]
pub(crate) enum Op {
    Yield(u32),
    Checkpoint(u32),
    Busy(u32),
    Sleep(u32, Option<Nasty>),
    TokioSleep(u32),
    /// A wait that another thread ends, this many microseconds later.
    Late(u32, Option<Nasty>),
    /// Leaves clones of its waker in the bag.
    Keep(u8),
    /// Uses wakers of the bag, here or by another thread.
    Stir {
        agent: bool,
        times: u8,
    },
    Spawn(Box<Spawn>),
    /// Many children that do next to nothing.
    Burst(u32, Size),
    Shared(Then),
    Scope(Box<Nested>),
    Batch(Box<BatchPlan>),
    Pipe(Box<PipePlan>),
    Ask(Request),
    /// Looks at everything there is to look at.
    Look,
    /// Held until the member ends.
    Guard(Guarding),
    Within(Limit, Vec<Op>),
    Select(u32),
    Panic {
        nasty: bool,
    },
    Remote(Box<Remote>),
}

/// What the thread beside the root scope does with its handle.
#[derive(Debug)]
pub(crate) enum Remote {
    Spawn(Spawn),
    Cancel,
    Stop,
    Deadline(u32),
    Look,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Cancel,
    Stop,
    Abort,
    DeadlinePast,
    DeadlineIn(u32),
    NoDeadline,
    /// The token that the scope was given by its builder.
    CancelFollowed,
    /// Another thread cancels the scope by its token.
    CancelLate(u32),
    OnCancel {
        keep: bool,
        panics: bool,
    },
    /// A tree of tokens below the current one.
    Tokens,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guarding {
    Looks,
    Spawns,
    Cancels,
    Wakes,
    Panics,
    Burns(u32),
    RunsAScope,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Timeout(u32),
    Shield(u32),
    Unbounded,
    OrCancel,
    /// Dropped after so many pending polls.
    GivenUp(u32),
}

#[derive(Debug)]
pub(crate) struct Nested {
    pub(crate) scope: ScopePlan,
    pub(crate) inside: Inside,
    /// Whether a panic of the nested scope goes on in the member.
    pub(crate) raises: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inside {
    Await,
    BlockOn,
    SmolBlockOn,
}

#[derive(Debug)]
pub(crate) struct BatchPlan {
    pub(crate) form: Form,
    pub(crate) inline: bool,
    pub(crate) pool: Option<u8>,
    pub(crate) fate: Fate,
    pub(crate) members: Vec<TaskPlan>,
    pub(crate) raises: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Join,
    JoinAll,
    TryJoin,
    TryJoinAll,
}

#[derive(Debug)]
pub(crate) struct PipePlan {
    pub(crate) source: Source,
    pub(crate) items: u32,
    pub(crate) concurrency: Option<u32>,
    pub(crate) batch: Option<u32>,
    pub(crate) unordered: bool,
    pub(crate) pool: Option<u8>,
    pub(crate) sink: Sink,
    /// A synchronous stage: busy for so long, and panics at this item.
    pub(crate) busy: u32,
    pub(crate) panics_at: Option<u32>,
    /// What asynchronous items do, by turns. None: no asynchronous stage.
    pub(crate) stages: Vec<TaskPlan>,
    pub(crate) fate: Fate,
    pub(crate) raises: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Range,
    Slice,
    Vector,
    Iterator,
    /// Is pending before every third item.
    Stream,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    Collect,
    Count,
    Reduce,
    Fold,
    TryForEach,
    TryCollect,
}
