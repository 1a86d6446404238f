//! What each public type promises about threads and about being moved, as a table that is checked when
//! this file is compiled. A change here breaks programs, so it has to be made in this table first.
//! Not about what the types do.

use std::marker::{PhantomData, PhantomPinned};

/// What a wrapper is given to wrap: a type that may go to other threads but not be shared or moved.
type Inner = (PhantomPinned, PhantomData<std::cell::Cell<()>>);
/// The plainest future there is.
type Now = std::future::Ready<u8>;
/// A value that must stay on its thread.
type Stays = PhantomData<*const u8>;

/// Whether a type has a trait: an inherent constant, where it applies, hides that of a trait.
macro_rules! has {
    ($type:ty, $trait:ident) => {{
        #[allow(dead_code, reason = "unused where the type has the trait")]
        trait Otherwise {
            const HAS: bool = false;
        }
        struct Probe<T: ?Sized>(PhantomData<T>);
        impl<T: ?Sized> Otherwise for Probe<T> {}
        #[allow(dead_code, reason = "unused where the type has not the trait")]
        impl<T: ?Sized + $trait> Probe<T> {
            const HAS: bool = true;
        }
        <Probe<$type>>::HAS
    }};
}

macro_rules! table {
    ($($type:ty: $send:literal $sync:literal $unpin:literal;)+) => {
        $(const _: () = {
            assert!(has!($type, Send) == $send, concat!(stringify!($type), ": Send"));
            assert!(has!($type, Sync) == $sync, concat!(stringify!($type), ": Sync"));
            assert!(has!($type, Unpin) == $unpin, concat!(stringify!($type), ": Unpin"));
        };)+
    };
}

// Type: Send Sync Unpin
table! {
    // The probe itself, in both directions.
    u8: true true true;
    Inner: true false false;
    Stays: false false true;

    selvedge::CancelToken: true true true;
    selvedge::Cancelled: true true true;
    selvedge::Cause: true true true;
    selvedge::CauseKind: true true true;
    selvedge::Checkpoint: true true true;
    selvedge::DropGuard: true true true;
    selvedge::OnCancel: true true true;
    selvedge::TimedOut: true true true;
    selvedge::WaitCancelled: true true true;
    selvedge::AssertSelectSafe<Now>: true true true;
    selvedge::AssertSelectSafe<Inner>: true false false;
    selvedge::Select<(Now, Now)>: true true true;
    selvedge::Select<(selvedge::AssertSelectSafe<std::future::Ready<Stays>>, std::future::Ready<Stays>)>: false false true;
    selvedge::OrCancel<Now>: true true true;
    selvedge::OrCancel<Inner>: true false false;
    selvedge::Cancellable<u8>: true true true;
    selvedge::Cancellable<Inner>: true false false;
    selvedge::TryCancellable<u8>: true true true;
    selvedge::TryCancellable<Inner>: true false false;
    selvedge::CancelledOr<u8>: true true true;

    selvedge::Timeout<Now>: true true true;
    selvedge::Timeout<Inner>: true false false;
    selvedge::cancel::Shield<Now>: true true true;
    selvedge::cancel::Shield<Inner>: true false false;

    selvedge::time::Sleep: true true true;
    selvedge::time::Instant: true true true;
    selvedge::rt::Ticket: true true true;

    selvedge::Scope<'static>: true true true;
    selvedge::TryScope<'static, Stays>: true true true;
    // Body, output and errors live in the scope future: it follows them to other threads or stays.
    selvedge::Scoped<'static, Now>: true true false;
    selvedge::Scoped<'static, std::future::Ready<Stays>>: false false false;
    selvedge::TryScoped<'static, Now, u8>: true true false;
    selvedge::TryScoped<'static, Now, Stays>: false false false;
    selvedge::JoinHandle<'static, u8>: true true true;
    selvedge::JoinHandle<'static, Stays>: false false true;
    selvedge::Join<(Now, Now)>: true true false;
    selvedge::JoinAll<Now>: true true false;
    selvedge::TryJoinAll<std::future::Ready<Result<u8, u8>>>: true true false;
    selvedge::Pool: true true true;
    selvedge::PoolBuilder: true true true;
    selvedge::TaskId: true true true;
    selvedge::Refused<Now>: true true true;
    selvedge::Why: true true true;

    selvedge::ParStream<selvedge::iter::sources::FromRange<u8>>: true true true;
    selvedge::ParStream<selvedge::iter::sources::FromVec<Inner>>: true true false;
}

#[test]
fn table_is_checked_by_the_compiler() {
    // The file does not compile with a wrong row; this says so where tests are counted.
    const { assert!(has!(u8, Send) && !has!(Stays, Send)) };
}
